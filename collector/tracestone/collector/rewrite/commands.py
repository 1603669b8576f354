"""`tracestone reprice` and `renormalise`: ask for a rewrite, and wait for it or do it.

A Tracestone that runs on the data folder does the work, for only one process can have the embedded ClickHouse open; it
is asked through Postgres. Where none runs on this folder, the command does the work itself.
"""

import asyncio
import sys

import click

from tracestone.collector import allinone, command_stores
from tracestone.collector.rewrite.kinds import KINDS, parameters
from tracestone.collector.rewrite.runner import Runner
from tracestone.schema import clock
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.errors import NotFound, Rejected
from tracestone.schema.migrate import migrate
from tracestone.schema.pricing import Pricing
from tracestone.schema.settings import Settings
from tracestone.schema.stores.experiments import ExperimentStore
from tracestone.schema.stores.prices import PriceStore
from tracestone.schema.stores.rewrites import Rewrite, RewriteStore

_LOOK_SECONDS = 0.5
_TELL_SECONDS = 5.0


async def rewrite(
    settings: Settings,
    kind: str,
    experiment: str,
    since: str | None,
    until: str | None,
    model: str = "",
    *,
    detach: bool,
) -> None:
    """Asks for one and tells how far it is. Raises Invalid, NotFound, Rejected when it failed."""
    if command_stores.in_use(settings):
        async with command_stores.postgres(settings) as pool:
            asked = await _ask(settings, pool, kind, experiment, since, until, model)
            await _told(RewriteStore(pool), asked, detach=detach)
        return
    async with allinone.stores(settings) as (pool, columnar):
        await migrate(pool, columnar, settings.mapping_dir)
        asked = await _ask(settings, pool, kind, experiment, since, until, model)
        runner = Runner(pool, columnar, KINDS)
        await runner.start()
        try:
            await _told(RewriteStore(pool), asked, detach=False)
        finally:
            await runner.stop()


async def cancel(settings: Settings, kind: str) -> None:
    """Ends the one that is at work. Raises NotFound."""
    async with command_stores.postgres(settings) as pool:
        store = RewriteStore(pool)
        asked = await store.unfinished([kind])
        if asked is None:
            raise NotFound(f"No {kind} is at work.")
        await store.cancel(asked.rewrite_id)
    click.echo(f"{kind} {asked.rewrite_id} is cancelled.")


def progress(rewrite: Rewrite) -> str:
    """How far it is, as one line."""
    if rewrite.state == "waiting":
        return f"{rewrite.kind} {rewrite.rewrite_id}: waiting"
    share = rewrite.spans_done / rewrite.spans_total if rewrite.spans_total else 1.0
    text = f"{rewrite.kind} {rewrite.rewrite_id}: {rewrite.spans_done:,} of {rewrite.spans_total:,} spans ({share:.0%})"
    if rewrite.seconds and rewrite.spans_done:
        rate = rewrite.spans_done / rewrite.seconds
        left = max(rewrite.spans_total - rewrite.spans_done, 0) / rate
        text += f", {rate:,.0f}/s, {left:,.0f} s left"
    return f"{text}; {rewrite.spans_changed:,} changed"


async def _ask(
    settings: Settings, pool: Pool, kind: str, experiment: str, since: str | None, until: str | None, model: str
) -> Rewrite:
    pricing = Pricing(PriceStore(pool), ExperimentStore(pool, settings.max_experiments))
    scope, experiment_id = await pricing.scope(experiment)
    chosen = experiment_id if scope == "experiment" else None
    return await RewriteStore(pool).add(kind, parameters(experiment=chosen, since=since, until=until, model=model))


async def _told(store: RewriteStore, asked: Rewrite, *, detach: bool) -> None:
    """Tells how far it is until it is done, in one line that changes on a terminal, else from time to time."""
    if detach:
        click.echo(progress(asked))
        return
    terminal, told = sys.stderr.isatty(), clock.monotonic()
    while not (now := await store.get(asked.rewrite_id)).finished:
        if terminal:
            click.echo(f"\r{progress(now)}\x1b[K", nl=False, err=True)
        elif clock.monotonic() - told >= _TELL_SECONDS:
            click.echo(progress(now), err=True)
            told = clock.monotonic()
        await asyncio.sleep(_LOOK_SECONDS)
    if terminal:
        click.echo("\r\x1b[K", nl=False, err=True)
    click.echo(f"{progress(now)}; {now.state}")
    if now.state != "done":
        raise Rejected(f"{now.kind} {now.rewrite_id} has {now.state}{': ' if now.error else ''}{now.error}.")
