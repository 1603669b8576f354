"""Scorers and their online configurations over HTTP, as JSON. Errors are RFC 9457 problem documents.

    GET    /api/v1/scorers?after=NAME                     the latest version of each, in order of name
    POST   /api/v1/scorers                                {name, kind, parameters} -> 201, or 200 unchanged
    GET    /api/v1/scorers/{name}                         the latest version, with its online configurations
    GET    /api/v1/scorers/{name}/versions?before=N       the versions, newest first
    GET    /api/v1/scorers/{name}/versions/{version}      one version
    GET    /api/v1/scorers/{name}/online                  the online configurations
    PUT    /api/v1/scorers/{name}/online/{experiment}     {version, target, sample_rate, filter, strata, ...}: sets it
    DELETE /api/v1/scorers/{name}/online/{experiment}     ends it

`{experiment}` is an id, or `all`.
"""

import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tracestone.collector import problems
from tracestone.schema.errors import Invalid, NotFound
from tracestone.schema.online import OnlineSetup
from tracestone.schema.scorers.definition import Scorer
from tracestone.schema.scorers.online import OnlineConfig
from tracestone.schema.stores.scorers import ScorerStore

Handler = Callable[["Deps", Request], Awaitable[Response]]


@dataclass(frozen=True)
class Deps:
    """What the handlers work with."""

    scorers: ScorerStore
    setup: OnlineSetup


def routes(deps: Deps) -> list[Route]:
    """The table of paths."""
    table: list[tuple[str, str, Handler]] = [
        ("GET", "/api/v1/scorers", _list),
        ("POST", "/api/v1/scorers", _define),
        ("GET", "/api/v1/scorers/{name}", _get),
        ("GET", "/api/v1/scorers/{name}/versions", _versions),
        ("GET", "/api/v1/scorers/{name}/versions/{version}", _version),
        ("GET", "/api/v1/scorers/{name}/online", _configs),
        ("PUT", "/api/v1/scorers/{name}/online/{experiment}", _put_config),
        ("DELETE", "/api/v1/scorers/{name}/online/{experiment}", _delete_config),
    ]
    return [
        Route(path, problems.answering(functools.partial(handler, deps), handler.__name__), methods=[method])
        for method, path, handler in table
    ]


async def _list(deps: Deps, request: Request) -> Response:
    found = await deps.scorers.latest(request.query_params.get("after", ""))
    return JSONResponse({"scorers": [_scorer(scorer) for scorer in found]})


async def _define(deps: Deps, request: Request) -> Response:
    document = await problems.body(request)
    before = await _latest_version(deps, document.get("name"))
    scorer = await deps.setup.define(document)
    return JSONResponse(_scorer(scorer), 200 if scorer.version == before else 201)


async def _get(deps: Deps, request: Request) -> Response:
    scorer = await deps.scorers.get(request.path_params["name"])
    configs = await deps.scorers.configs(scorer.name)
    return JSONResponse(_scorer(scorer) | {"online": [_config(config) for config in configs]})


async def _versions(deps: Deps, request: Request) -> Response:
    before = request.query_params.get("before")
    bound = None if before is None else _number("before", before)
    found = await deps.scorers.versions(request.path_params["name"], bound)
    return JSONResponse({"versions": [_scorer(scorer) for scorer in found]})


async def _version(deps: Deps, request: Request) -> Response:
    version = _number("version", request.path_params["version"])
    return JSONResponse(_scorer(await deps.scorers.get(request.path_params["name"], version)))


async def _configs(deps: Deps, request: Request) -> Response:
    scorer = await deps.scorers.get(request.path_params["name"])
    configs = await deps.scorers.configs(scorer.name)
    return JSONResponse({"online": [_config(config) for config in configs]})


async def _put_config(deps: Deps, request: Request) -> Response:
    document = await problems.body(request)
    if "experiment" in document:
        raise Invalid("experiment", "is given by the path")
    experiment = _experiment(request.path_params["experiment"])
    config = await deps.setup.put(request.path_params["name"], document | {"experiment": experiment})
    return JSONResponse(_config(config))


async def _delete_config(deps: Deps, request: Request) -> Response:
    await deps.scorers.delete_config(request.path_params["name"], _experiment(request.path_params["experiment"]))
    return Response(status_code=204)


async def _latest_version(deps: Deps, name: object) -> int | None:
    if not isinstance(name, str):
        return None
    try:
        return (await deps.scorers.get(name)).version
    except NotFound:
        return None


def _experiment(text: str) -> int | None:
    return None if text == "all" else _number("experiment", text)


def _number(field: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise Invalid(field, "must be a number")
    return int(text)


def _scorer(scorer: Scorer) -> dict[str, Any]:
    return {
        "name": scorer.name,
        "version": scorer.version,
        "kind": scorer.kind,
        "parameters": scorer.parameters.model_dump(mode="json"),
        "created_at_ms": scorer.created_at_ms,
    }


def _config(config: OnlineConfig) -> dict[str, Any]:
    return {
        "scorer": config.scorer_name,
        "experiment": "all" if config.experiment_id is None else config.experiment_id,
        "version": config.version,
        "target": config.target_type,
        "sample_rate": config.sample_rate,
        "filter": config.filter,
        "strata": [stratum.model_dump() for stratum in config.strata],
        "salt": config.salt,
        "idle_seconds": config.idle_seconds,
        "priority": config.priority,
        "after": config.after,
        "after_version": config.after_version,
        "concurrency": config.concurrency,
        "fair_by": config.fair_by,
        "fair_per_hour": config.fair_per_hour,
        "last_error": config.last_error,
    }
