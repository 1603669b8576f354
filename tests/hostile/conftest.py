"""`tracestone up` with honest senders, for a whole module."""

import resource
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from support.program import Program
from support.watched import Watched, watched


@pytest.fixture(scope="module")
def settings() -> dict[str, object]:
    """Settings of the program; a module has its own."""
    return {}


@pytest_asyncio.fixture(scope="module")
async def up(tmp_path_factory: pytest.TempPathFactory, settings: dict[str, object]) -> AsyncIterator[Watched]:
    """A running Tracestone, watched."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    program = Program(tmp_path_factory.mktemp("hostile") / "data", **settings)
    try:
        await program.start()
        async with watched(program) as running:
            yield running
        assert await program.terminate() == 0
    finally:
        await program.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
