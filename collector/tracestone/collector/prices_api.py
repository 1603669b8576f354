"""Prices and rewrites over HTTP, as JSON. Errors are RFC 9457 problem documents. Keys with the scope admin may change.

    GET    /api/v1/prices?model=TEXT&provider=NAME&scope=SCOPE&all_dates=1&after=N   up to 500 prices, from the Nth on
    POST   /api/v1/prices              {prices: [{model, provider, input, …, tiers, from, experiment}]}: sets them
    DELETE /api/v1/prices?model=NAME&provider=NAME&from=DAY&experiment=NAME          takes one back that was set
    GET    /api/v1/prices/unknown      models that spans used and no price is known for
    POST   /api/v1/reprice             {experiment, from, to, model}: computes the costs of stored spans anew -> 202
    POST   /api/v1/renormalise         {experiment, from, to}: fills the columns of stored spans anew -> 202
    GET    /api/v1/rewrites            the latest 50 of those, and how far they are
    DELETE /api/v1/rewrites/{id}       ends one; what it did stays

Prices are USD per million tokens, `image` USD for each; see schema/prices/given.py.
"""

import functools
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tracestone.collector import problems
from tracestone.collector.auth.caller import caller, visible
from tracestone.collector.rewrite.kinds import parameters
from tracestone.schema import clock, pricing
from tracestone.schema.errors import Invalid, NotFound
from tracestone.schema.prices import given
from tracestone.schema.prices.price import SCOPES
from tracestone.schema.prices.providers import provider_of
from tracestone.schema.pricing import Pricing
from tracestone.schema.stores.prices import PriceTable
from tracestone.schema.stores.rewrites import Rewrite, RewriteStore

Handler = Callable[["Deps", Request], Awaitable[Response]]

_PAGE = 500
_MOST_AT_ONCE = 1000
_LATEST = 50
_REWRITE_FIELDS = {"renormalise": {"experiment", "from", "to"}, "reprice": {"experiment", "from", "to", "model"}}
_REMOVE_FIELDS = ("model", "provider", "from", "experiment")


@dataclass(frozen=True)
class Deps:
    """What the handlers work with."""

    pricing: Pricing
    table: PriceTable
    rewrites: RewriteStore


def routes(deps: Deps) -> list[Route]:
    """The table of paths."""
    table: list[tuple[str, str, Handler]] = [
        ("GET", "/api/v1/prices", _list),
        ("POST", "/api/v1/prices", _set),
        ("DELETE", "/api/v1/prices", _remove),
        ("GET", "/api/v1/prices/unknown", _unknown),
        ("POST", "/api/v1/reprice", _reprice),
        ("POST", "/api/v1/renormalise", _renormalise),
        ("GET", "/api/v1/rewrites", _rewrites),
        ("DELETE", "/api/v1/rewrites/{rewrite_id}", _cancel),
    ]
    return [
        Route(path, problems.answering(functools.partial(handler, deps), handler.__name__), methods=[method])
        for method, path, handler in table
    ]


async def _list(deps: Deps, request: Request) -> Response:
    asked = request.query_params
    scope, after = asked.get("scope", ""), asked.get("after", "0")
    if scope not in ("", *SCOPES):
        raise Invalid("scope", f"must be one of {', '.join(SCOPES)}")
    if not after.isascii() or not after.isdigit() or len(after) > 9:
        raise Invalid("after", "must be a whole number")
    known = await deps.pricing.known()
    chosen = known if asked.get("all_dates") else pricing.in_force(known, clock.today())
    provider = provider_of(asked["provider"]) if asked.get("provider") else ""
    found = [
        price
        for price in pricing.matching(chosen, asked.get("model", ""), provider, scope)
        if price.scope != "experiment" or visible(price.experiment_id)
    ]
    shown = found[int(after) : int(after) + _PAGE]
    return JSONResponse({"prices": [given.shown(price) for price in shown], "total": len(found)})


async def _set(deps: Deps, request: Request) -> Response:
    fields = await problems.body(request)
    entries = fields.get("prices")
    if set(fields) != {"prices"} or not isinstance(entries, list) or not 0 < len(entries) <= _MOST_AT_ONCE:
        raise Invalid("prices", f"must be a list of 1 to {_MOST_AT_ONCE} prices, and nothing else")
    return JSONResponse({"prices": [given.shown(price) for price in await deps.pricing.set(entries, "set")]})


async def _remove(deps: Deps, request: Request) -> Response:
    await deps.pricing.remove({name: request.query_params.get(name) or None for name in _REMOVE_FIELDS})
    return Response(status_code=204)


async def _unknown(deps: Deps, request: Request) -> Response:
    found = await deps.table.unknown_models(caller().experiments)
    return JSONResponse({"models": [asdict(each) for each in found]})


async def _reprice(deps: Deps, request: Request) -> Response:
    return await _rewrite("reprice", deps, request)


async def _renormalise(deps: Deps, request: Request) -> Response:
    return await _rewrite("renormalise", deps, request)


async def _rewrite(kind: str, deps: Deps, request: Request) -> Response:
    fields = await problems.body(request)
    known = _REWRITE_FIELDS[kind]
    for name, value in fields.items():
        if name not in known:
            raise Invalid(name[:100], f"is not known here; known are {', '.join(sorted(known))}")
        if value is not None and (isinstance(value, bool) or not isinstance(value, str | int)):
            raise Invalid(name, "must be a text")
    texts = {name: "" if value is None else str(value) for name, value in fields.items()}
    scope, experiment_id = await deps.pricing.scope(texts.get("experiment", ""))
    chosen = parameters(
        experiment=experiment_id if scope == "experiment" else None,
        since=texts.get("from") or None,
        until=texts.get("to") or None,
        model=texts.get("model", ""),
    )
    return JSONResponse(_rewrite_json(await deps.rewrites.add(kind, chosen)), 202)


async def _rewrites(deps: Deps, request: Request) -> Response:
    return JSONResponse({"rewrites": [_rewrite_json(each) for each in await deps.rewrites.latest(_LATEST)]})


async def _cancel(deps: Deps, request: Request) -> Response:
    text = request.path_params["rewrite_id"]
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise NotFound(f"There is no rewrite {text[:50]}.")
    return JSONResponse(_rewrite_json(await deps.rewrites.cancel(int(text))))


def _rewrite_json(rewrite: Rewrite) -> dict[str, Any]:
    told = ("kind", "state", "spans_total", "spans_done", "spans_changed", "seconds", "error")
    return {"id": rewrite.rewrite_id, **{name: getattr(rewrite, name) for name in told}}
