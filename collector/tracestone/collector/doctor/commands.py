"""`tracestone doctor`: asks every check, and prints what they found."""

import json
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict

import click

from tracestone.collector.command_stores import in_use
from tracestone.collector.doctor import machine, providers, running, stores
from tracestone.collector.doctor.finding import Finding, ok
from tracestone.schema.settings import Settings

_MARKS = {"ok": "ok", "warning": "warning", "problem": "PROBLEM"}


async def findings(settings: Settings) -> AsyncIterator[Finding]:
    """What every check found, in the order in which things would fail. Raises StorageDown."""
    runs = in_use(settings)
    for each in machine.folder(settings):
        yield each
    yield machine.open_files(settings)
    for each in machine.ports(settings, running=runs):
        yield each
    async for each in stores.servers(settings):
        yield each
    for each in running.tracestone(settings) if runs else [ok("tracestone", "None runs on this data folder.")]:
        yield each
    for each in providers.keys(settings):
        yield each


async def show(settings: Settings, *, as_json: bool) -> None:
    """Prints them as they are found; ends the process with 1 when there is a problem."""
    wrong = False
    async for each in findings(settings):
        wrong |= each.state == "problem"
        if as_json:
            click.echo(json.dumps(asdict(each)))
        else:
            click.echo(f"{_MARKS[each.state]:8} {each.subject:12} {each.says}")
            if each.advice:
                click.echo(f"{'':21} -> {each.advice}")
    if wrong:
        sys.exit(1)
