"""What our own JSON APIs share: reading a body, and answering errors as RFC 9457 problem documents."""

import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from tracestone.collector.answers import UNFORESEEN, UNFORESEEN_TEXT, answer_to, waiting
from tracestone.schema.errors import Invalid, TooLarge, TracestoneError

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 1024 * 1024

Handler = Callable[[Request], Awaitable[Response]]


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
            return _document(UNFORESEEN.status, UNFORESEEN.title, UNFORESEEN_TEXT)

    return answer


async def received_within(request: Request, most: int, name: str) -> bytes:
    """A request's body of at most so many bytes; `name` says what it is. Raises TooLarge."""
    received = bytearray()
    async for chunk in request.stream():
        received += chunk
        if len(received) > most:
            raise TooLarge(f"The {name} is larger than {most} bytes.")
    return bytes(received)


async def body(request: Request) -> dict[str, Any]:
    """The JSON object in a request's body. Raises Invalid, TooLarge."""
    received = await received_within(request, MAX_BODY_BYTES, "body")
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
    answer = answer_to(error)
    response = _document(
        answer.status, answer.title, str(error), field=error.field if isinstance(error, Invalid) else ""
    )
    response.headers.update(waiting(error))
    return response


def _document(status: int, title: str, detail: str, *, field: str = "") -> Response:
    document = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    if field:
        document["field"] = field
    return JSONResponse(document, status, media_type="application/problem+json")
