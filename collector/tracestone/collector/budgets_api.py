"""Budgets of judges over HTTP, as JSON. Errors are RFC 9457 problem documents. Keys with the scope admin may change.

GET    /api/v1/budgets         every budget as it stands
POST   /api/v1/budgets         {usd | tokens, per, scorer, experiment}: sets one -> 201, or 200 when it was there
DELETE /api/v1/budgets/{id}    ends one; what waits for it goes on
"""

import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tracestone.collector import problems
from tracestone.schema.budgeting import BudgetSetup
from tracestone.schema.budgets import BudgetState
from tracestone.schema.errors import NotFound

Handler = Callable[["Deps", Request], Awaitable[Response]]


@dataclass(frozen=True)
class Deps:
    """What the handlers work with."""

    setup: BudgetSetup


def routes(deps: Deps) -> list[Route]:
    """The table of paths."""
    table: list[tuple[str, str, Handler]] = [
        ("GET", "/api/v1/budgets", _list),
        ("POST", "/api/v1/budgets", _set),
        ("DELETE", "/api/v1/budgets/{budget_id}", _remove),
    ]
    return [
        Route(path, problems.answering(functools.partial(handler, deps), handler.__name__), methods=[method])
        for method, path, handler in table
    ]


def shown(state: BudgetState) -> dict[str, Any]:
    """A budget as JSON: cap, spent, reserved and left in its unit, times in UTC."""
    budget, out = state.budget, state.ends_at_this_rate
    return {
        "id": budget.budget_id,
        "scorer": budget.scorer or None,
        "experiment": budget.experiment_id,
        "unit": budget.unit,
        "per": budget.period,
        "cap": budget.cap,
        "spent": state.spent,
        "reserved": state.reserved,
        "left": state.left,
        "period_start": state.starts.isoformat(),
        "period_end": state.ends.isoformat(),
        "spent_out_at": None if out is None else out.isoformat(timespec="seconds"),
        "waiting_jobs": state.waiting,
    }


async def _list(deps: Deps, request: Request) -> Response:
    return JSONResponse({"budgets": [shown(state) for state in await deps.setup.store.states()]})


async def _set(deps: Deps, request: Request) -> Response:
    state, new = await deps.setup.set(await problems.body(request))
    return JSONResponse(shown(state), 201 if new else 200)


async def _remove(deps: Deps, request: Request) -> Response:
    text = request.path_params["budget_id"]
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise NotFound(f"There is no budget {text[:50]}.")
    await deps.setup.store.remove(int(text))
    return Response(status_code=204)
