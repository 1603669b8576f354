"""Runs readers' statements on the embedded engine: guarded, limited, a bounded number at once.

The HTTP protocol and the command line both come through here, so neither has rules of its own.
"""

import asyncio
import logging
import re
import uuid
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from tracestone.collector.sql_endpoint.guard import Checked, Guard
from tracestone.collector.sql_endpoint.limits import MAX_STATEMENT_BYTES, Limits, chosen
from tracestone.collector.sql_endpoint.plain import PLAIN, WHOLE, Plain
from tracestone.collector.sql_endpoint.refusals import Kind, Refused
from tracestone.schema.engines.columnar import Columnar, StatementFailed
from tracestone.schema.engines.reader import Answer, ReaderConnection, escaped, session
from tracestone.schema.errors import Stopping
from tracestone.schema.settings import Settings
from tracestone.schema.sqlfiles import queries

log = logging.getLogger(__name__)

_WAITING_PER_RUNNING = 8
_LONGEST_WAIT = 10.0  # seconds
_CLOSE_SECONDS = 2.0
_MAX_PARAMETERS = 1000
_SETTINGS_ROWS = 10_000
_PARAMETER_NAME = re.compile(r"[A-Za-z_]\w{0,127}", re.ASCII)
_OUR_FRAME = re.compile(r": In scope SELECT formatQuerySingleLine\(.*\)\. (?=\([A-Z_]+\))", re.DOTALL)


@dataclass(frozen=True)
class Statement:
    """What a reader asks. `parameters` are in ClickHouse's escaped text form; `settings` come from the
    URL.
    """

    text: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    database: str = ""
    default_format: str = "TabSeparated"


@dataclass(frozen=True)
class Engine:
    """What the engine told about itself when it was first used."""

    guard: Guard
    plain: Plain
    formats: Mapping[str, str]
    settings: frozenset[str]
    version: str
    timezone: str


