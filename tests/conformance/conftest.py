"""The API for MLflow's own client."""

from collections.abc import AsyncIterator

import pytest_asyncio

from support.mlflow_server import StoredTrace, mlflow_server, real_deps, store_trace
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool


@pytest_asyncio.fixture
async def mlflow_url(pool: Pool, columnar: Columnar) -> AsyncIterator[str]:
    """Where the API is served."""
    async with mlflow_server(real_deps(pool, columnar)) as url:
        yield url


@pytest_asyncio.fixture
async def stored_trace(columnar: Columnar) -> StoredTrace:
    """A trace in the Default experiment."""
    return await store_trace(columnar)
