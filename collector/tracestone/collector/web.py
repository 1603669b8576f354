"""The HTTP applications: what is mounted on which port, and the health of the whole."""

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Scope

from tracestone.collector import scoring_api
from tracestone.collector.mlflow_api import errors as mlflow_errors
from tracestone.collector.mlflow_api import routes as mlflow_routes
from tracestone.collector.receiver.answers import wrong_path
from tracestone.collector.receiver.http import HttpReceiver
from tracestone.collector.ui import routes as ui_routes
from tracestone.collector.ui.pages import Deps as PageDeps
from tracestone.collector.visitors import Visitors
from tracestone.schema.errors import Forbidden
from tracestone.schema.settings import Settings

_OPEN_PATHS = ("/health", "/v1/traces", "/v1/logs", "/v1/metrics")

Health = Callable[[], Awaitable[dict[str, str]]]


def health_route(parts: Health) -> Route:
    """`GET /health`: `parts` tells for every part what is wrong with it, "" when it works."""

    async def health(request: Request) -> JSONResponse:
        problems = await parts()
        broken = sorted(name for name, problem in problems.items() if problem)
        body: dict[str, Any] = {
            "status": "unavailable" if broken else "ok",
            "broken": broken,
            "parts": {name: {"ok": not problem, "problem": problem} for name, problem in problems.items()},
        }
        return JSONResponse(body, status_code=503 if broken else 200)

    return Route("/health", health, methods=["GET"])


def otlp_app(receiver: HttpReceiver) -> Starlette:
    """The OTLP/HTTP port."""
    return Starlette(routes=receiver.routes(), exception_handlers={404: wrong_path})


def main_app(
    receiver: HttpReceiver,
    mlflow: mlflow_routes.Deps,
    scoring: scoring_api.Deps,
    pages: PageDeps,
    health: Health,
    settings: Settings,
) -> Starlette:
    """The main port: health, OTLP (where MLflow's client sends it), both APIs, the pages."""
    routes: list[BaseRoute] = [
        health_route(health),
        *receiver.routes(),
        *scoring_api.routes(scoring),
        *mlflow_routes.routes(mlflow),
        *mlflow_routes.fallback(),
        *ui_routes.routes(pages),
    ]
    guard = Middleware(Visitors, settings=settings, refuse=_forbidden, open_paths=_OPEN_PATHS)
    return Starlette(routes=routes, exception_handlers={404: ui_routes.not_found}, middleware=[guard])


def _forbidden(scope: Scope, error: Forbidden) -> Response:
    """The refusal in the shape of what was asked for."""
    path = scope["path"]
    if path.startswith("/api/v1/"):
        return scoring_api.problem(error)
    if path.startswith(("/api/", "/ajax-api/")):
        return mlflow_errors.response(error)
    return PlainTextResponse(f"{error}\n", status_code=403)
