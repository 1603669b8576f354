"""Our errors in MLflow's terms: `{"error_code": …, "message": …}` with the status that its client expects."""

import functools
import logging
from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tracestone.collector import freshness
from tracestone.collector.answers import UNFORESEEN, UNFORESEEN_TEXT, answer_to, waiting
from tracestone.schema.errors import TracestoneError

logger = logging.getLogger(__name__)

Handler = Callable[[Request], Awaitable[Response]]


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
            return _json(UNFORESEEN.mlflow_status, UNFORESEEN.mlflow_code, UNFORESEEN_TEXT)
        if freshness.is_behind():
            answer.headers[freshness.HEADER] = "1"
        return answer

    return answering_handler


def response(error: TracestoneError) -> Response:
    """The answer to one of our errors."""
    answer = answer_to(error)
    return _json(answer.mlflow_status, answer.mlflow_code, str(error), waiting(error))


def no_such_endpoint(method: str, path: str) -> Response:
    """The answer where MLflow has an endpoint that we do not have, or nobody has one."""
    return _json(404, "ENDPOINT_NOT_FOUND", f"No API found for '{method} {path[:200]}'")


def _json(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error_code": code, "message": message}, status, headers)
