"""ClickHouse clients that can be told to lose their connection, or to refuse something."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from clickhouse_connect.driver.client import Client

from tracestone.schema.engines.columnar import Columnar, Settings, StatementFailed, _Lane
from tracestone.schema.errors import StorageDown

T = TypeVar("T")


class FaultyColumnar(Columnar):
    """The real engine, except that inserts fail as they do without a server while `away` is set."""

    away = False

    async def insert_bytes(self, table: str, payload: bytes, fmt: str, settings: Settings) -> None:
        """Inserts, or raises StorageDown."""
        if self.away:
            raise StorageDown("ClickHouse does not answer")
        await super().insert_bytes(table, payload, fmt, settings)


class ClosedColumnar(Columnar):
    """The real engine, except that it answers nothing while `closed` is set. Notes the order of inserted batches."""

    closed = False

    def __init__(self, url: str, *, database: str) -> None:
        super().__init__(url, database=database)
        self.inserted: list[str] = []

    async def insert_bytes(self, table: str, payload: bytes, fmt: str, settings: Settings) -> None:
        """Inserts, or raises StorageDown."""
        await super().insert_bytes(table, payload, fmt, settings)
        if table == "otlp_traces_in":
            self.inserted.append(settings["log_comment"])

    async def _call(self, run: Callable[[Client], T], lane: _Lane) -> T:
        if self.closed:
            raise StorageDown("ClickHouse does not answer")
        return await super()._call(run, lane)


class PickyColumnar(Columnar):
    """The real engine, except that it refuses what `refuses_insert` or `refuses_statement` gives a code for."""

    def __init__(self, url: str, *, database: str) -> None:
        super().__init__(url, database=database)
        self.refuses_insert: Callable[[bytes], int | None] = lambda payload: None
        self.refuses_statement: Callable[[str, Mapping[str, Any]], int | None] = lambda sql, parameters: None
        self.refusals = 0

    async def insert_bytes(self, table: str, payload: bytes, fmt: str, settings: Settings) -> None:
        """Inserts, or raises StatementFailed."""
        if table.startswith("otlp_"):
            self._refuse(self.refuses_insert(payload))
        await super().insert_bytes(table, payload, fmt, settings)

    async def command(
        self, sql: str, parameters: Mapping[str, Any] | None = None, settings: Settings | None = None
    ) -> None:
        """Runs a statement, or raises StatementFailed."""
        self._refuse(self.refuses_statement(sql, parameters or {}))
        await super().command(sql, parameters, settings)

    def _refuse(self, code: int | None) -> None:
        if code is not None:
            self.refusals += 1
            raise StatementFailed(f"Code: {code}. DB::Exception: refused by the test.", code)


class BreakingColumnar(PickyColumnar):
    """The real engine, except that its connection is lost at a statement, after it worked for some."""

    statement = "never"
    left = 0

    async def command(self, sql: str, parameters: Any = None, settings: Any = None) -> None:
        """Runs it, or raises StorageDown."""
        if self.statement in sql:
            if not self.left:
                raise StorageDown("ClickHouse does not answer")
            self.left -= 1
        await super().command(sql, parameters, settings)
