"""One collector for all tests of a module; tests use trace ids of their own."""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from support.engines import fresh_stores
from support.running import Running, running

MAX_REQUEST_BYTES = 2 * 1024 * 1024


@pytest_asyncio.fixture(scope="module")
async def receiver(
    postgres_server: str, chdb_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Running]:
    """A collector with small limits."""
    folder: Path = tmp_path_factory.mktemp("collector")
    async with (
        fresh_stores(postgres_server, chdb_url) as (pool, columnar),
        running(pool, columnar, folder, max_request_bytes=MAX_REQUEST_BYTES, max_experiments=50) as collector,
    ):
        yield collector


@pytest.fixture
def trace() -> int:
    """The number of a trace that no other test uses."""
    return secrets.randbits(120) + 1
