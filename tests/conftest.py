"""Fixtures shared by all tests: the real engines, each test in databases of its own.

chDB allows one data path per process, so all tests of a process share one folder and are isolated by database name.
"""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from support.engines import Stores, bare_columnar, fresh_columnar, fresh_postgres, fresh_stores, prepare_postgres
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.embedded_postgres import EmbeddedPostgres
from tracestone.schema.engines.postgres import Pool, open_pool

# The MLflow client reports its use to its makers unless told not to, before it is imported.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "1"

_LONGEST_FIRST = ("crash", "hostile")
_MOST_PROCESSES = 4  # each with a chDB of up to 1 GB


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Test processes: one for each core, but none besides this one for a single file and for the slow tests."""
    single = len(config.args) == 1 and ".py" in config.args[0]
    if single or config.option.markexpr != "not slow":
        return 0
    return min(max(2, os.cpu_count() or 1), _MOST_PROCESSES)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest is begun first, so that the processes end at about the same time."""
    items.sort(key=lambda item: item.path.parent.name not in _LONGEST_FIRST)


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
    url = await server.start()
    await prepare_postgres(url)
    yield url
    await server.stop()


@pytest.fixture(scope="session")
def chdb_url(engine_folder: Path) -> Iterator[str]:
    """The URL of this process's chDB."""
    yield f"chdb://{engine_folder}/clickhouse"


@pytest_asyncio.fixture
async def postgres_url(postgres_server: str) -> AsyncIterator[str]:
    """A Postgres database, migrated."""
    async with fresh_postgres(postgres_server) as url:
        yield url


@pytest_asyncio.fixture
async def pool(postgres_url: str) -> AsyncIterator[Pool]:
    """A pool on `postgres_url`."""
    pool = await open_pool(postgres_url)
    try:
        yield pool
    finally:
        await pool.close()


@pytest_asyncio.fixture
async def columnar(postgres_server: str, chdb_url: str) -> AsyncIterator[Columnar]:
    """A ClickHouse database, migrated and without rows."""
    async with fresh_columnar(postgres_server, chdb_url) as columnar:
        yield columnar


@pytest_asyncio.fixture
async def empty_postgres_url(postgres_server: str) -> AsyncIterator[str]:
    """A Postgres database without tables."""
    async with fresh_postgres(postgres_server, migrated=False) as url:
        yield url


@pytest_asyncio.fixture
async def empty_pool(empty_postgres_url: str) -> AsyncIterator[Pool]:
    """A pool on `empty_postgres_url`."""
    pool = await open_pool(empty_postgres_url)
    try:
        yield pool
    finally:
        await pool.close()


@pytest_asyncio.fixture
async def empty_columnar(chdb_url: str) -> AsyncIterator[Columnar]:
    """A ClickHouse database without tables."""
    async with bare_columnar(chdb_url) as columnar:
        yield columnar


@pytest_asyncio.fixture(scope="module")
async def kept_stores(postgres_server: str, chdb_url: str) -> AsyncIterator[Stores]:
    """Both stores, migrated and empty, for all tests of a module, which empty them again."""
    async with fresh_stores(postgres_server, chdb_url) as stores:
        yield stores
