"""Fixtures of the crash tests: a data folder for `tracestone up`, and the program itself."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from support.program import Program


@pytest.fixture
def data_folder() -> Iterator[Path]:
    """A folder that does not exist yet, with a name that is no plain word.

    In one that Postgres may enter when the tests run as root.
    """
    around = Path(tempfile.mkdtemp(prefix="tracestone-crash-"))
    around.chmod(0o755)
    yield around / "Daten für 50% ✓ #1"
    shutil.rmtree(around, ignore_errors=True)


@pytest_asyncio.fixture
async def make_program(data_folder: Path) -> AsyncIterator[Callable[..., Program]]:
    """Makes the program that runs on `data_folder`, with settings; ended with the test."""
    made: list[Program] = []

    def make(**settings: object) -> Program:
        made.append(Program(data_folder, **settings))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for program in made:
        await program.close()


@pytest.fixture
def program(make_program: Callable[..., Program]) -> Program:
    """The program with its defaults."""
    return make_program()
