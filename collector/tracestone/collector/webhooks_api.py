"""Webhooks over HTTP, as JSON, for keys with the scope admin. Errors are RFC 9457 problem documents.

GET    /api/v1/webhooks                 every webhook, with what waits and what is dead; no secrets
POST   /api/v1/webhooks                 {name, url, events, …}: sets one -> 201 with its secret, this once, or 200
DELETE /api/v1/webhooks/{name}          ends one, with what waits for it
POST   /api/v1/webhooks/{name}/test     sends it something
POST   /api/v1/webhooks/{name}/replay   its dead deliveries begin anew
POST   /api/v1/webhooks/{name}/secret   another secret, shown this once
"""

import functools
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tracestone.collector import problems
from tracestone.schema.webhook_setup import WebhookSetup
from tracestone.schema.webhooks import WebhookState

Handler = Callable[["Deps", Request], Awaitable[Response]]


@dataclass(frozen=True)
class Deps:
    """What the handlers work with."""

    setup: WebhookSetup


def routes(deps: Deps) -> list[Route]:
    """The table of paths."""
    table: list[tuple[str, str, Handler]] = [
        ("GET", "/api/v1/webhooks", _list),
        ("POST", "/api/v1/webhooks", _set),
        ("DELETE", "/api/v1/webhooks/{name}", _remove),
        ("POST", "/api/v1/webhooks/{name}/test", _test),
        ("POST", "/api/v1/webhooks/{name}/replay", _replay),
        ("POST", "/api/v1/webhooks/{name}/secret", _renew),
    ]
    return [
        Route(path, problems.answering(functools.partial(handler, deps), handler.__name__), methods=[method])
        for method, path, handler in table
    ]


def shown(state: WebhookState) -> dict[str, Any]:
    """A webhook as JSON: what it was set to, `waiting` and `dead` deliveries and the `last_error`."""
    document = asdict(state)
    document["events"] = list(state.events)
    document["scorer"] = state.scorer or None
    document["experiment"] = document.pop("experiment_id")
    document["last_error"] = document.pop("error")
    return document


async def _list(deps: Deps, request: Request) -> Response:
    return JSONResponse({"webhooks": [shown(state) for state in await deps.setup.store.states()]})


async def _set(deps: Deps, request: Request) -> Response:
    state, secret = await deps.setup.set(await problems.body(request))
    return JSONResponse(shown(state) | ({"secret": secret} if secret else {}), 201 if secret else 200)


async def _remove(deps: Deps, request: Request) -> Response:
    await deps.setup.store.remove(request.path_params["name"])
    return Response(status_code=204)


async def _test(deps: Deps, request: Request) -> Response:
    await deps.setup.test(request.path_params["name"])
    return JSONResponse({"queued": 1}, 202)


async def _replay(deps: Deps, request: Request) -> Response:
    return JSONResponse({"replayed": await deps.setup.store.replay(request.path_params["name"])})


async def _renew(deps: Deps, request: Request) -> Response:
    return JSONResponse({"secret": await deps.setup.store.renew(request.path_params["name"])})
