"""Fixtures shared by all tests: the real engines, each test in databases of its own.

chDB allows one data path per process, so all tests of a process share one folder and are isolated by database name.
"""

import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.embedded_postgres import EmbeddedPostgres
from tracestone.schema.engines.postgres import Pool, open_pool
from tracestone.schema.migrate import migrate

# The MLflow client reports its use to its makers unless told not to, before it is imported.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "1"

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def engine_folder() -> Iterator[Path]:
    """The folder of this test process's chDB and Postgres."""
    # Not under pytest's own folder: another pytest starting up closes that one to other users, and under root
    # Postgres runs as another user.
    folder = Path(tempfile.mkdtemp(prefix="tracestone-engines-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest_asyncio.fixture(scope="session")
async def postgres_server(engine_folder: Path) -> AsyncIterator[str]:
    """The URL of a private Postgres that lives as long as the test process."""
    server = EmbeddedPostgres(engine_folder / "postgres")
    yield await server.start()
    await server.stop()


@pytest.fixture(scope="session")
def chdb_url(engine_folder: Path) -> Iterator[str]:
    """The URL of this process's chDB."""
    yield f"chdb://{engine_folder}/clickhouse"


@pytest_asyncio.fixture
async def postgres_url(postgres_server: str) -> AsyncIterator[str]:
    """A fresh, empty Postgres database."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    admin = await asyncpg.connect(postgres_server)
    await admin.execute(f'CREATE DATABASE "{name}"')
    try:
        yield postgres_server.replace("/postgres?", f"/{name}?")
    finally:
        await admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        await admin.close()


@pytest_asyncio.fixture
async def empty_columnar(chdb_url: str) -> AsyncIterator[Columnar]:
    """A fresh ClickHouse database without tables."""
    columnar = Columnar(chdb_url, database=f"test_{os.getpid()}_{next(_numbers)}")
    await columnar.open()
    try:
        yield columnar
    finally:
        await columnar.command(f"DROP DATABASE IF EXISTS `{columnar.database}` SYNC")
        await columnar.close()


@pytest_asyncio.fixture
async def empty_pool(postgres_url: str) -> AsyncIterator[Pool]:
    """A pool on a fresh, empty Postgres database."""
    pool = await open_pool(postgres_url)
    try:
        yield pool
    finally:
        await pool.close()


@pytest_asyncio.fixture
async def stores(empty_pool: Pool, empty_columnar: Columnar) -> AsyncIterator[tuple[Pool, Columnar]]:
    """Both stores, migrated."""
    await migrate(empty_pool, empty_columnar)
    yield empty_pool, empty_columnar


@pytest.fixture
def pool(stores: tuple[Pool, Columnar]) -> Pool:
    """Postgres, migrated."""
    return stores[0]


@pytest.fixture
def columnar(stores: tuple[Pool, Columnar]) -> Columnar:
    """ClickHouse, migrated."""
    return stores[1]
