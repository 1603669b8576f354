"""ClickHouse's HTTP protocol, as much of it as readers' clients use, over the embedded engine.

    GET  /?query=SELECT …            POST / with the statement as its body, or after the one in the URL
    GET  /ping, /replicas_status     "Ok."

URL parameters: `query`, `database`, `default_format`, `query_id`, `client_protocol_version`, `param_<name>`
(values of `{name:Type}`), and settings (see `limits`). Headers: `X-ClickHouse-Database`,
`X-ClickHouse-Format`, `Accept-Encoding` (gzip, lz4, when `enable_http_compression=1`). A user and
password are looked at by `accounts`, in front of this, where API keys are demanded. An error's body is
`Code: N. DB::Exception: …`, its code also in `X-ClickHouse-Exception-Code`.
"""

import asyncio
import gzip
import json
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import lz4.frame  # type: ignore[import-untyped]
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tracestone.collector.answers import waiting
from tracestone.collector.sql_endpoint import accounts
from tracestone.collector.sql_endpoint.formdata import fields
from tracestone.collector.sql_endpoint.limits import MAX_STATEMENT_BYTES
from tracestone.collector.sql_endpoint.native import framed
from tracestone.collector.sql_endpoint.refusals import Kind, Refused, http_status
from tracestone.collector.sql_endpoint.statements import Statement, Statements
from tracestone.collector.visitors import Visitors
from tracestone.schema.engines.columnar import Columnar, StatementFailed
from tracestone.schema.engines.reader import Answer
from tracestone.schema.errors import Unavailable
from tracestone.schema.settings import Settings

_MAX_BODY_BYTES = 4 * MAX_STATEMENT_BYTES
_OWN_PARAMETERS = frozenset({"query", "database", "default_format", "query_id", "compress", "decompress"})
_CONTENT_TYPES = {
    "TabSeparated": "text/tab-separated-values; charset=UTF-8",
    "CSV": "text/csv; charset=UTF-8; header=absent",
    "CSVWithNames": "text/csv; charset=UTF-8; header=present",
    "JSON": "application/json; charset=UTF-8",
    "JSONCompact": "application/json; charset=UTF-8",
    "JSONEachRow": "application/x-ndjson; charset=UTF-8",
    "Native": "application/octet-stream",
    "RowBinary": "application/octet-stream",
    "Parquet": "application/vnd.apache.parquet",
    "Arrow": "application/octet-stream",
    "ArrowStream": "application/octet-stream",
    "XML": "application/xml; charset=UTF-8",
}
_PROBES = ("/ping", "/replicas_status")
_COMPRESSORS = {"lz4": lz4.frame.compress, "gzip": lambda body: gzip.compress(body, compresslevel=1)}


def sql_app(settings: Settings, columnar: Columnar) -> Starlette:
    """The application for `settings.sql_port`. `columnar` is open and embedded.

    Its lifespan closes what it opened; whoever serves it without a lifespan awaits
    `app.state.statements.close()`.
    """
    statements = Statements(settings, columnar)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await statements.close()

    async def ask(request: Request) -> Response:
        return await _answer(request, statements)

    app = Starlette(
        routes=[
            Route("/", ask, methods=["GET", "POST", "HEAD"]),
            Route("/ping", _ok, methods=["GET", "HEAD"]),
            Route("/replicas_status", _ok, methods=["GET", "HEAD"]),
        ],
        lifespan=lifespan,
        # A statement costs time whatever its method, so none is taken from a page of another site.
        middleware=[Middleware(Visitors, settings=settings, refuse=accounts.refused, open_paths=_PROBES, reading=())],
    )
    app.state.statements = statements
    return app


async def _ok(_: Request) -> Response:
    return PlainTextResponse("Ok.\n")


