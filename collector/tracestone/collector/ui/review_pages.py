"""The pages of the queue of reviews: one documented context each, and how it is filled."""

from dataclasses import dataclass
from urllib.parse import urlencode

from tracestone.collector.auth.caller import caller
from tracestone.collector.reviews_api import Deps, visible_review
from tracestone.collector.ui.pages import Crumb
from tracestone.schema import clock
from tracestone.schema.assessments import Assessment
from tracestone.schema.reviews import Review, expected
from tracestone.schema.scorers.verdicts import PlainVerdict
from tracestone.schema.traces import TraceInfo

SHOWN = 50


@dataclass(frozen=True)
class Waiting:
    """A review in the list, with the address of its page."""

    review: Review
    href: str


@dataclass(frozen=True)
class ReviewsPage:
    """`/reviews`: what waits, oldest first; `more` says that it is not all. `reviewer` is who looks, if known."""

    title: str
    crumbs: tuple[Crumb, ...]
    rows: tuple[Waiting, ...]
    more: bool
    reviewer: str
    now_ns: int


@dataclass(frozen=True)
class ReviewPage:
    """`/reviews/{id}`: one question, the target, what others say of it, and the form of the answer.

    `info` is the trace, None of a session or when it is not stored any more. `problem` says why an answer was refused.
    """

    title: str
    crumbs: tuple[Crumb, ...]
    review: Review
    question: str
    verdict: PlainVerdict
    expected: str
    target_href: str
    info: TraceInfo | None
    assessments: tuple[Assessment, ...]
    reviewer: str
    problem: str
    now_ns: int


def review_href(review_id: int, reviewer: str) -> str:
    """The address of one; the name of who answers goes along."""
    return f"/reviews/{review_id}" + (f"?{urlencode({'as': reviewer})}" if reviewer else "")


async def reviews(deps: Deps, reviewer: str) -> ReviewsPage:
    """Raises StorageDown."""
    found = await deps.reviews.page(among=caller().experiments)
    rows = tuple(Waiting(each, review_href(each.review_id, reviewer)) for each in found[:SHOWN])
    crumbs = (Crumb("Reviews", "/reviews"),)
    return ReviewsPage("Reviews", crumbs, rows, len(found) > SHOWN, reviewer, clock.now_ns())


async def review(deps: Deps, review_id: int, reviewer: str, problem: str = "") -> ReviewPage:
    """Raises NotFound, StorageDown."""
    found = await visible_review(deps, review_id)
    question = await deps.reviews.question(found)
    if found.trace_id:
        info = await deps.spans.info(found.trace_id, found.experiment_id)
        said = await deps.assessments.by_trace(found.experiment_id, found.trace_id)
        said = [each for each in said if each.span_id == found.span_id]
    else:
        info, said = None, await deps.assessments.by_session(found.experiment_id, found.session_id)
    return ReviewPage(
        title=f"Review {review_id}",
        crumbs=(Crumb("Reviews", "/reviews"), Crumb(f"Review {review_id}", "")),
        review=found,
        question=question.question,
        verdict=question.verdict,
        expected=expected(question.verdict),
        target_href=_target_href(found),
        info=info,
        assessments=tuple(said),
        reviewer=reviewer,
        problem=problem,
        now_ns=clock.now_ns(),
    )


def _target_href(review: Review) -> str:
    base = f"/experiments/{review.experiment_id}"
    if review.session_id:
        return f"{base}/session?{urlencode({'id': review.session_id})}"
    return f"{base}/traces/{review.trace_id}" + (f"?span={review.span_id}" if review.span_id else "")
