"""ClickHouse, in a server or in this process (chDB), behind one small asynchronous face.

Both are driven by clickhouse-connect's client; only the connection string differs:

    chdb:///var/lib/tracestone/clickhouse          embedded, a folder (see `chdb_url`)
    http://user:password@clickhouse:8123/          a server (https for TLS)

clickhouse-connect drives chDB synchronously only, and chDB releases the GIL while it works, so each call runs on
a thread of a small pool with a client of its own. chDB allows one data path per process.

Reads, writes and the health check have clients of their own: slow readers hold up neither the loader nor the answer to
whether ClickHouse works.
"""

import asyncio
import queue
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, unquote, urlsplit

import clickhouse_connect
from clickhouse_connect import common
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError, OperationalError

from tracestone.schema import sqlfiles
from tracestone.schema.errors import StorageDown

# No session per client: concurrent statements must not queue behind each other on a server.
common.set_setting("autogenerate_session_id", False)

_QUERIES = sqlfiles.queries("clickhouse", "connection")
Settings = Mapping[str, Any]
Row = dict[str, Any]
T = TypeVar("T")


class StatementFailed(Exception):
    """ClickHouse refused a statement; `code` is its error code (0 when unknown)."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def chdb_url(folder: Path) -> str:
    """The connection string of an embedded ClickHouse in an absolute folder, whatever that is called."""
    return f"chdb://{quote(str(folder))}"


def chdb_folder(url: str) -> str:
    """The folder in such a connection string."""
    return unquote(urlsplit(url).path)


class _Lane:
    """Some clients with as many threads."""

    def __init__(self, name: str, size: int) -> None:
        self.size = size
        self.clients: queue.SimpleQueue[Client] = queue.SimpleQueue()
        self.threads = ThreadPoolExecutor(max_workers=size, thread_name_prefix=name)


class Columnar:
    """A pool of ClickHouse clients bound to one database. Safe to use from one event loop."""

    def __init__(self, url: str, *, database: str, clients: int = 4) -> None:
        """Opens nothing; see `open`. `clients` bounds how many reads, and how many writes, run at once."""
        self.url = url
        self.database = database
        self.embedded = url.startswith("chdb:")
        self._reads = _Lane("clickhouse-read", clients)
        self._writes = _Lane("clickhouse-write", clients)
        self._checks = _Lane("clickhouse-check", 1)
        self._opened: list[Client] = []

    async def open(self) -> None:
        """Connects, and creates the database if it is missing. Raises StorageDown."""
        await asyncio.get_running_loop().run_in_executor(self._writes.threads, self._open)

    async def close(self) -> None:
        """Waits for running statements, then disconnects. Safe to call twice."""
        for lane in self._lanes():
            await asyncio.get_running_loop().run_in_executor(None, partial(lane.threads.shutdown, wait=True))
        for client in self._opened:
            client.close()
        self._opened.clear()

    async def ping(self) -> None:
        """Returns when ClickHouse answers. Raises StorageDown or StatementFailed."""
        await self.command(_QUERIES["ping"])

    async def query(
        self, sql: str, parameters: Mapping[str, Any] | None = None, settings: Settings | None = None
    ) -> list[Row]:
        """Rows as dictionaries. Values are bound as `{name:Type}` parameters of the statement."""

        def run(client: Client) -> list[Row]:
            result = client.query(sql, parameters=_bound(parameters), settings=_plain(settings))
            return [dict(zip(result.column_names, row, strict=True)) for row in result.result_rows]

        return await self._call(run, self._reads)

    async def raw_query(
        self, sql: str, fmt: str, parameters: Mapping[str, Any] | None = None, settings: Settings | None = None
    ) -> bytes:
        """The answer's bytes in a ClickHouse output format."""

        def run(client: Client) -> bytes:
            return client.raw_query(sql, parameters=_bound(parameters), settings=_plain(settings), fmt=fmt)

        return await self._call(run, self._reads)

    async def command(
        self, sql: str, parameters: Mapping[str, Any] | None = None, settings: Settings | None = None
    ) -> None:
        """Runs a statement whose answer does not matter."""

        def run(client: Client) -> None:
            client.command(sql, parameters=_bound(parameters), settings=_plain(settings))

        await self._call(run, self._writes)

    async def insert_rows(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A small insert of Python rows; never for spans."""

        def run(client: Client) -> None:
            client.insert(table, rows, column_names=list(columns))

        await self._call(run, self._writes)

    async def insert_bytes(self, table: str, payload: bytes, fmt: str, settings: Settings) -> None:
        """Inserts a payload already encoded in a ClickHouse input format."""

        def run(client: Client) -> None:
            client.raw_insert(table, insert_block=payload, fmt=fmt, settings=_plain(settings))

        await self._call(run, self._writes)

    async def _call(self, run: Callable[[Client], T], lane: _Lane) -> T:
        return await asyncio.get_running_loop().run_in_executor(lane.threads, self._with_client, run, lane)

    def _with_client(self, run: Callable[[Client], T], lane: _Lane) -> T:
        client = lane.clients.get()
        try:
            return run(client)
        except OperationalError as error:
            raise StorageDown("ClickHouse does not answer") from error
        except DatabaseError as error:
            raise StatementFailed(str(error), getattr(error, "code", 0) or 0) from error
        except OSError as error:  # the embedded engine is handed what is inserted in a temporary file
            raise StorageDown(f"ClickHouse cannot be used: {error.strerror or type(error).__name__}") from error
        finally:
            lane.clients.put(client)

    def _lanes(self) -> tuple[_Lane, ...]:
        return self._reads, self._writes, self._checks

    def _open(self) -> None:
        try:
            first = self._client()
            first.command(_QUERIES["create_database"], parameters={"database": self.database})
            first.close()
            for lane in self._lanes():
                for _ in range(lane.size):
                    client = self._client(database=self.database)
                    self._opened.append(client)
                    lane.clients.put(client)
        except (ClickHouseError, OSError, ValueError) as error:
            raise StorageDown(f"ClickHouse cannot be opened: {error}") from error

    def _client(self, **more: Any) -> Client:
        if self.embedded:  # the client would not decode a name in the connection string
            return clickhouse_connect.get_client(interface="chdb", path=chdb_folder(self.url), **more)
        return clickhouse_connect.get_client(dsn=self.url, **more)


def _bound(parameters: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return dict(parameters) if parameters is not None else None


def _plain(settings: Settings | None) -> dict[str, Any] | None:
    return dict(settings) if settings is not None else None
