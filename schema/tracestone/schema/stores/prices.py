"""Prices of models: what people set or imported in Postgres, all of them in ClickHouse, which prices spans by them."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Any

from tracestone.schema import sqlfiles
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool, storage_errors
from tracestone.schema.errors import NotFound
from tracestone.schema.prices import providers, shipped
from tracestone.schema.prices.price import Price, Scope
from tracestone.schema.prices.rows import clickhouse_row, postgres_row, price_of, price_of_columns

_MOST_UNKNOWN = 1000
# Seconds and bytes: the view goes through all spans.
_LIMITS = {"max_execution_time": 20, "max_memory_usage": 1024**3}
_SQL = sqlfiles.queries("clickhouse", "prices")


class PriceStore:
    """What people set or imported. ClickHouse learns of it through the outbox."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sql = sqlfiles.queries("postgres", "prices")

    async def set(self, prices: Sequence[Price]) -> int:
        """Adds prices, or replaces those of the same key; returns how many that changed. Raises StorageDown."""
        with storage_errors():
            return len(await self._pool.fetch(self._sql["set"], [postgres_row(price) for price in prices]))

    async def replace(self, source: str, prices: Sequence[Price]) -> int:
        """Makes these all the prices that came from a source; returns how many that changed. Raises StorageDown."""
        rows = [postgres_row(price) for price in prices]
        with storage_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                gone = await connection.fetch(self._sql["remove_others"], source, rows)
                return len(gone) + len(await connection.fetch(self._sql["set"], rows))

    async def remove(self, scope: Scope, experiment_id: int, provider: str, model: str, effective_from: date) -> None:
        """Takes a price back. Raises NotFound, StorageDown."""
        with storage_errors():
            row = await self._pool.fetchrow(self._sql["remove"], scope, experiment_id, provider, model, effective_from)
        if row is None:
            raise NotFound(f"There is no such price of {model[:200]} that somebody set or imported.")

    async def all(self) -> list[Price]:
        """Every price that was set or imported. Raises StorageDown."""
        with storage_errors():
            rows = await self._pool.fetch(self._sql["all"])
        return [price_of(dict(row)) for row in rows]

    async def all_and_changes(self) -> tuple[list[Price], int]:
        """The same, with the number of the state of budgets at that moment (`budget_changes`). Raises StorageDown."""
        with storage_errors():
            rows = await self._pool.fetch(self._sql["all_and_changes"])
        (changes,) = {row["changes"] for row in rows}
        return [price_of(dict(row)) for row in rows if row["model"] is not None], int(changes)


@dataclass(frozen=True)
class UnknownModel:
    """A model that spans of an experiment used and no price is known for; `model` is "" when they did not tell it."""

    experiment_id: int
    provider: str
    model: str
    spans: int
    input_tokens: int
    output_tokens: int
    first_seen_ns: int
    last_seen_ns: int


class PriceTable:
    """All prices in ClickHouse, and the dictionaries by which it prices spans."""

    def __init__(self, columnar: Columnar) -> None:
        self._columnar = columnar

    async def load_shipped(self) -> bool:
        """Loads the prices of this package unless they are the last that were loaded; returns whether it did.

        Safe to repeat, and to break off: what tells that they are loaded is written last.
        """
        source = {"source": shipped.version()}
        (row,) = await self._columnar.query(_SQL["loaded"], source)
        if row["loaded"]:
            return False
        prices, names = _shipped_payloads()
        await self._columnar.insert_bytes("model_price_rows", prices, "JSONEachRow", {})
        await self._columnar.command(_SQL["gone"], source)
        await self._columnar.insert_bytes("price_providers", names, "JSONEachRow", {})
        await self.reload()
        return True

    async def unknown_models(self, experiments: Collection[int] | None = None) -> list[UnknownModel]:
        """Models without a price, those that count most first; None is all experiments. At most 1000.

        Raises StorageDown.
        """
        asked = {"every": experiments is None, "experiments": sorted(experiments or ()), "limit": _MOST_UNKNOWN}
        rows = await self._columnar.query(_SQL["unknown_models_of"], asked, _LIMITS)
        return [UnknownModel(**row) for row in rows]

    async def own(self, experiments: Collection[int] | None = None) -> list[Price]:
        """What people set or imported, as ClickHouse knows it; of an experiment only if it is among these.

        Raises StorageDown.
        """
        rows = await self._columnar.query(_SQL["own"], None, _LIMITS)
        return [
            price
            for price in map(price_of_columns, rows)
            if price.scope != "experiment" or experiments is None or price.experiment_id in experiments
        ]

    async def reload(self) -> None:
        """Prices what is inserted from now on by the rows as they are now.

        A dictionary that nobody has used yet is read when somebody does. What names prices comes after what holds them.
        """
        used = {row["name"] for row in await self._columnar.query(_SQL["used_dictionaries"])}
        for dictionary in ("price_tiers", "price_dates", "price_names"):
            if dictionary in used:
                await self._columnar.command(_SQL["reload"], {"dictionary": dictionary})


@cache
def _shipped_payloads() -> tuple[bytes, bytes]:
    source = {"source": shipped.version()}
    prices = [{**clickhouse_row(price, own=False), **source} for price in shipped.prices()]
    names = [{**vars(each), **source} for each in providers.aliases()]
    return _lines(prices), _lines(names)


def _lines(rows: Sequence[dict[str, Any]]) -> bytes:
    return "\n".join(map(json.dumps, rows)).encode()
