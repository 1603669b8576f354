"""API keys over HTTP, as JSON; for keys with the scope admin. Errors are RFC 9457 problem documents.

    GET    /api/v1/keys?after=ID     up to 200 keys in order of their making, the revoked ones too
    POST   /api/v1/keys              {name, scopes, experiments, expires_in_days} -> 201, with its text
    DELETE /api/v1/keys/{id}         revokes it -> 200

`experiments` holds ids and names; a name that no experiment has makes one. Without it the key is good for all. The text
of a key, `key`, is told once. Times are milliseconds since the Unix epoch.
"""

import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tracestone.collector import problems
from tracestone.collector.auth.gate import Gate
from tracestone.collector.auth.making import make_key
from tracestone.schema.errors import Invalid
from tracestone.schema.keys import Key
from tracestone.schema.stores.experiments import ExperimentStore
from tracestone.schema.stores.keys import KeyStore

Handler = Callable[["Deps", Request], Awaitable[Response]]


@dataclass(frozen=True)
class Deps:
    """What the handlers work with."""

    keys: KeyStore
    experiments: ExperimentStore
    gate: Gate


def routes(deps: Deps) -> list[Route]:
    """The table of paths."""
    table: list[tuple[str, str, Handler]] = [
        ("GET", "/api/v1/keys", _list),
        ("POST", "/api/v1/keys", _create),
        ("DELETE", "/api/v1/keys/{key_id}", _revoke),
    ]
    return [
        Route(path, problems.answering(functools.partial(handler, deps), handler.__name__), methods=[method])
        for method, path, handler in table
    ]


async def _list(deps: Deps, request: Request) -> Response:
    found = await deps.keys.page(request.query_params.get("after", "")[:100])
    return JSONResponse({"keys": [key_json(key) for key in found]})


async def _create(deps: Deps, request: Request) -> Response:
    fields = await problems.body(request)
    unknown = sorted(fields.keys() - {"name", "scopes", "experiments", "expires_in_days"})
    if unknown:
        raise Invalid(unknown[0][:100], "is not known here")
    days = fields.get("expires_in_days")
    if days is not None and (isinstance(days, bool) or not isinstance(days, int | float)):
        raise Invalid("expires_in_days", "must be a number")
    key, token = await make_key(
        deps.keys,
        deps.experiments,
        name=_text(fields, "name"),
        scopes=_texts(fields, "scopes"),
        experiments=_texts(fields, "experiments") if fields.get("experiments") is not None else None,
        expires_in_days=days,
    )
    return JSONResponse({**key_json(key), "key": token}, 201, headers={"Cache-Control": "no-store"})


async def _revoke(deps: Deps, request: Request) -> Response:
    key = await deps.keys.revoke(request.path_params["key_id"])
    deps.gate.forget(key.key_id)
    return JSONResponse(key_json(key))


def key_json(key: Key) -> dict[str, Any]:
    """A key as the API shows it."""
    return {
        "id": key.key_id,
        "name": key.name,
        "scopes": sorted(key.scopes),
        "experiments": None if key.experiments is None else sorted(key.experiments),
        "created_at_ms": key.created_at_ms,
        "expires_at_ms": key.expires_at_ms,
        "revoked_at_ms": key.revoked_at_ms,
        "last_used_at_ms": key.last_used_at_ms,
    }


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise Invalid(name, "must be a text")
    return value


def _texts(fields: dict[str, Any], name: str) -> list[str]:
    values = fields.get(name)
    if not isinstance(values, list) or not all(
        isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)) for value in values
    ):
        raise Invalid(name, "must be a list of texts")
    return [str(value) for value in values]
