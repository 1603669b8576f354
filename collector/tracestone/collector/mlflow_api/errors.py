"""Our errors in MLflow's terms: `{"error_code": …, "message": …}` with the status that its client expects."""

import functools
import logging
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tracestone.collector import freshness
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

Handler = Callable[[Request], Awaitable[Response]]

# The first class that fits decides.
_TABLE: tuple[tuple[type[TracestoneError], int, str], ...] = (
    (Unauthenticated, 401, "UNAUTHENTICATED"),
    (Forbidden, 403, "PERMISSION_DENIED"),
    (TooLarge, 413, "INVALID_PARAMETER_VALUE"),
    (NotFound, 404, "RESOURCE_DOES_NOT_EXIST"),
    (Conflict, 400, "RESOURCE_ALREADY_EXISTS"),
    (Invalid, 400, "INVALID_PARAMETER_VALUE"),
    (Rejected, 400, "BAD_REQUEST"),
    (Unavailable, 503, "TEMPORARILY_UNAVAILABLE"),
    (TracestoneError, 500, "INTERNAL_ERROR"),
)


def answering(handler: Handler) -> Handler:
    """The handler, with every error answered in MLflow's shape; what nobody foresaw is logged, not shown."""

    @functools.wraps(handler)
    async def answering_handler(request: Request) -> Response:
        freshness.begin()
        try:
            answer = await handler(request)
        except TracestoneError as error:
            return response(freshness.honest(error))
        except Exception:
            logger.exception(
                "request to the MLflow API failed",
                extra={"action": "mlflow_api_failed", "method": request.method, "route": handler.__name__},
            )
            return _json(500, "INTERNAL_ERROR", "The server failed to answer; its log says why.")
        if freshness.is_behind():
            answer.headers[freshness.HEADER] = "1"
        return answer

    return answering_handler


def response(error: TracestoneError) -> Response:
    """The answer to one of our errors."""
    status, code = next((status, code) for kind, status, code in _TABLE if isinstance(error, kind))
    answer = _json(status, code, str(error))
    if isinstance(error, Unavailable):
        answer.headers["Retry-After"] = str(max(1, round(error.retry_after)))
    return answer


def no_such_endpoint(method: str, path: str) -> Response:
    """The answer where MLflow has an endpoint that we do not have, or nobody has one."""
    return _json(404, "ENDPOINT_NOT_FOUND", f"No API found for '{method} {path[:200]}'")


def _json(status: int, code: str, message: str) -> JSONResponse:
    return JSONResponse({"error_code": code, "message": message}, status_code=status)
