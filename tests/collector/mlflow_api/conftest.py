"""The API on a real server."""

from collections.abc import AsyncIterator

import httpx
import pytest_asyncio

from support.engines import fresh_stores
from support.mlflow_server import StoredTrace, mlflow_server, real_deps, store_trace
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool


@pytest_asyncio.fixture
async def api(pool: Pool, columnar: Columnar) -> AsyncIterator[httpx.AsyncClient]:
    """A plain HTTP client of the API, on stores of the test's own."""
    async with mlflow_server(real_deps(pool, columnar)) as url, httpx.AsyncClient(base_url=url, timeout=60) as client:
        yield client


@pytest_asyncio.fixture
async def stored_trace(columnar: Columnar) -> StoredTrace:
    """A trace in the Default experiment of `api`."""
    return await store_trace(columnar)


@pytest_asyncio.fixture(scope="session")
async def shared(postgres_server: str, chdb_url: str) -> AsyncIterator[tuple[httpx.AsyncClient, StoredTrace]]:
    """An API and a trace for all tests that change nothing."""
    async with fresh_stores(postgres_server, chdb_url) as (pool, columnar):
        trace = await store_trace(columnar)
        async with (
            mlflow_server(real_deps(pool, columnar)) as url,
            httpx.AsyncClient(base_url=url, timeout=60) as client,
        ):
            yield client, trace


@pytest_asyncio.fixture
async def shared_api(shared: tuple[httpx.AsyncClient, StoredTrace]) -> httpx.AsyncClient:
    """A plain HTTP client of the API; only for what is refused or only reads."""
    return shared[0]


@pytest_asyncio.fixture
async def shared_trace(shared: tuple[httpx.AsyncClient, StoredTrace]) -> StoredTrace:
    """A trace in the Default experiment of `shared_api`, without assessments."""
    return shared[1]
