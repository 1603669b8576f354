"""Who asks: the API key where ClickHouse's clients put a user and a password, and how one is refused in their terms."""

from urllib.parse import parse_qsl

from starlette.responses import PlainTextResponse, Response
from starlette.types import Scope

from tracestone.collector.answers import waiting
from tracestone.collector.auth import credentials
from tracestone.collector.sql_endpoint.refusals import Kind, Refused, http_status
from tracestone.schema.errors import TracestoneError, Unauthenticated, Unavailable


def token(scope: Scope) -> str:
    """The key of a request: X-ClickHouse-Key and -User, Basic or Bearer, x-api-key, or `?user=&password=`."""
    given = credentials.in_headers(scope["headers"])
    headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
    named = credentials.user_and_password(headers.get(b"x-clickhouse-user", ""), headers.get(b"x-clickhouse-key", ""))
    url = dict(parse_qsl(scope["query_string"].decode("latin-1")))
    in_url = credentials.user_and_password(url.get("user", ""), url.get("password", ""))
    return credentials.chosen((given, named, in_url))


def refused(scope: Scope, error: TracestoneError) -> Response:
    """The answer to a request that may not be served."""
    if isinstance(error, Unavailable):
        headers = {**waiting(error), "X-ClickHouse-Exception-Code": "209"}
        return PlainTextResponse(f"Code: 209. DB::Exception: {error} (SOCKET_TIMEOUT)\n", 503, headers)
    kind = Kind.ACCESS_DENIED
    if isinstance(error, Unauthenticated):
        kind = Kind.AUTHENTICATION_FAILED if token(scope) else Kind.REQUIRED_PASSWORD
    reason = str(error).removesuffix(".")
    answer = PlainTextResponse(f"{Refused(kind, reason)}\n", http_status(kind.value))
    answer.headers["X-ClickHouse-Exception-Code"] = str(kind.value)
    return answer
