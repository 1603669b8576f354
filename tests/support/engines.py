"""Databases of one's own on the engines of this test process, for fixtures that live longer than one test."""

import itertools
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool, open_pool
from tracestone.schema.migrate import migrate

_numbers = itertools.count(1)


@asynccontextmanager
async def fresh_stores(postgres_server: str, chdb_url: str) -> AsyncIterator[tuple[Pool, Columnar]]:
    """Both stores, empty and migrated; dropped at the end."""
    name = f"shared_{os.getpid()}_{next(_numbers)}"
    admin = await asyncpg.connect(postgres_server)
    await admin.execute(f'CREATE DATABASE "{name}"')
    pool = await open_pool(postgres_server.replace("/postgres?", f"/{name}?"))
    columnar = Columnar(chdb_url, database=name)
    await columnar.open()
    try:
        await migrate(pool, columnar)
        yield pool, columnar
    finally:
        await columnar.command(f"DROP DATABASE IF EXISTS `{name}` SYNC")
        await columnar.close()
        await pool.close()
        await admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        await admin.close()
