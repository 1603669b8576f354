"""The queue of reviews over HTTP, as JSON. Errors are RFC 9457 problem documents.

GET   /api/v1/reviews?scorer=NAME&after=ID   what waits, up to 200, oldest first
POST  /api/v1/reviews/take                   {reviewer, scorer, id, minutes} -> the review, or 204 when none is free
GET   /api/v1/reviews/{id}                   one
POST  /api/v1/reviews/{id}/done              {reviewer, value, rationale} -> the assessment's id
POST  /api/v1/reviews/{id}/drop              {reviewer, reason} -> the assessment's id
POST  /api/v1/reviews/{id}/release           {reviewer} -> 204
"""

import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tracestone.collector import problems
from tracestone.collector.auth.caller import caller, visible
from tracestone.schema.errors import Invalid, NotFound
from tracestone.schema.reviews import MAX_REVIEWER_CHARACTERS, Review
from tracestone.schema.scorers.parameters import checked
from tracestone.schema.stores.assessments import AssessmentStore
from tracestone.schema.stores.reviews import TAKEN_SECONDS, ReviewStore
from tracestone.schema.stores.spans import SpanStore

Handler = Callable[["Deps", Request], Awaitable[Response]]


@dataclass(frozen=True)
class Deps:
    """What the handlers and the pages of reviews work with."""

    reviews: ReviewStore
    spans: SpanStore
    assessments: AssessmentStore


class _By(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    reviewer: str = Field(min_length=1, max_length=MAX_REVIEWER_CHARACTERS)


class _Take(_By):
    scorer: str | None = None
    id: int | None = Field(None, ge=1, lt=2**63)
    minutes: float = Field(TAKEN_SECONDS / 60, gt=0, le=24 * 60, allow_inf_nan=False)


class _Answer(_By):
    value: Any
    rationale: str = ""


class _Drop(_By):
    reason: str = Field(min_length=1)


def routes(deps: Deps) -> list[Route]:
    """The table of paths."""
    table: list[tuple[str, str, Handler]] = [
        ("GET", "/api/v1/reviews", _list),
        ("POST", "/api/v1/reviews/take", _take),
        ("GET", "/api/v1/reviews/{review_id}", _get),
        ("POST", "/api/v1/reviews/{review_id}/done", _done),
        ("POST", "/api/v1/reviews/{review_id}/drop", _drop),
        ("POST", "/api/v1/reviews/{review_id}/release", _release),
    ]
    return [
        Route(path, problems.answering(functools.partial(handler, deps), handler.__name__), methods=[method])
        for method, path, handler in table
    ]


def review_id_of(text: str) -> int:
    """The number in an address. Raises NotFound."""
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise NotFound(f"There is no review {text[:50]}.")
    return int(text)


async def visible_review(deps: Deps, review_id: int) -> Review:
    """One review of the caller's experiments. Raises NotFound, StorageDown."""
    review = await deps.reviews.get(review_id)
    if not visible(review.experiment_id):
        raise NotFound(f"There is no review {review_id} that waits.")
    return review


def key_told() -> dict[str, str]:
    """Which API key an answer came with, for the assessment's metadata."""
    return {"api_key": caller().key_id} if caller().key_id else {}


async def _list(deps: Deps, request: Request) -> Response:
    after = request.query_params.get("after", "0")
    if not (after.isascii() and after.isdigit() and len(after) <= 18):
        raise Invalid("after", "must be a number")
    found = await deps.reviews.page(int(after), request.query_params.get("scorer"), caller().experiments)
    return JSONResponse({"reviews": [shown(review) for review in found]})


async def _take(deps: Deps, request: Request) -> Response:
    asked = checked(_Take, await problems.body(request), "")
    review = await deps.reviews.take(
        asked.reviewer,
        review_id=asked.id,
        scorer=asked.scorer,
        among=caller().experiments,
        seconds=asked.minutes * 60,
    )
    return Response(status_code=204) if review is None else JSONResponse(await _asked(deps, review))


async def _get(deps: Deps, request: Request) -> Response:
    return JSONResponse(await _asked(deps, await _review(deps, request)))


async def _done(deps: Deps, request: Request) -> Response:
    said = checked(_Answer, await problems.body(request), "")
    review = await _review(deps, request)
    kept = await deps.reviews.done(review.review_id, said.reviewer, said.value, said.rationale, key_told())
    return JSONResponse({"assessment_id": kept.assessment_id})


async def _drop(deps: Deps, request: Request) -> Response:
    said = checked(_Drop, await problems.body(request), "")
    review = await _review(deps, request)
    kept = await deps.reviews.drop(review.review_id, said.reviewer, said.reason, key_told())
    return JSONResponse({"assessment_id": kept.assessment_id})


async def _release(deps: Deps, request: Request) -> Response:
    said = checked(_By, await problems.body(request), "")
    await deps.reviews.release((await _review(deps, request)).review_id, said.reviewer)
    return Response(status_code=204)


async def _review(deps: Deps, request: Request) -> Review:
    return await visible_review(deps, review_id_of(request.path_params["review_id"]))


async def _asked(deps: Deps, review: Review) -> dict[str, Any]:
    question = await deps.reviews.question(review)
    return shown(review) | {"question": question.question, "answer": question.verdict.model_dump(mode="json")}


def shown(review: Review) -> dict[str, Any]:
    """A review as JSON."""
    return {
        "id": review.review_id,
        "scorer": review.scorer_name,
        "version": review.scorer_version,
        "target": review.target_type,
        "experiment": review.experiment_id,
        "trace_id": review.trace_id,
        "span_id": review.span_id,
        "session_id": review.session_id,
        "probability": review.probability,
        "stratum": review.stratum,
        "taken_by": review.taken_by,
        "taken_until": None if review.taken_until is None else review.taken_until.isoformat(timespec="seconds"),
        "since": review.created_at.isoformat(timespec="seconds"),
    }
