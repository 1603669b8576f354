"""Backfills over HTTP, as JSON. Errors are RFC 9457 problem documents.

GET   /api/v1/backfills               the newest, with their progress
POST  /api/v1/backfills               {scorer, since, until, experiment, target, filter, sample_rate, ...} -> 201
POST  /api/v1/backfills/estimate      the same: what it would come to; nothing is started
GET   /api/v1/backfills/{id}          one
POST  /api/v1/backfills/{id}/{verb}   pause, resume or cancel
"""

import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tracestone.collector import problems
from tracestone.schema.backfilling import BackfillSetup
from tracestone.schema.backfills import Backfill, Estimate, State
from tracestone.schema.errors import NotFound

Handler = Callable[["Deps", Request], Awaitable[Response]]

_VERBS: dict[str, State] = {"pause": "paused", "resume": "running", "cancel": "cancelled"}


@dataclass(frozen=True)
class Deps:
    """What the handlers work with."""

    setup: BackfillSetup


def routes(deps: Deps) -> list[Route]:
    """The table of paths."""
    table: list[tuple[str, str, Handler]] = [
        ("GET", "/api/v1/backfills", _list),
        ("POST", "/api/v1/backfills", _start),
        ("POST", "/api/v1/backfills/estimate", _estimate),
        ("GET", "/api/v1/backfills/{backfill_id}", _get),
        ("POST", "/api/v1/backfills/{backfill_id}/{verb}", _change),
    ]
    return [
        Route(path, problems.answering(functools.partial(handler, deps), handler.__name__), methods=[method])
        for method, path, handler in table
    ]


async def _list(deps: Deps, request: Request) -> Response:
    return JSONResponse({"backfills": [_shown(backfill) for backfill in await deps.setup.store.latest()]})


async def _start(deps: Deps, request: Request) -> Response:
    backfill, estimate = await deps.setup.start(await problems.body(request))
    return JSONResponse(_shown(backfill) | {"estimate": _estimated(estimate)}, 201)


async def _estimate(deps: Deps, request: Request) -> Response:
    return JSONResponse(_estimated(await deps.setup.estimate(await problems.body(request))))


async def _get(deps: Deps, request: Request) -> Response:
    backfill = await deps.setup.store.get(_number(request))
    unfinished = await deps.setup.store.unfinished(backfill)
    return JSONResponse(_shown(backfill) | {"unfinished_jobs": unfinished})


async def _change(deps: Deps, request: Request) -> Response:
    verb = request.path_params["verb"]
    if verb not in _VERBS:
        raise NotFound(f"A backfill can {', '.join(_VERBS)}; {verb[:50]} is none of them.")
    return JSONResponse(_shown(await deps.setup.store.set_state(_number(request), _VERBS[verb])))


def _number(request: Request) -> int:
    text = request.path_params["backfill_id"]
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise NotFound(f"There is no backfill {text[:50]}.")
    return int(text)


def _shown(backfill: Backfill) -> dict[str, Any]:
    config = backfill.config
    return {
        "id": backfill.backfill_id,
        "scorer": config.scorer_name,
        "version": backfill.version,
        "experiment": config.experiment_id,
        "target": config.target_type,
        "since": _moment(backfill.from_ns),
        "until": _moment(backfill.to_ns),
        "filter": config.filter,
        "sample_rate": config.sample_rate,
        "per_minute": backfill.per_minute,
        "state": backfill.state,
        "targets": backfill.targets,
        "taken_up": backfill.chosen,
        "enqueued": backfill.enqueued,
        "error": backfill.error,
    }


def _estimated(estimate: Estimate) -> dict[str, Any]:
    return {
        "found": estimate.found,
        "chosen": estimate.chosen,
        "usd": estimate.usd,
        "usd_each": estimate.usd_each,
        "tokens_each": estimate.tokens_each,
        "from_verdicts": estimate.verdicts,
    }


def _moment(nanoseconds: int) -> str:
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC).isoformat(timespec="milliseconds")
