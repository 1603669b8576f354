"""`tracestone sql`: one statement, its answer on the terminal, in a pipe or in a file.

The statement goes to the running `tracestone up`, to the ClickHouse server of the settings, or, when nothing runs and
the data folder is free, to the embedded engine opened here, through the same guard and limits.
"""

import asyncio
import http.client
import os
import re
import ssl
import sys
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlencode, urlsplit

from tracestone.collector import data_folder
from tracestone.collector.running_one import key_headers, to_running
from tracestone.collector.sql_endpoint.limits import MAX_STATEMENT_BYTES
from tracestone.collector.sql_endpoint.statements import Statement, Statements
from tracestone.schema.engines.columnar import Columnar, StatementFailed, chdb_url
from tracestone.schema.errors import Invalid, Rejected, StorageDown, TracestoneError
from tracestone.schema.settings import Settings

FORMATS = {"table": "PrettyCompactMonoBlock", "json": "JSONEachRow", "csv": "CSVWithNames", "parquet": "Parquet"}

_TABLE_SETTINGS = {
    "output_format_pretty_color": "0",
    "output_format_pretty_row_numbers": "0",
    "output_format_pretty_display_footer_column_names": "0",
    "output_format_pretty_highlight_digit_groups": "0",
    "output_format_pretty_single_large_number_tip_threshold": "0",
    "output_format_pretty_max_rows": "10000",
    "output_format_pretty_max_value_width": "120",
}
_CHUNK = 1024 * 1024
_SLACK_SECONDS = 15.0
_PREFIX = re.compile(r"^(?:Code: \d+\. )?(?:DB::Exception: )+")
_VERSION = re.compile(r" \(version [^)]*\)+$")


def run_sql(
    statement: str,
    settings: Settings,
    fmt: str = "table",
    output: Path | None = None,
    parameters: Mapping[str, str] | None = None,
) -> int:
    """Runs one statement, `-` for the one on standard input. The answer goes to `output` or standard output.

    `parameters` are the values of its placeholders, in ClickHouse's escaped text form.

    Returns the exit code: 0; 1 when the statement or the connection failed; 2 when what was asked makes no sense. The
    reason is one sentence on standard error.
    """
    try:
        text = _statement(statement)
        if fmt not in FORMATS:
            raise Invalid("--format", f"choose one of {', '.join(FORMATS)}")
        if fmt == "parquet" and output is None and sys.stdout.isatty():
            raise Invalid("--format parquet", "needs --output FILE, for it is not text")
    except Invalid as error:
        return _fail(str(error), 2)
    try:
        _write(_answer(text, settings, fmt, parameters or {}), output, fmt)
    except StatementFailed as error:
        return _fail(_sentence(str(error)), 1)
    except TracestoneError as error:
        return _fail(str(error), 1)
    return 0


def _statement(given: str) -> str:
    text = given
    if given == "-":
        raw = sys.stdin.buffer.read(MAX_STATEMENT_BYTES + 1)
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            raise Invalid("", "The statement on standard input is not UTF-8 text") from None
    if not text.strip():
        raise Invalid("", "The statement is empty")
    if len(text.encode("utf-8", "surrogatepass")) > MAX_STATEMENT_BYTES:
        raise Invalid("", f"The statement is longer than {MAX_STATEMENT_BYTES} bytes")
    return text


def _answer(text: str, settings: Settings, fmt: str, parameters: Mapping[str, str]) -> Iterator[bytes]:
    """The answer's bytes. Raises StatementFailed, StorageDown, Rejected."""
    shape = {"default_format": FORMATS[fmt], **(_TABLE_SETTINGS if fmt == "table" else {})}
    shape |= {f"param_{name}": value for name, value in parameters.items()}
    if settings.clickhouse_url is not None:
        yield from _from_server(text, settings, settings.clickhouse_url.get_secret_value(), shape)
        return
    connection = to_running(settings, settings.sql_port, settings.sql_max_seconds + _SLACK_SECONDS)
    try:
        connection.connect()
    except ssl.SSLError as error:
        raise StorageDown(f"TLS with {connection.host}:{connection.port} failed: {error.reason or error}") from error
    except OSError:
        yield _from_folder(text, settings, fmt, parameters)
        return
    body = text.encode("utf-8", "surrogatepass")
    yield from _exchange(connection, "POST", f"/?{urlencode(shape)}", body, key_headers(settings))