async def _answer(request: Request, statements: Statements) -> Response:
    headers = {
        "X-ClickHouse-Query-Id": _query_id(request.query_params.get("query_id", "")),
        "X-ClickHouse-Server-Display-Name": "tracestone",
    }
    try:
        statement = await _statement(request)
        if request.method != "POST" and not statement.text.strip():
            return PlainTextResponse("Ok.\n")
        engine = await statements.engine()
        headers["X-ClickHouse-Timezone"] = engine.timezone
        answer = await _unless_gone(request, statements, statement)
        body = answer.body
        if answer.format == "Native":
            body = await asyncio.to_thread(framed, body, _revision(request))
        encoding = _encoding(request)
        if encoding:
            body = await asyncio.to_thread(_COMPRESSORS[encoding], body)
            headers["Content-Encoding"] = encoding
    except StatementFailed as error:
        return _failed(str(error), error.code, headers)
    except Unavailable as error:
        headers.update(waiting(error))
        return _failed(f"Code: 209. DB::Exception: {error}. (SOCKET_TIMEOUT)", 209, headers)
    except ClientDisconnect:
        return Response(status_code=499)
    headers["X-ClickHouse-Format"] = answer.format
    headers["X-ClickHouse-Summary"] = _summary(answer)
    headers["Content-Type"] = _CONTENT_TYPES.get(answer.format, "text/plain; charset=UTF-8")
    return Response(body, headers=headers)


async def _unless_gone(request: Request, statements: Statements, statement: Statement) -> Answer:
    """Runs the statement, and ends it when the client hangs up. Raises ClientDisconnect then."""
    work = asyncio.ensure_future(statements.run(statement))
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise ClientDisconnect
        return work.result()
    finally:
        gone.cancel()
        work.cancel()
        await asyncio.gather(work, gone, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _statement(request: Request) -> Statement:
    given = dict(request.query_params)
    for name in ("compress", "decompress"):
        if given.get(name, "0") not in ("0", "false", ""):
            raise Refused(
                Kind.BAD_ARGUMENTS,
                f"{name} is not served here; use Accept-Encoding with enable_http_compression=1",
            )
    body = await _body(request)
    kind = request.headers.get("content-type", "")
    if kind.lower().startswith("multipart/form-data"):
        given.update(fields(kind, body))
        body = b""
    if request.headers.get("content-encoding", "identity") not in ("identity", ""):
        raise Refused(
            Kind.UNSUPPORTED_MEDIA_TYPE,
            "A compressed request is not served here; send the statement as it is",
        )
    try:
        text = "\n".join(part for part in (given.get("query", ""), body.decode("utf-8")) if part)
    except UnicodeDecodeError:
        raise Refused(Kind.SYNTAX_ERROR, "The statement is not UTF-8 text") from None
    return Statement(
        text=text,
        parameters=_parameters(given),
        settings={
            name: value
            for name, value in given.items()
            if name not in _OWN_PARAMETERS and not name.startswith("param_")
        },
        database=given.get("database") or request.headers.get("x-clickhouse-database", ""),
        default_format=given.get("default_format") or request.headers.get("x-clickhouse-format", "") or "TabSeparated",
    )


def _parameters(given: Mapping[str, str]) -> dict[str, str]:
    return {name.removeprefix("param_"): value for name, value in given.items() if name.startswith("param_")}


async def _body(request: Request) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > _MAX_BODY_BYTES:
            raise Refused(Kind.QUERY_IS_TOO_LARGE, f"The request is longer than {_MAX_BODY_BYTES} bytes")
        parts.append(part)
    return b"".join(parts)


def _encoding(request: Request) -> str:
    """The first encoding the client accepts that is served, or ''."""
    if request.query_params.get("enable_http_compression", "0") not in ("1", "true"):
        return ""
    for accepted in request.headers.get("accept-encoding", "").split(","):
        name, _, weight = accepted.strip().partition(";")
        if name in _COMPRESSORS and weight.replace(" ", "") not in ("q=0", "q=0.0"):
            return name
    return ""


def _revision(request: Request) -> int:
    given = request.query_params.get("client_protocol_version", "0")
    return int(given) if given.isdecimal() and len(given) < 10 else 0


def _failed(message: str, code: int, headers: Mapping[str, str]) -> Response:
    retry = {"Retry-After": "1"} if code == Kind.TOO_MANY_SIMULTANEOUS_QUERIES.value else {}
    return PlainTextResponse(
        message + "\n",
        status_code=http_status(code),
        headers={**headers, **retry, "X-ClickHouse-Exception-Code": str(code)},
    )


def _summary(answer: Answer) -> str:
    counts = {
        "read_rows": answer.read_rows,
        "read_bytes": answer.read_bytes,
        "written_rows": 0,
        "written_bytes": 0,
        "result_bytes": len(answer.body),
        "elapsed_ns": answer.elapsed_ns,
    }
    return json.dumps({name: str(count) for name, count in counts.items()}, separators=(",", ":"))


def _query_id(given: str) -> str:
    printable = given.isascii() and given.isprintable()
    return given if given and len(given) <= 128 and printable else str(uuid.uuid4())
