"""`tracestone up` with honest senders, for a whole module."""

import resource
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from support.program import Program
from support.watched import Watched, watched


@pytest.fixture(scope="module")
def settings() -> dict[str, object]:
    """Settings of the program; a module has its own."""
    return {}


@pytest_asyncio.fixture(scope="module")
async def up(settings: dict[str, object]) -> AsyncIterator[Watched]:
    """A running Tracestone, watched."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # Not under pytest's own folder: another pytest starting up closes that one to other users (see tests/conftest.py).
    folder = Path(tempfile.mkdtemp(prefix="tracestone-hostile-"))
    folder.chmod(0o755)
    program = Program(folder / "data", **settings)
    try:
        await program.start()
        async with watched(program) as running:
            yield running
        assert await program.terminate() == 0
    finally:
        await program.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        shutil.rmtree(folder, ignore_errors=True)
