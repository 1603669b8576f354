"""A served SQL endpoint over a small database of its own."""

import uuid
from collections.abc import AsyncIterator

import pytest_asyncio

from support.asgi_server import serving
from support.sql_endpoint import Endpoint
from tracestone.collector.sql_endpoint.http import sql_app
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.settings import Settings

LIMITS = Settings(
    sql_max_seconds=2, sql_max_memory_bytes=200 * 1024 * 1024, sql_max_rows=1000, sql_max_answer_bytes=1024 * 1024
)


@pytest_asyncio.fixture(scope="module")
async def small(chdb_url: str) -> AsyncIterator[Columnar]:
    """A database with one small table of known rows; a reader must not be able to change it, so tests share it."""
    columnar = Columnar(chdb_url, database=f"test_sql_{uuid.uuid4().hex[:8]}")
    await columnar.open()
    await columnar.command(
        "CREATE TABLE spans (span_id String, name String, duration_ns UInt64, start_time DateTime64(9, 'UTC'))"
        " ENGINE = MergeTree ORDER BY span_id"
    )
    await columnar.command(
        "INSERT INTO spans SELECT lower(hex(number)), ['chat', 'tool', 'x\\'y'][number % 3 + 1], number * 1000,"
        " toDateTime64('2026-01-01 00:00:00', 9, 'UTC') FROM numbers(30)"
    )
    yield columnar
    await columnar.command(f"DROP DATABASE `{columnar.database}` SYNC")
    await columnar.close()


@pytest_asyncio.fixture(scope="module")
async def endpoint(small: Columnar) -> AsyncIterator[Endpoint]:
    """The endpoint, served by a real HTTP server, with small limits."""
    app = sql_app(LIMITS, small)
    async with serving(app) as url:
        yield Endpoint(url, app.state.statements, small.database)
    await app.state.statements.close()