def _from_server(text: str, settings: Settings, url: str, shape: Mapping[str, str]) -> Iterator[bytes]:
    """Asks a ClickHouse server with GET, for which it refuses to write whatever its user may do elsewhere."""
    parts = urlsplit(url)
    timeout = settings.sql_max_seconds + _SLACK_SECONDS
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Rejected("The setting clickhouse_url must be of the form http(s)://user:password@host:port/")
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(parts.hostname, parts.port or 8443, timeout=timeout, context=context)
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port or 8123, timeout=timeout)
    headers = {}
    if parts.username:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {b64encode(credentials.encode()).decode()}"
    asked = {"query": text, "database": settings.clickhouse_database, "wait_end_of_query": "1", **shape}
    try:
        connection.connect()
    except OSError as error:
        raise StorageDown(f"ClickHouse at {parts.hostname} does not answer: {error.strerror or error}") from error
    yield from _exchange(connection, "GET", f"/?{urlencode(asked)}", None, headers)


def _exchange(
    connection: http.client.HTTPConnection, method: str, target: str, body: bytes | None, headers: Mapping[str, str]
) -> Iterator[bytes]:
    try:
        connection.request(method, target, body=body, headers=dict(headers))
        response = connection.getresponse()
        if response.status != 200:
            message = response.read(64 * 1024).decode("utf-8", "replace")
            code = response.headers.get("X-ClickHouse-Exception-Code", "0")
            raise StatementFailed(message or f"HTTP status {response.status}", int(code) if code.isdigit() else 0)
        while chunk := response.read(_CHUNK):
            yield chunk
    except TimeoutError as error:
        raise StorageDown("No answer came in time") from error
    except (OSError, http.client.HTTPException) as error:
        raise StorageDown(f"The connection broke: {type(error).__name__}") from error
    finally:
        connection.close()


def _from_folder(text: str, settings: Settings, fmt: str, parameters: Mapping[str, str]) -> bytes:
    """Opens the engine in the data folder for this one statement. Raises StorageDown when that cannot be."""
    folder = settings.data_dir.resolve()
    nothing = f"Nothing listens on {settings.host}:{settings.sql_port}"
    if not (folder / "clickhouse").is_dir():
        raise StorageDown(f"{nothing}, and {folder} holds no data; start `tracestone up` first")
    with ExitStack() as stack:
        try:
            ours = stack.enter_context(data_folder.held(folder))
        except OSError as error:
            raise StorageDown(f"{nothing}, and the data folder {folder} cannot be used: {error.strerror}") from error
        if not ours:
            raise StorageDown(
                f"{nothing}, but a Tracestone is using {folder}; give the --host and --sql-port it was started with"
            )
        columnar = Columnar(chdb_url(folder / "clickhouse"), database=settings.clickhouse_database)
        shape = _TABLE_SETTINGS if fmt == "table" else {}
        asked = Statement(text, parameters, shape, default_format=FORMATS[fmt])
        return asyncio.run(_run_once(Statements(settings, columnar), asked))


async def _run_once(statements: Statements, statement: Statement) -> bytes:
    try:
        return (await statements.run(statement)).body
    finally:
        await statements.close()


def _write(answer: Iterable[bytes], output: Path | None, fmt: str) -> None:
    """Writes the answer; the file appears only once the answer has begun. Raises Rejected."""
    chunks = iter(answer)
    first = next(chunks, b"")
    if fmt == "table" and not first and output is None:
        first = b"(no rows)\n"
    try:
        if output is None:
            _copy(first, chunks, sys.stdout.buffer)
        else:
            with output.open("wb") as file:
                _copy(first, chunks, file)
    except BrokenPipeError:
        # The reader of the pipe has seen enough; keep the interpreter from complaining when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        raise Rejected(f"The answer cannot be written to {output or 'standard output'}: {error.strerror}") from error


def _copy(first: bytes, rest: Iterable[bytes], file: BinaryIO) -> None:
    file.write(first)
    for chunk in rest:
        file.write(chunk)
    file.flush()


def _sentence(message: str) -> str:
    """An engine's error on one line, without what only programs need."""
    flat = " ".join(message.split())
    return _PREFIX.sub("", _VERSION.sub("", flat))


def _fail(reason: str, code: int) -> int:
    print(f"tracestone: {reason}", file=sys.stderr)  # noqa: T201 - the command's own output
    return code
