"""A ClickHouse for several processes: this process's chDB behind ClickHouse's HTTP protocol, for statements of ours.

chDB allows one process for a folder, and where the tests run there is no ClickHouse server. Clients are the product's
own `Columnar` with an `http://` address; reading and `INSERT … SELECT` work, inserts of rows do not.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from support.asgi_server import serving
from tracestone.schema.engines.columnar import Columnar, StatementFailed
from tracestone.schema.engines.reader import Answer, session

_NATIVE = "FORMAT Native"
_OF_THE_PROTOCOL = frozenset(
    "query database query_id session_id client_protocol_version compress wait_end_of_query".split()
)


@asynccontextmanager
async def shared(columnar: Columnar) -> AsyncIterator[str]:
    """The address under which other processes reach the embedded engine of `columnar`, which stays open."""

    async def ask(request: Request) -> Response:
        try:
            body = (await request.body()).decode()
        except ClientDisconnect:  # killed while it asked
            return Response(status_code=499)
        given = dict(request.query_params)
        text = "\n".join(part for part in (given.get("query", ""), body) if part).strip()
        try:
            answer = await asyncio.to_thread(_run, columnar.url, text, given, columnar.database)
        except StatementFailed as error:
            headers = {"X-ClickHouse-Exception-Code": str(error.code)}
            return PlainTextResponse(str(error), status_code=500, headers=headers)
        return Response(answer.body, headers={"X-ClickHouse-Format": answer.format, "X-ClickHouse-Timezone": "UTC"})

    async with serving(Starlette(routes=[Route("/", ask, methods=["GET", "POST"])])) as url:
        yield url


def _run(url: str, text: str, given: dict[str, str], database: str) -> Answer:
    settings = {
        name: value for name, value in given.items() if name not in _OF_THE_PROTOCOL and not name.startswith("param_")
    }
    parameters = {name.removeprefix("param_"): value for name, value in given.items() if name.startswith("param_")}
    native = text.endswith(_NATIVE)
    with session(url, given.get("database", database)) as connection:
        if settings:
            connection.limit(settings)
        return connection.ask(text.removesuffix(_NATIVE), "Native" if native else "TabSeparated", parameters)
