"""Scoring jobs over HTTP, as JSON: how many there are, and those that were given up. Errors are RFC 9457 problems.

GET  /api/v1/jobs                              how many in each state, and what those that wait wait for
GET  /api/v1/jobs/dead?after=N&scorer=&code=   dead jobs, up to 200, oldest first
GET  /api/v1/jobs/dead/{id}                    one
POST /api/v1/jobs/dead/replay                  {ids} or {all: true, scorer, code}: tries them again
POST /api/v1/jobs/dead/drop                    the same: removes them for good
"""

import functools
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tracestone.collector import problems
from tracestone.schema.errors import Invalid, NotFound
from tracestone.schema.scorers.parameters import checked
from tracestone.schema.stores.dead_jobs import DeadJob, DeadJobStore
from tracestone.schema.stores.jobs import JobStore, Waiting

Handler = Callable[["Deps", Request], Awaitable[Response]]
_MOST_IDS = 10_000
_KEPT = (
    "scorer_version",
    "target_type",
    "span_id",
    "session_id",
    "failures",
    "deliveries",
    "calls",
    "cost_usd",
    "input_tokens",
    "output_tokens",
    "enqueued_at",
)


@dataclass(frozen=True)
class Deps:
    """What the handlers work with."""

    jobs: JobStore
    dead: DeadJobStore


class Chosen(BaseModel):
    """Which dead jobs a request is about: some by number, or all, of a scorer and with a code if these are given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ids: list[Annotated[int, Field(ge=1, lt=2**63)]] | None = Field(None, min_length=1, max_length=_MOST_IDS)
    all: bool = False
    scorer: str | None = Field(None, max_length=100)
    code: str | None = Field(None, max_length=100)

    @model_validator(mode="after")
    def _one_of_both(self) -> "Chosen":
        if self.all == (self.ids is not None):
            raise ValueError("give ids, or all: true")
        return self


def routes(deps: Deps) -> list[Route]:
    """The table of paths."""
    table: list[tuple[str, str, Handler]] = [
        ("GET", "/api/v1/jobs", _states),
        ("GET", "/api/v1/jobs/dead", _list),
        ("POST", "/api/v1/jobs/dead/replay", _replay),
        ("POST", "/api/v1/jobs/dead/drop", _drop),
        ("GET", "/api/v1/jobs/dead/{dead_id}", _get),
    ]
    return [
        Route(path, problems.answering(functools.partial(handler, deps), handler.__name__), methods=[method])
        for method, path, handler in table
    ]


def shown(job: DeadJob) -> dict[str, Any]:
    """A dead job as JSON: its target, what it died of, how often it was tried and what that cost."""
    told = asdict(job)
    row = told.pop("job")
    return {**told, "died_at": job.died_at.isoformat(), **{name: row.get(name) for name in _KEPT}}


def waiting(each: Waiting) -> dict[str, Any]:
    """What jobs wait for as JSON."""
    return {**asdict(each), "resumes_at": each.resumes_at.isoformat()}


async def _states(deps: Deps, request: Request) -> Response:
    states, waits = await deps.jobs.by_state(), await deps.jobs.waits()
    return JSONResponse({"states": states, "waits": [waiting(each) for each in waits]})


async def _list(deps: Deps, request: Request) -> Response:
    asked = request.query_params
    after = _number(asked.get("after", "0"))
    if after is None:
        raise Invalid("after", "must be the number of a dead job")
    found = await deps.dead.page(after, asked.get("scorer"), asked.get("code"))
    return JSONResponse({"dead_jobs": [shown(job) for job in found]})


async def _get(deps: Deps, request: Request) -> Response:
    text = request.path_params["dead_id"]
    number = _number(text)
    if number is None:
        raise NotFound(f"There is no dead job {text[:50]}.")
    return JSONResponse(shown(await deps.dead.get(number)))


async def _replay(deps: Deps, request: Request) -> Response:
    chosen = checked(Chosen, await problems.body(request), "")
    return JSONResponse({"replayed": await deps.dead.replay(chosen.ids, chosen.scorer, chosen.code)})


async def _drop(deps: Deps, request: Request) -> Response:
    chosen = checked(Chosen, await problems.body(request), "")
    return JSONResponse({"dropped": await deps.dead.drop(chosen.ids, chosen.scorer, chosen.code)})


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None
