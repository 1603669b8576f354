"""`tracestone webhooks`: what the commands do. Webhooks are in Postgres; a running Tracestone delivers."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import click

from tracestone.collector.command_stores import postgres
from tracestone.collector.webhooks_api import shown
from tracestone.schema.settings import Settings
from tracestone.schema.stores.experiments import ExperimentStore
from tracestone.schema.stores.webhooks import WebhookStore
from tracestone.schema.webhook_setup import WebhookSetup

_COLUMNS = "{:20}  {:>7}  {:>6}  {:40}  {}"
_TEST_SECONDS = 20.0


async def show(settings: Settings, *, as_json: bool) -> None:
    """Prints all webhooks as a table, or as JSON lines."""
    async with _setup(settings) as setup:
        states = await setup.store.states()
    if as_json:
        for state in states:
            click.echo(json.dumps(shown(state)))
        return
    click.echo(_COLUMNS.format("NAME", "WAITING", "DEAD", "EVENTS", "URL").rstrip())
    for state in states:
        click.echo(_COLUMNS.format(state.name, state.waiting, state.dead, ",".join(state.events), state.url))
        if state.error:
            click.echo(f"  last error: {state.error}")


async def set_webhook(settings: Settings, document: Mapping[str, Any]) -> None:
    """Sets one webhook and prints it; the secret of a new one too. Raises Invalid."""
    experiment = document.get("experiment")
    if isinstance(experiment, str) and experiment.isascii() and experiment.isdigit() and len(experiment) <= 9:
        document = {**document, "experiment": int(experiment)}
    async with _setup(settings) as setup:
        state, secret = await setup.set({name: value for name, value in document.items() if value is not None})
    click.echo(json.dumps(shown(state) | ({"secret": secret} if secret else {})))


async def remove(settings: Settings, name: str) -> None:
    """Removes one webhook. Raises NotFound."""
    async with _setup(settings) as setup:
        await setup.store.remove(name)
    click.echo("Removed.")


async def test(settings: Settings, name: str) -> None:
    """Sends one webhook something and tells what became of it; exit code 1 when it was not taken. Raises NotFound."""
    async with _setup(settings) as setup:
        delivery = await setup.test(name)
        became = await setup.store.became(delivery)
        try:
            async with asyncio.timeout(_TEST_SECONDS):
                while became is not None and not became[1]:
                    await asyncio.sleep(0.1)
                    became = await setup.store.became(delivery)
        except TimeoutError:
            click.echo("Queued; no running Tracestone has tried it yet.", err=True)
            sys.exit(1)
    if became is not None:
        click.echo(f"Not taken: {became[1]}. It is tried again.", err=True)
        sys.exit(1)
    click.echo("Delivered.")


async def replay(settings: Settings, name: str) -> None:
    """Begins the dead deliveries of a webhook anew. Raises NotFound."""
    async with _setup(settings) as setup:
        count = await setup.store.replay(name)
    click.echo(f"{count} to be delivered again.")


async def renew(settings: Settings, name: str) -> None:
    """Gives a webhook another secret and prints it. Raises NotFound."""
    async with _setup(settings) as setup:
        click.echo(await setup.store.renew(name))


@asynccontextmanager
async def _setup(settings: Settings) -> AsyncIterator[WebhookSetup]:
    async with postgres(settings) as pool:
        experiments = ExperimentStore(pool, settings.max_experiments)
        yield WebhookSetup(WebhookStore(pool), experiments, private=settings.webhooks_private)
