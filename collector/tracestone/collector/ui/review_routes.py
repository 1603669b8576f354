"""The paths of the queue of reviews. A person's answer is a form; after it comes the next question."""

from urllib.parse import parse_qs

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from tracestone.collector.auth.caller import caller
from tracestone.collector.problems import received_within
from tracestone.collector.reviews_api import Deps, key_told, review_id_of, visible_review
from tracestone.collector.ui import review_pages
from tracestone.collector.ui.headers import StrictHeaders
from tracestone.collector.ui.routes import Endpoint, answering, html
from tracestone.schema.errors import Conflict, Invalid
from tracestone.schema.reviews import answer_from_text

_MAX_FORM_BYTES = 1024 * 1024


def routes(deps: Deps) -> list[BaseRoute]:
    """The list, the way to the next one, one with its form, and the answer."""

    async def reviews(request: Request) -> Response:
        return await html("reviews.html", await review_pages.reviews(deps, _reviewer(request)))

    async def take(request: Request) -> Response:
        return await _next(deps, (await _form(request)).get("reviewer", ""))

    async def review(request: Request) -> Response:
        page = await review_pages.review(deps, review_id_of(request.path_params["review_id"]), _reviewer(request))
        return await html("review.html", page)

    async def answer(request: Request) -> Response:
        form = await _form(request)
        review_id, reviewer = review_id_of(request.path_params["review_id"]), form.get("reviewer", "")
        try:
            await _answer(deps, review_id, reviewer, form)
        except (Invalid, Conflict) as error:
            page = await review_pages.review(deps, review_id, reviewer, str(error))
            return await html("review.html", page, 409 if isinstance(error, Conflict) else 400)
        return await _next(deps, reviewer)

    table: list[tuple[str, str, Endpoint]] = [
        ("GET", "/reviews", reviews),
        ("POST", "/reviews/take", take),
        ("GET", "/reviews/{review_id}", review),
        ("POST", "/reviews/{review_id}", answer),
    ]
    strict = [Middleware(StrictHeaders)]
    return [Route(path, answering(endpoint), methods=[method], middleware=strict) for method, path, endpoint in table]


async def _next(deps: Deps, reviewer: str) -> Response:
    """To the most urgent one that is free, or to the list."""
    taken = await deps.reviews.take(reviewer, among=caller().experiments)
    href = "/reviews" if taken is None else review_pages.review_href(taken.review_id, reviewer)
    return RedirectResponse(href, status_code=303)


async def _answer(deps: Deps, review_id: int, reviewer: str, form: dict[str, str]) -> None:
    review = await visible_review(deps, review_id)
    rationale = form.get("rationale", "")
    if form.get("action") == "drop":
        await deps.reviews.drop(review_id, reviewer, rationale or "put aside", key_told())
        return
    verdict = (await deps.reviews.question(review)).verdict
    value = answer_from_text(verdict, form.get("value", ""))
    await deps.reviews.done(review_id, reviewer, value, rationale, key_told())


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form as a browser sends it. Raises Invalid, TooLarge."""
    received = await received_within(request, _MAX_FORM_BYTES, "form")
    try:
        fields = parse_qs(received.decode(), keep_blank_values=True, strict_parsing=bool(received), max_num_fields=20)
    except ValueError as error:
        raise Invalid("form", "cannot be read") from error
    return {name: values[0] for name, values in fields.items()}


def _reviewer(request: Request) -> str:
    return request.query_params.get("as", "")[:200]
