"""The HTTP applications: what is mounted on which port, and the health of the whole."""

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from tracestone.collector import scoring_api
from tracestone.collector.mlflow_api import routes as mlflow_routes
from tracestone.collector.receiver.http import HttpReceiver
from tracestone.collector.ui import routes as ui_routes
from tracestone.collector.ui.pages import Deps as PageDeps

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
    return Starlette(routes=receiver.routes())


def main_app(
    receiver: HttpReceiver,
    mlflow: mlflow_routes.Deps,
    scoring: scoring_api.Deps,
    pages: PageDeps,
    health: Health,
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
    return Starlette(routes=routes, exception_handlers={404: ui_routes.not_found})
