"""The API on a real server."""

from collections.abc import AsyncIterator

import httpx
import pytest_asyncio

from support.mlflow_server import StoredTrace, mlflow_server, real_deps, store_trace
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool


@pytest_asyncio.fixture
async def api(pool: Pool, columnar: Columnar) -> AsyncIterator[httpx.AsyncClient]:
    """A plain HTTP client of the API."""
    async with mlflow_server(real_deps(pool, columnar)) as url, httpx.AsyncClient(base_url=url) as client:
        yield client


@pytest_asyncio.fixture
async def stored_trace(columnar: Columnar) -> StoredTrace:
    """A trace in the Default experiment."""
    return await store_trace(columnar)
