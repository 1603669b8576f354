"""Databases of one's own on the engines of this test process.

Migrating takes longer than most tests. Postgres is migrated once for a server and copied; a migrated ClickHouse
database is emptied after its use and given to the next one, unless its tables are no longer what they were.
"""

import itertools
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg

from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool, open_pool
from tracestone.schema.migrate import migrate, migrate_postgres
from tracestone.schema.stores.prices import PriceTable

_TEMPLATE = "migrated"
_HISTORY = "schema_migrations"
# What is there from the start stays there: the prices of the package, and which map its views follow.
_KEPT = (_HISTORY, "model_price_rows", "price_providers", "attribute_maps")
_OWN_PRICES = "model_price_rows WHERE own"
_TABLES = (
    "SELECT name, toString(uuid) AS uuid, if(engine LIKE '%MergeTree', create_table_query, '') AS made,"
    " engine LIKE '%MergeTree' AS filled FROM system.tables WHERE database = currentDatabase() ORDER BY name"
)

Stores = tuple[Pool, Columnar]
_Rows = list[dict[str, Any]]
_numbers = itertools.count(1)


@dataclass(frozen=True)
class _Schema:
    """The tables of a migrated ClickHouse database and its history of migrations, to be compared."""

    tables: _Rows
    history: _Rows

    def filled(self) -> list[str]:
        """The tables that a test fills."""
        return [table["name"] for table in self.tables if table["filled"] and table["name"] not in _KEPT]


# Migrated databases of each chDB, by its URL, which wait for their next use, with what they were when they were made.
_used: dict[str, list[tuple[str, _Schema]]] = {}


async def prepare_postgres(server: str) -> None:
    """Makes the migrated database that others are copies of, and lets the server not wait for the disk.

    Nobody pulls the plug on the tests' own server, and it has a hundred databases to make.
    """
    admin = await asyncpg.connect(server)
    try:
        await admin.execute("ALTER SYSTEM SET fsync = off")
        await admin.execute("ALTER SYSTEM SET full_page_writes = off")
        await admin.execute("SELECT pg_reload_conf()")
        await admin.execute(f'CREATE DATABASE "{_TEMPLATE}"')
        pool = await open_pool(_database(server, _TEMPLATE))
        await migrate_postgres(pool)
        await pool.close()
    finally:
        await admin.close()


@asynccontextmanager
async def fresh_postgres(server: str, *, migrated: bool = True) -> AsyncIterator[str]:
    """The URL of a Postgres database of one's own; dropped at the end."""
    name = _name()
    admin = await asyncpg.connect(server)
    try:
        await admin.execute(f'CREATE DATABASE "{name}"' + (f' TEMPLATE "{_TEMPLATE}"' if migrated else ""))
        try:
            yield _database(server, name)
        finally:
            await admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    finally:
        await admin.close()


@asynccontextmanager
async def fresh_columnar(server: str, chdb_url: str) -> AsyncIterator[Columnar]:
    """A migrated ClickHouse database of one's own, without rows."""
    used = _used.setdefault(chdb_url, [])
    columnar, schema = await _emptied(chdb_url, used) or await _made(server, chdb_url)
    try:
        yield columnar
    finally:
        await columnar.close()
        used.append((columnar.database, schema))


@asynccontextmanager
async def bare_columnar(chdb_url: str) -> AsyncIterator[Columnar]:
    """A ClickHouse database without tables; dropped at the end."""
    columnar = Columnar(chdb_url, database=_name())
    await columnar.open()
    try:
        yield columnar
    finally:
        await _drop(columnar)


@asynccontextmanager
async def fresh_stores(server: str, chdb_url: str) -> AsyncIterator[Stores]:
    """Both stores, empty and migrated."""
    async with fresh_postgres(server) as url, fresh_columnar(server, chdb_url) as columnar:
        pool = await open_pool(url)
        try:
            yield pool, columnar
        finally:
            await pool.close()


async def _made(server: str, chdb_url: str) -> tuple[Columnar, _Schema]:
    columnar = Columnar(chdb_url, database=_name())
    await columnar.open()
    async with fresh_postgres(server) as url:
        pool = await open_pool(url)
        await migrate(pool, columnar)
        await pool.close()
    return columnar, await schema_of(columnar)


async def schema_of(columnar: Columnar) -> _Schema:
    """What must be the same for a database to be used again."""
    return _Schema(await columnar.query(_TABLES), await columnar.query(f"SELECT * FROM {_HISTORY} ORDER BY ALL"))


async def _emptied(chdb_url: str, used: list[tuple[str, _Schema]]) -> tuple[Columnar, _Schema] | None:
    """A used database without its rows; those whose schema was changed are dropped."""
    while used:
        name, schema = used.pop()
        columnar = Columnar(chdb_url, database=name)
        await columnar.open()
        if await schema_of(columnar) == schema:
            for name in schema.filled():
                await columnar.command(f"TRUNCATE TABLE `{name}` SYNC")
            if (await columnar.query(f"SELECT count() AS n FROM {_OWN_PRICES}"))[0]["n"]:
                await columnar.command(f"DELETE FROM {_OWN_PRICES}")
                await PriceTable(columnar).reload()
            return columnar, schema
        await _drop(columnar)
    return None


async def _drop(columnar: Columnar) -> None:
    await columnar.command(f"DROP DATABASE IF EXISTS `{columnar.database}` SYNC")
    await columnar.close()


def _name() -> str:
    return f"test_{os.getpid()}_{next(_numbers)}"


def _database(server: str, name: str) -> str:
    return server.replace("/postgres?", f"/{name}?")
