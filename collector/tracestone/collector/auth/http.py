"""The check of API keys in front of an HTTP application: nothing of a body is read, whatever comes of it."""

import logging
from collections.abc import Callable
from typing import NamedTuple

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from tracestone.collector.auth import credentials
from tracestone.collector.auth.caller import CALLER
from tracestone.collector.auth.gate import Gate
from tracestone.schema import keys
from tracestone.schema.errors import Rejected, TracestoneError, Unauthenticated, Unavailable
from tracestone.schema.keys import Caller

logger = logging.getLogger(__name__)

# A browser asks its user for Basic.
_CHALLENGES = ('Basic realm="tracestone", charset="UTF-8"', 'Bearer realm="tracestone"')
_NOBODY = Caller("", frozenset())


class Need(NamedTuple):
    """What a request asks of its caller: a scope, None when it is open to everybody.

    `bound` tells whether it keeps to the experiments of a key that is bound to some.
    """

    scope: keys.Scope | None
    bound: bool = False


Rule = Callable[[Scope], Need]
Refuse = Callable[[Scope, TracestoneError], Response]


def in_headers(scope: Scope) -> str:
    """The key in a request's headers, "" without."""
    return credentials.in_headers(scope["headers"])


class Authenticated:
    """An ASGI application in front of another; `refuse` makes the answer in the API's own shape."""

    def __init__(
        self, app: ASGIApp, *, gate: Gate, rule: Rule, refuse: Refuse, token: Callable[[Scope], str] = in_headers
    ) -> None:
        self._app = app
        self._gate = gate
        self._rule = rule
        self._refuse = refuse
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves the request for its caller, or answers 401, 403 or 503."""
        if scope["type"] == "lifespan" or not self._gate.demanded:
            return await self._app(scope, receive, send)
        try:
            caller = await self._caller(scope)
        except TracestoneError as error:
            return await self._refused(scope, error)(scope, receive, send)
        except Exception:
            logger.exception("an API key could not be checked", extra={"action": "check_key"})
            return await self._refused(scope, Unavailable("Try again."))(scope, receive, send)
        CALLER.set(caller)
        await self._app(scope, receive, send)

    async def _caller(self, scope: Scope) -> Caller:
        need = self._rule(scope)
        token = self._token(scope)
        if need.scope is None:
            try:
                return self._gate.known(token) or await self._gate.check(token)
            except (Rejected, Unavailable):
                return _NOBODY
        return await self._gate.admit(token, need.scope, bound=need.bound)

    def _refused(self, scope: Scope, error: TracestoneError) -> Response:
        response = self._refuse(scope, error)
        if isinstance(error, Unauthenticated):
            for challenge in _CHALLENGES:
                response.headers.append("WWW-Authenticate", challenge)
        return response
