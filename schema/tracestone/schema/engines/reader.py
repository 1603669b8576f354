"""One reader's statements on the embedded engine, each limited and read-only.

Measured in chDB 4.4 (ClickHouse 26.9), and why a connection is opened for each `session` instead of kept:

- `SET` holds for one connection. `readonly = 1` cannot be taken back, and under it no setting can change, so
  the limits of a statement can only be lifted by closing the connection.
- A statement that fails half-way leaves its unfinished answer behind, and the next statement of the same
  connection returns it in front of its own. On a shared connection one reader would be sent another reader's
  rows.

Opening, setting and closing takes about 1 ms.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracestone.schema.engines.columnar import StatementFailed, chdb_folder
from tracestone.schema.errors import MissingExtra, StorageDown
from tracestone.schema.sqlfiles import queries

try:
    import chdb
except ImportError:  # pragma: no cover - an installation for a ClickHouse server needs no engine of its own
    chdb = None  # type: ignore[assignment]

_CODE = re.compile(r"Code: (\d+)\. DB::Exception: ")
_NOT_UTF8 = "Code: 62. DB::Exception: The statement is not UTF-8 text. (SYNTAX_ERROR)"
_TEXT_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r", "\0": "\\0"})


@dataclass(frozen=True)
class Answer:
    """The bytes of an answer in its output format, with what the engine counted (rows and bytes are those
    read).
    """

    body: bytes
    format: str
    read_rows: int
    read_bytes: int
    elapsed_ns: int


class ReaderConnection:
    """One connection of one reader. Not safe to share between threads."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def use(self, database: str) -> None:
        """Looks unqualified tables up in `database`."""
        self.ask(f"{queries('clickhouse', 'sql_endpoint')['use_database']} {_quoted_name(database)}", "Null")

    def limit(self, settings: Mapping[str, str]) -> None:
        """Applies settings for the rest of this connection's life; all of them or, on an error, none."""
        changes = ", ".join(f"{_quoted_name(name)} = {_quoted_text(value)}" for name, value in settings.items())
        self.ask(f"{queries('clickhouse', 'sql_endpoint')['apply_settings']} {changes}", "Null")

    def ask(
        self,
        statement: str,
        fmt: str,
        parameters: Mapping[str, str] | None = None,
        *,
        max_bytes: int | None = None,
    ) -> Answer:
        """Runs one statement. Parameter values are in ClickHouse's escaped text form, as over HTTP.

        `max_bytes` bounds the answer as written; the engine's own max_result_bytes counts columns before that, a
        constant only once. Raises StatementFailed; after that the connection must not be used again.
        """
        try:
            result = self._connection.query(statement, fmt, params=dict(parameters or {}))
        except UnicodeError as error:
            raise StatementFailed(_NOT_UTF8, 62) from error
        except Exception as error:  # chDB raises RuntimeError and unexported classes of its own
            raise _failure(str(error)) from error
        if max_bytes is not None and result.size() > max_bytes:
            raise StatementFailed(
                f"Code: 396. DB::Exception: Limit for result exceeded, max bytes: {max_bytes}, "
                f"current bytes: {result.size()}. (TOO_MANY_ROWS_OR_BYTES)",
                396,
            )
        return Answer(
            body=result.bytes() or b"",
            format=fmt,
            read_rows=int(result.rows_read()),
            read_bytes=int(result.bytes_read()),
            elapsed_ns=int(result.elapsed() * 1_000_000_000),
        )


@contextmanager
def session(url: str, database: str) -> Iterator[ReaderConnection]:
    """A fresh connection to the embedded engine at `url` (chdb:///folder). Blocking. Raises StorageDown."""
    if chdb is None:  # pragma: no cover - depends on the installation
        raise MissingExtra("chdb", "embedded")
    folder = Path(chdb_folder(url)).resolve()
    try:
        raw = chdb.connect(str(folder))  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise StorageDown(f"The embedded ClickHouse cannot be opened: {error}") from error
    try:
        connection = ReaderConnection(raw)
        connection.use(database)
        yield connection
    finally:
        raw.close()


def escaped(text: str) -> str:
    """A String parameter's value in ClickHouse's escaped text form."""
    return text.translate(_TEXT_ESCAPES)


def _failure(message: str) -> StatementFailed:
    found = list(_CODE.finditer(message))
    if not found:
        return StatementFailed(f"Code: 1002. DB::Exception: {message.strip()} (UNKNOWN_EXCEPTION)", 1002)
    # A refused setting is reported as an exception inside an exception; the inner one has the reason.
    last = found[-1] if found[-1].end() - found[0].start() < 100 else found[0]
    return StatementFailed(message[last.start() :].strip(), int(last.group(1)))


def _quoted_name(name: str) -> str:
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def _quoted_text(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
