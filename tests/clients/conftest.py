"""One `tracestone up` for each file of clients."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from support.program import Program


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that Postgres may enter when the tests run as root."""
    made = Path(tempfile.mkdtemp(prefix="tracestone-clients-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest_asyncio.fixture(scope="module")
async def program(folder: Path) -> AsyncIterator[Program]:
    """Tracestone, running."""
    started = Program(folder / "data")
    await started.start()
    yield started
    assert await started.terminate() == 0
    await started.close()
