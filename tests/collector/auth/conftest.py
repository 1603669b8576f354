"""Postgres alone: keys need no ClickHouse, and a test is much faster without."""

import pytest_asyncio

from tracestone.schema.engines.postgres import Pool
from tracestone.schema.migrate import migrate_postgres


@pytest_asyncio.fixture
async def pool(empty_pool: Pool) -> Pool:
    """Postgres, migrated."""
    await migrate_postgres(empty_pool)
    return empty_pool
