"""The commands `tracestone score`: their arguments."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from tracestone.collector import score_cli
from tracestone.collector.command_line import reported, settings_from, settings_options

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = ("since", "until", "version", "experiment", "target", "filter", "rate", "salt", "per_minute")
_MOMENT = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"])


@click.group()
def score() -> None:
    """Apply scorers to what is stored already. See docs/scoring.md."""


def _which(command: Command) -> Command:
    """The argument and options that say which targets."""
    for add in (
        click.option("--per-minute", type=click.IntRange(1), help="Take up at most about so many targets a minute."),
        click.option("--salt", default="", help="Of the sampling, as in an online configuration."),
        click.option("--rate", type=click.FloatRange(0, 1, min_open=True), default=1.0, help="Share that is chosen."),
        click.option("--filter", default="", help="SQL condition over the table of the target."),
        click.option("--target", type=click.Choice(["span", "trace", "session"]), help="What is scored."),
        click.option("--experiment", help="Only this experiment, by id or name."),
        click.option("--version", type=click.IntRange(1), help="Of the scorer; the newest if left out."),
        click.option("--until", type=_MOMENT, help="Targets that began before, in UTC; now if left out."),
        click.option("--since", type=_MOMENT, required=True, help="Targets that began from then on, in UTC."),
        click.argument("scorer"),
    ):
        command = add(command)
    return command


@score.command()
@settings_options
@_which
def estimate(config_file: Path | None, scorer: str, **flags: Any) -> None:
    """Say how many targets SCORER would be applied to, and what that would cost."""
    document = _document(scorer, flags)
    with reported():
        score_cli.estimate(settings_from(flags, config_file), document)


@score.command()
@settings_options
@click.option("--yes", is_flag=True, help="Do not ask before it begins.")
@click.option("--no-wait", is_flag=True, help="Do not show its progress; it goes on by itself.")
@_which
def backfill(config_file: Path | None, scorer: str, yes: bool, no_wait: bool, **flags: Any) -> None:
    """Apply SCORER to stored targets; those it has judged already are skipped. Ctrl-C leaves it running."""
    document = _document(scorer, flags)
    with reported():
        score_cli.backfill(settings_from(flags, config_file), document, wait=not no_wait, sure=yes)


@score.command("list")
@settings_options
def list_backfills(config_file: Path | None, **flags: Any) -> None:
    """List the newest backfills, a JSON object a line."""
    with reported():
        score_cli.show(settings_from(flags, config_file))


@score.command()
@settings_options
@click.argument("verb", type=click.Choice(["pause", "resume", "cancel"]))
@click.argument("number", type=int)
def change(config_file: Path | None, verb: str, number: int, **flags: Any) -> None:
    """Pause, resume or cancel the backfill with this NUMBER."""
    with reported():
        score_cli.change(settings_from(flags, config_file), number, verb)


def _document(scorer: str, flags: dict[str, Any]) -> dict[str, Any]:
    """The request, taken out of the flags, of which settings are left."""
    given = {name: flags.pop(name) for name in _OPTIONS}
    for name in ("since", "until"):
        moment: datetime | None = given[name]
        given[name] = None if moment is None else f"{moment.isoformat()}Z"
    experiment = given["experiment"]
    if experiment is not None and experiment.isascii() and experiment.isdigit() and len(experiment) <= 9:
        given["experiment"] = int(experiment)
    given["sample_rate"] = given.pop("rate")
    return {"scorer": scorer, **{name: value for name, value in given.items() if value is not None}}