class Statements:
    """Readers' way to the engine. Safe to use from one event loop."""

    def __init__(self, settings: Settings, columnar: Columnar) -> None:
        """Opens nothing. `columnar` must be embedded, and stay open for as long as this is used."""
        self._url = columnar.url
        self._database = columnar.database
        self._limits = Limits.of(settings)
        self._running = asyncio.Semaphore(settings.sql_max_concurrent)
        self._places = settings.sql_max_concurrent * (1 + _WAITING_PER_RUNNING)
        self._taken = 0
        self._threads = ThreadPoolExecutor(settings.sql_max_concurrent + 1, thread_name_prefix="sql-reader")
        self._marks: set[str] = set()
        self._closing = False
        self._sql = queries("clickhouse", "sql_endpoint")
        self._engine: Engine | None = None

    async def engine(self) -> Engine:
        """What is known about the engine; asked once. Raises StorageDown."""
        if self._engine is None:
            self._engine = await asyncio.wrap_future(self._threads.submit(self._learn))
        return self._engine

    async def run(self, statement: Statement) -> Answer:
        """The answer, whole. A cancelled caller's statement is ended in the engine too.

        Raises StatementFailed (Refused when this endpoint, not the engine, says no), Stopping, StorageDown.
        """
        if len(statement.text.encode("utf-8", "surrogatepass")) > MAX_STATEMENT_BYTES:
            raise Refused(Kind.QUERY_IS_TOO_LARGE, f"The statement is longer than {MAX_STATEMENT_BYTES} bytes")
        _check_parameters(statement.parameters)
        engine = await self.engine()
        await self._take_place()
        mark = f"reader-{uuid.uuid4().hex}"
        self._marks.add(mark)
        loop = asyncio.get_running_loop()
        try:
            work = self._threads.submit(self._run, engine, statement, mark)
        except RuntimeError:
            self._leave(mark)
            raise Stopping("The process is shutting down") from None
        # The place is given back when the thread is done, which may be after the caller has gone.
        work.add_done_callback(lambda _: _call_soon(loop, self._leave, mark))
        try:
            return await asyncio.wrap_future(work)
        except asyncio.CancelledError:
            self._cancel(mark)
            raise

    async def close(self) -> None:
        """Ends what runs, waits a little for it, and refuses what comes. Safe to call twice.

        The engine ends a statement between two blocks only, so one of a single long step runs on.
        """
        self._closing = True
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await asyncio.to_thread(self._close)
        except TimeoutError:
            log.warning("a reader's statement does not end", extra={"statements": len(self._marks)})

    async def _take_place(self) -> None:
        if self._closing:
            raise Stopping("The process is shutting down")
        if self._taken >= self._places:
            raise _too_many()
        self._taken += 1
        try:
            await asyncio.wait_for(self._running.acquire(), _LONGEST_WAIT)
        except TimeoutError:
            self._taken -= 1
            raise _too_many() from None
        except asyncio.CancelledError:
            self._taken -= 1
            raise

    def _leave(self, mark: str) -> None:
        self._marks.discard(mark)
        self._taken -= 1
        self._running.release()

    def _run(self, engine: Engine, statement: Statement, mark: str) -> Answer:
        """On a thread: parse, check, run, all on one connection of its own."""
        database = statement.database
        if database in ("", "default", "__default__"):
            database = self._database
        engine.guard.check_database(database)
        with session(self._url, database) as connection:
            connection.limit({**self._limits.while_parsing(), "log_comment": mark})
            checked = self._checked(engine, connection, statement, database)
            plain = engine.plain.reads(checked, database)
            try:
                return self._answer(engine, connection, statement, checked, plain or checked.text)
            except StatementFailed as error:
                if plain is None or PLAIN not in str(error):
                    raise
        # What is wrong with a statement is said of it as it was written.
        with session(self._url, database) as connection:
            connection.limit({**self._limits.while_parsing(), "log_comment": mark})
            return self._answer(engine, connection, statement, checked, checked.text)

    def _answer(
        self, engine: Engine, connection: ReaderConnection, statement: Statement, checked: Checked, text: str
    ) -> Answer:
        fmt = _format(checked.format or statement.default_format, engine.formats)
        settings = chosen(self._limits, engine.settings, statement.settings, checked.settings)
        # Under readonly = 1 nothing can change, and system.settings says so of every setting; a driver
        # that asks which settings it may send is answered with readonly = 2. Such a statement reads
        # nothing else.
        # Drivers need all of it to begin at all.
        readonly, rows = ("2", _SETTINGS_ROWS) if checked.only_settings else ("1", 0)
        limits = self._limits.while_running(at_least_rows=rows)
        connection.limit({**limits, **settings, "readonly": readonly})
        if self._closing:
            raise Refused(Kind.TOO_MANY_SIMULTANEOUS_QUERIES, "The process is shutting down")
        return connection.ask(text, fmt, statement.parameters, max_bytes=self._limits.answer_bytes)

    def _checked(self, engine: Engine, connection: ReaderConnection, statement: Statement, database: str) -> Checked:
        def parse(text: str) -> str:
            tree = connection.ask(f"{self._sql['syntax_tree']} {text}", "TabSeparatedRaw", statement.parameters)
            return tree.body.decode("utf-8", "replace")

        if "\0" in statement.text:
            raise Refused(Kind.SYNTAX_ERROR, "The statement holds a null character")
        given = {"statement": escaped(statement.text)}
        try:
            canonical = connection.ask(self._sql["canonical_statement"], "RawBLOB", given).body.decode(
                "utf-8", "replace"
            )
        except StatementFailed as error:
            raise StatementFailed(_OUR_FRAME.sub(". ", str(error)), error.code) from error
        return engine.guard.check(canonical, database, statement.parameters, parse)

    def _learn(self) -> Engine:
        with session(self._url, self._database) as connection:

            def rows(name: str, **parameters: str) -> list[list[str]]:
                body = connection.ask(self._sql[name], "TabSeparated", parameters).body.decode()
                return [line.split("\t") for line in body.splitlines()]

            functions = [
                {"name": name, "alias_to": alias, "is_aggregate": aggregate == "1", "categories": categories}
                for name, alias, aggregate, categories in rows("functions")
            ]
            version, timezone = rows("engine")[0]
            views = [[name for (name,) in rows("columns", table=table)] for table in (WHOLE, PLAIN)]
            return Engine(
                guard=Guard(self._database, functions, [name for (name,) in rows("table_functions")]),
                plain=Plain(self._database, *views),
                formats={name.lower(): name for (name,) in rows("output_formats")},
                settings=frozenset(name for (name,) in rows("settings")),
                version=version,
                timezone=timezone,
            )

    def _cancel(self, mark: str) -> None:
        """Asks the engine to end a statement; the thread of that statement then ends by itself."""
        try:
            ending = self._threads.submit(self._end, mark)
        except RuntimeError:
            return
        ending.add_done_callback(_log_failure)

    def _end(self, mark: str) -> None:
        with session(self._url, self._database) as connection:
            connection.ask(self._sql["cancel"], "Null", {"mark": mark})

    def _close(self) -> None:
        for mark in tuple(self._marks):
            self._end(mark)
        self._threads.shutdown(wait=True)


def _check_parameters(parameters: Mapping[str, str]) -> None:
    if len(parameters) > _MAX_PARAMETERS:
        raise Refused(Kind.BAD_ARGUMENTS, f"More than {_MAX_PARAMETERS} parameters")
    for name in parameters:
        if _PARAMETER_NAME.fullmatch(name) is None:
            raise Refused(Kind.BAD_ARGUMENTS, "A parameter's name must be letters, digits and underscores")


def _format(name: str, known: Mapping[str, str]) -> str:
    found = known.get(name.lower())
    if found is None:
        raise Refused(Kind.UNKNOWN_FORMAT, f"Unknown format {name[:100]}")
    return found


def _too_many() -> Refused:
    return Refused(Kind.TOO_MANY_SIMULTANEOUS_QUERIES, "Too many statements of readers are running; send it again soon")


def _call_soon(loop: asyncio.AbstractEventLoop, leave: object, mark: str) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(leave, mark)  # type: ignore[arg-type]


def _log_failure(ending: "Future[None]") -> None:
    error = ending.exception()
    if error is not None:
        log.warning("A reader's statement could not be ended.", extra={"reason": str(error)})
