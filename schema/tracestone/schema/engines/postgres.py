"""The asyncpg pool: one place that knows how a connection is set up. SQL comes from `sqlfiles`."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, TypeVar

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from tracestone.schema import sqlfiles
from tracestone.schema.errors import StorageDown

# While the server is away it writes a traceback for every try to connect; who asks is told, and says so once.
logging.getLogger("asyncpg.pool").setLevel(logging.ERROR)

T = TypeVar("T")
# asyncpg's classes take no type argument at run time; the stubs default it to Record.
Pool = asyncpg.Pool
Connection = asyncpg.Connection | PoolConnectionProxy
Record = asyncpg.Record
Failed = asyncpg.PostgresError
UniqueViolation = asyncpg.UniqueViolationError
# What is wrong with the values, whenever they are tried.
ValueRefused = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.ProgramLimitExceededError)

_QUERIES = sqlfiles.queries("postgres", "connection")
# What asyncpg raises when the server is away, closing, full or asks for another try.
_TEMPORARY = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
)


@contextmanager
def storage_errors() -> Iterator[None]:
    """Raises StorageDown in place of a driver's error that another try may cure."""
    try:
        yield
    except _TEMPORARY as error:
        raise StorageDown("Postgres does not answer") from error


async def answer_within(seconds: float, asking: asyncio.Task[T]) -> T:
    """What a question to Postgres was answered, if that is soon. Raises StorageDown.

    A question that takes longer goes on and may be waited for again: calling one back waits for the server too.
    """
    await asyncio.wait([asking], timeout=seconds)
    if not asking.done():
        raise StorageDown(f"Postgres does not answer within {seconds:g} s")
    with storage_errors():
        return asking.result()


@asynccontextmanager
async def listening(pool: Pool, channel: str, heard: asyncio.Event) -> AsyncIterator[asyncio.Event]:
    """Sets `heard` at every notification of `channel`; yields an event set when the connection is lost.

    Holds one connection of the pool. Raises StorageDown when there is none.
    """
    lost = asyncio.Event()

    def hear(*_: object) -> None:
        heard.set()

    def lose(*_: object) -> None:
        lost.set()

    with storage_errors():
        connection = await pool.acquire()
    try:
        with storage_errors():
            connection.add_termination_listener(lose)
            await connection.add_listener(channel, hear)
        yield lost
    finally:
        with suppress(*_TEMPORARY):  # of a lost connection the pool has let go already
            connection.remove_termination_listener(lose)
            await connection.remove_listener(channel, hear)
        await pool.release(connection)


async def open_pool(url: str, *, min_size: int = 1, max_size: int = 10) -> Pool:
    """A pool whose connections find our schema first and read and write json and jsonb as Python values.

    Raises StorageDown when the server does not answer, unless `min_size` is 0: then nobody asks it.
    """
    try:
        return await asyncpg.create_pool(
            url,
            min_size=min_size,
            max_size=max_size,
            command_timeout=60,
            init=_set_up,
            server_settings={"search_path": "tracestone, public", "application_name": "tracestone"},
        )
    except (ValueError, asyncpg.InterfaceError) as error:
        # The reason may quote the address, which holds a password.
        raise StorageDown("Postgres cannot be reached: its address cannot be used") from error
    except (OSError, asyncpg.PostgresError) as error:
        raise StorageDown(f"Postgres cannot be reached: {error}") from error


async def _set_up(connection: Any) -> None:
    for kind in ("json", "jsonb"):
        await connection.set_type_codec(
            kind, encoder=json.dumps, decoder=json.loads, schema="pg_catalog", format="text"
        )


async def ping(pool: Pool) -> None:
    """Returns when Postgres answers. Raises StorageDown."""
    try:
        await pool.fetchval(_QUERIES["ping"])
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise StorageDown(f"Postgres does not answer: {error}") from error
