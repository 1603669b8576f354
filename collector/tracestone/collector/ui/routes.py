"""The paths of the pages. Each endpoint reads its address, fills its page, and renders it on a thread."""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from tracestone.collector import freshness
from tracestone.collector.answers import waiting
from tracestone.collector.auth.caller import check_visible
from tracestone.collector.ui import pages, trace_pages
from tracestone.collector.ui.headers import StrictHeaders
from tracestone.collector.ui.pages import Deps, MessagePage
from tracestone.collector.ui.render import STATIC, render
from tracestone.schema.errors import Invalid, NotFound, Unavailable
from tracestone.schema.stores.pages import Place, TraceFilter

logger = logging.getLogger(__name__)

MAX_FILTER = 2_000  # characters
EXPERIMENT_ID_MAX = 2**32 - 1

_TRACE_ID = re.compile(r"(?:tr-)?([0-9a-fA-F]{32})")
_SPAN_ID = re.compile(r"[0-9a-fA-F]{16}")

Endpoint = Callable[[Request], Awaitable[Response]]


def routes(deps: Deps) -> list[BaseRoute]:
    """The pages and their static files, to be mounted at the root."""

    async def experiments(request: Request) -> Response:
        return await html("experiments.html", await pages.experiments(deps))

    async def prices(request: Request) -> Response:
        return await html("prices.html", await pages.prices(deps))

    async def traces(request: Request) -> Response:
        wanted = TraceFilter(_state(request), _text(request, "name"), _text(request, "session"))
        page = await pages.traces(
            deps, _experiment_id(request), wanted, _place(request, "before"), _place(request, "after")
        )
        return await html("traces.html", page)

    async def sessions(request: Request) -> Response:
        page = await pages.sessions(deps, _experiment_id(request), _place(request, "before"))
        return await html("sessions.html", page)

    async def session(request: Request) -> Response:
        session_id = request.query_params.get("id", "")
        page = await pages.session(
            deps, _experiment_id(request), session_id, _place(request, "before"), _place(request, "after")
        )
        return await html("session.html", page)

    async def trace(request: Request) -> Response:
        experiment_id, trace_id, span_id = _experiment_id(request), _trace_id(request), _open_span(request)
        if request.query_params.get("part") == "rows":
            found = await trace_pages.rows(deps, experiment_id, trace_id, span_id, _row(request) or 0)
            return await html("_rows.html", found)
        return await html("trace.html", await trace_pages.trace(deps, experiment_id, trace_id, span_id, _row(request)))

    async def trace_anywhere(request: Request) -> Response:
        info = await pages.trace_info(deps, _trace_id(request), None)
        return RedirectResponse(pages.trace_href(info, _open_span(request)), status_code=307)

    async def span(request: Request) -> Response:
        pane = request.query_params.get("part") == "detail"
        page = await trace_pages.span(
            deps,
            _experiment_id(request),
            _trace_id(request),
            _span_id(request.path_params["span_id"]),
            whole=not pane,
        )
        return await html("_detail.html" if pane else "span.html", page)

    table: list[tuple[str, Endpoint]] = [
        ("/", experiments),
        ("/prices", prices),
        ("/experiments/{experiment_id}", traces),
        ("/experiments/{experiment_id}/sessions", sessions),
        ("/experiments/{experiment_id}/session", session),
        ("/experiments/{experiment_id}/traces/{trace_id}", trace),
        ("/experiments/{experiment_id}/traces/{trace_id}/spans/{span_id}", span),
        ("/traces/{trace_id}", trace_anywhere),
    ]
    strict = [Middleware(StrictHeaders)]
    found: list[BaseRoute] = [
        Route(path, answering(endpoint), methods=["GET"], middleware=strict) for path, endpoint in table
    ]
    return [*found, Mount("/static", _Static(directory=STATIC), middleware=strict)]


async def _honest(answering: Awaitable[Response]) -> Response:
    try:
        return await answering
    except NotFound as error:
        raise freshness.honest(error) from error


def _marked(response: Response) -> Response:
    if freshness.is_behind():
        response.headers[freshness.HEADER] = "1"
    return response


async def not_found(request: Request, error: Exception) -> Response:
    """For the application's exception handlers: an address that nothing answers."""
    return await _message(404, "Not found", "There is no page at this address.")


class _Static(StaticFiles):
    """Static files under addresses that change with their content."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        if response.status_code == 200 and b"v=" in scope["query_string"]:
            response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response


def answering(endpoint: Endpoint) -> Endpoint:
    """The endpoint, with the errors of our own tree as pages."""

    async def answer(request: Request) -> Response:
        freshness.begin()
        try:
            return _marked(await _honest(endpoint(request)))
        except NotFound as error:
            return await _message(404, "Not found", str(error))
        except Invalid as error:
            return await _message(400, "This address cannot be used", str(error))
        except Unavailable as error:
            logger.warning("page not served", extra={"path": request.url.path, "reason": str(error)})
            response = await _message(503, "Not available just now", f"{error}. Please try again in a moment.")
            response.headers.update(waiting(error))
            return response

    return answer


async def html(template: str, page: object, status: int = 200) -> Response:
    """A page, rendered."""
    # On a thread: a timeline of thousands of spans takes long enough to hold up the receiver.
    text = await asyncio.to_thread(render, template, page)
    return HTMLResponse(text, status, headers={"Cache-Control": "private, no-cache"})


async def _message(status: int, title: str, text: str) -> Response:
    return await html("message.html", MessagePage(title, (), text), status)


def _experiment_id(request: Request) -> int:
    text = request.path_params["experiment_id"]
    if not text.isascii() or not text.isdigit() or len(text) > 10 or int(text) > EXPERIMENT_ID_MAX:
        raise NotFound("The id of an experiment is a whole number.")
    check_visible(int(text))
    return int(text)


def _trace_id(request: Request) -> str:
    match = _TRACE_ID.fullmatch(request.path_params["trace_id"])
    if match is None:
        raise NotFound("The id of a trace has 32 hexadecimal digits.")
    return match[1].lower()


def _open_span(request: Request) -> str:
    span_id = _text(request, "span")
    return _span_id(span_id) if span_id else ""


def _span_id(text: str) -> str:
    if _SPAN_ID.fullmatch(text) is None:
        raise NotFound("The id of a span has 16 hexadecimal digits.")
    return text.lower()


def _place(request: Request, name: str) -> Place | None:
    text = _text(request, name)
    return pages.parse_place(name, text) if text else None


def _row(request: Request) -> int | None:
    text = _text(request, "from")
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise Invalid("from", "is the number of a row, counted from 0")
    return int(text)


def _state(request: Request) -> str:
    state = _text(request, "state")
    if state and state not in pages.STATES:
        raise Invalid("state", f"must be one of {', '.join(pages.STATES)}")
    return state


def _text(request: Request, name: str) -> str:
    text = request.query_params.get(name, "")
    if len(text) > MAX_FILTER:
        raise Invalid(name, f"must have at most {MAX_FILTER} characters")
    return text
