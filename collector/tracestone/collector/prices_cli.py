"""`tracestone prices`: what the commands do. Prices that people set are in Postgres; a running Tracestone follows."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import click

from tracestone.collector.command_stores import postgres
from tracestone.collector.sql_cli import run_sql
from tracestone.schema import clock, pricing, sqlfiles
from tracestone.schema.errors import Invalid, NotFound
from tracestone.schema.prices import given, table_file
from tracestone.schema.prices.price import BUCKETS, Price, read_day
from tracestone.schema.prices.providers import provider_of
from tracestone.schema.prices.rows import day_text
from tracestone.schema.pricing import Pricing
from tracestone.schema.settings import Settings
from tracestone.schema.stores.experiments import ExperimentStore
from tracestone.schema.stores.prices import PriceStore

_SHOWN = ("input", "output", "cache_read", "cache_write", "reasoning")
_COLUMNS = "{:22}  {:44}  {:10}  {:>9}  {:>9}  {:>10}  {:>11}  {:>9}  {:24}  {}"
_AGAIN = "What is stored keeps its costs until `tracestone reprice`."


async def show(settings: Settings, model: str, provider: str, *, own: bool, all_dates: bool) -> None:
    """Prints prices as a table."""
    async with _pricing(settings) as prices:
        known = await prices.known()
    chosen = known if all_dates else pricing.in_force(known, clock.today())
    found = [
        price
        for price in pricing.matching(chosen, model, provider_of(provider) if provider else "")
        if price.source or not own
    ]
    click.echo(_COLUMNS.format("PROVIDER", "MODEL", "FROM", *(name.upper() for name in _SHOWN), "OTHER", "FOR"))
    for price in found:
        click.echo(_line(price).rstrip())


async def show_model(settings: Settings, model: str) -> None:
    """Prints every price of one model as JSON lines. Raises NotFound."""
    async with _pricing(settings) as prices:
        known = await prices.known()
    found = [price for price in pricing.matching(known, model) if price.model.lower() == model.lower()]
    if not found:
        raise NotFound(
            f"No price of {model[:200]} is known; `tracestone prices list --model` looks for parts of names."
        )
    for price in found:
        click.echo(json.dumps(given.shown(price)))


async def set_price(settings: Settings, entry: Mapping[str, Any], tiers: Sequence[str]) -> None:
    """Sets one price. Raises Invalid."""
    read = [table_file.read_tier(text) for text in tiers]
    async with _pricing(settings) as prices:
        (price,) = await prices.set([{**entry, "tiers": read}], "set")
    click.echo(f"{json.dumps(given.shown(price))}\n{_AGAIN}")


async def remove(settings: Settings, entry: Mapping[str, Any], *, imported: bool) -> None:
    """Takes one price back. Raises NotFound, Invalid."""
    async with _pricing(settings) as prices:
        await prices.remove(entry, "shipped" if imported else None)
    click.echo(f"Removed. {_AGAIN}")


async def import_file(
    settings: Settings, file: Path, since: str | None, experiment: str, *, deployment: bool, fix: bool
) -> None:
    """Imports a file. Raises Invalid."""
    day = clock.today() if since is None else read_day(since, "--from")
    try:
        text = await asyncio.to_thread(file.read_text, encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid("FILE", f"{file} cannot be read: {error}") from None
    async with _pricing(settings) as prices:
        scope, experiment_id = await prices.scope(experiment)
        if not experiment and not deployment:
            scope = "shipped"
        changed = await prices.import_file(
            text, f"import {file.name}", day=day, scope=scope, experiment_id=experiment_id, fix=fix
        )
    click.echo(f"{len(changed)} prices are new or changed. {_AGAIN}")


def unknown(settings: Settings, fmt: str) -> int:
    """Prints the models without a price; the exit code of `tracestone sql`."""
    return run_sql(sqlfiles.queries("clickhouse", "prices")["unknown_models"], settings, fmt)


@asynccontextmanager
async def _pricing(settings: Settings) -> AsyncIterator[Pricing]:
    async with postgres(settings) as pool:
        yield Pricing(PriceStore(pool), ExperimentStore(pool, settings.max_experiments))


def _line(price: Price) -> str:
    numbers = [_number(price.prices.get(bucket)) for bucket in _SHOWN]
    other = [
        f"{bucket}={price.prices[bucket]:g}" for bucket in BUCKETS if bucket in price.prices and bucket not in _SHOWN
    ]
    other += [f">{tier.above_tokens}" for tier in price.tiers]
    whose = f"experiment {price.experiment_id}" if price.scope == "experiment" else price.scope
    source = f"{whose} ({price.source})" if price.source else whose
    provider, day = price.provider or "(any)", day_text(price.effective_from)
    return _COLUMNS.format(provider, price.model, day, *numbers, " ".join(other), source)


def _number(price: float | None) -> str:
    return "" if price is None else f"{price:g}"
