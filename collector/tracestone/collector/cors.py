"""Web pages of other sites that may send OTLP: an allow-list, asked about before any key, told on every answer.

A browser asks first whether it may (a preflight, without credentials); the answer to the request itself says so again,
also when it is an error, or the page could not read that it should try again and when.
"""

import re
from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from tracestone.schema.errors import StartRefused

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s@?#]+")
_ANY = "[A-Za-z0-9.-]+"
_HEADERS = (
    *("authorization", "baggage", "content-encoding", "content-type", "traceparent", "tracestate"),
    *("x-api-key", "x-mlflow-experiment-id"),
)
_PREFLIGHT_SECONDS = 600


class OtlpCors:
    """An ASGI application in front of another; concerns its paths below `prefix` alone."""

    def __init__(self, app: ASGIApp, *, origins: Sequence[str], prefix: str = "/") -> None:
        """Raises StartRefused for an origin that is none."""
        self._app = app
        self._prefix = prefix
        self._cors = CORSMiddleware(
            app,
            allow_origin_regex="|".join(_pattern(origin) for origin in origins),
            allow_methods=("POST",),
            allow_headers=_HEADERS,
            # Browsers send credentials with sendBeacon, and refuse an answer that does not allow it.
            allow_credentials=True,
            allow_private_network=True,
            expose_headers=("Retry-After",),
            max_age=_PREFLIGHT_SECONDS,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers preflights; adds to all other answers what their page's browser wants to see."""
        concerned = scope["type"] == "http" and scope["path"].startswith(self._prefix)
        await (self._cors if concerned else self._app)(scope, receive, send)


def _pattern(origin: str) -> str:
    rest = origin.partition("://")[2]
    if not _ORIGIN.fullmatch(origin.replace("*", "a")) or not rest.strip("*.:"):
        raise StartRefused(
            f"The setting cors_allowed_origins cannot be used: {origin[:100]!r} is not an origin such as"
            " https://app.example or https://*.app.example."
        )
    return re.escape(origin).replace(r"\*", _ANY)
