"""What our own JSON APIs share: reading a body, and answering errors as RFC 9457 problem documents."""

import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from tracestone.schema.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    Rejected,
    TooLarge,
    TracestoneError,
    Unauthenticated,
    Unavailable,
)

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 1024 * 1024

Handler = Callable[[Request], Awaitable[Response]]

# The first class that fits decides.
_STATUS: tuple[tuple[type[TracestoneError], int, str], ...] = (
    (Unauthenticated, 401, "Unauthenticated"),
    (Forbidden, 403, "Forbidden"),
    (TooLarge, 413, "Too large"),
    (NotFound, 404, "Not found"),
    (Conflict, 409, "Conflict"),
    (Invalid, 422, "Invalid"),
    (Rejected, 400, "Rejected"),
    (Unavailable, 503, "Unavailable"),
    (TracestoneError, 500, "Internal error"),
)


def answering(handler: Handler, name: str) -> Handler:
    """The handler, with every error answered as a problem; what nobody foresaw is logged, not shown."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except TracestoneError as error:
            return problem(error)
        except ClientDisconnect:
            return Response(status_code=400)
        except Exception:
            logger.exception("request to the API failed", extra={"method": request.method, "route": name})
            return _document(500, "Internal error", "The server failed to answer; its log says why.")

    return answer


async def body(request: Request) -> dict[str, Any]:
    """The JSON object in a request's body. Raises Invalid, TooLarge."""
    received = bytearray()
    async for chunk in request.stream():
        received += chunk
        if len(received) > MAX_BODY_BYTES:
            raise TooLarge(f"The body is larger than {MAX_BODY_BYTES} bytes.")
    try:
        document = json.loads(received)
    except (ValueError, RecursionError) as error:
        raise Invalid("body", "is not valid JSON") from error
    if not isinstance(document, dict):
        raise Invalid("body", "must be a JSON object")
    if "\\u0000" in json.dumps(document):
        raise Invalid("body", "holds the character U+0000, which cannot be stored")
    return document


def problem(error: TracestoneError) -> Response:
    """The answer to one of our errors."""
    status, title = next((status, title) for kind, status, title in _STATUS if isinstance(error, kind))
    answer = _document(status, title, str(error), field=error.field if isinstance(error, Invalid) else "")
    if isinstance(error, Unavailable):
        answer.headers["Retry-After"] = str(max(1, round(error.retry_after)))
    return answer


def _document(status: int, title: str, detail: str, *, field: str = "") -> Response:
    document = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    if field:
        document["field"] = field
    return JSONResponse(document, status, media_type="application/problem+json")
