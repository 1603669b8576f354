"""The HTTP applications: what is mounted on which port, and the health of the whole."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from tracestone.collector import (
    backfills_api,
    budgets_api,
    doors,
    jobs_api,
    keys_api,
    prices_api,
    reviews_api,
    scoring_api,
    webhooks_api,
)
from tracestone.collector.auth.caller import caller
from tracestone.collector.metrics import page
from tracestone.collector.mlflow_api import routes as mlflow_routes
from tracestone.collector.receiver.answers import wrong_path
from tracestone.collector.receiver.http import HttpReceiver
from tracestone.collector.ui import review_routes
from tracestone.collector.ui import routes as ui_routes
from tracestone.collector.ui.pages import Deps as PageDeps
from tracestone.collector.visitors import Hosts, Visitors
from tracestone.schema.settings import Settings

_OPEN_PATHS = ("/health", "/v1/traces", "/v1/logs", "/v1/metrics")
# A scraper reaches it by whatever name its service has.
_KEYED_PATHS = ("/metrics",)


@dataclass(frozen=True)
class Told:
    """What /health and /metrics ask: `health` and `backlogs` as `Collector` describes them.

    `warnings` are what somebody should see to although everything works.
    """

    health: Callable[[], Awaitable[dict[str, str]]]
    warnings: Callable[[], dict[str, str]]
    backlogs: Callable[[], dict[str, dict[str, Any]]]
    metrics: Callable[[], Awaitable[bytes]]


def metrics_route(told: Told) -> Route:
    """`GET /metrics`, for Prometheus."""

    async def answer(request: Request) -> Response:
        return Response(await told.metrics(), media_type=page.CONTENT_TYPE)

    return Route("/metrics", answer, methods=["GET"])


def health_route(told: Told, hosts: Hosts) -> Route:
    """`GET /health`: whether it works, for everybody; the whole for who may read and names one of `hosts`."""

    async def health(request: Request) -> JSONResponse:
        problems = await told.health()
        broken = sorted(name for name, problem in problems.items() if problem)
        known = hosts.serves(request.headers) or bool(caller().key_id)
        if not (known and caller().may("read")):
            return JSONResponse({"status": "unavailable" if broken else "ok"}, status_code=503 if broken else 200)
        body: dict[str, Any] = {
            "status": "unavailable" if broken else "ok",
            "broken": broken,
            "parts": {name: {"ok": not problem, "problem": problem} for name, problem in problems.items()},
            "warnings": told.warnings(),
            "backlog": told.backlogs(),
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
    backfills: backfills_api.Deps,
    budgets: budgets_api.Deps,
    jobs: jobs_api.Deps,
    keys: keys_api.Deps,
    prices: prices_api.Deps,
    reviews: reviews_api.Deps,
    webhooks: webhooks_api.Deps,
    pages: PageDeps,
    told: Told,
    settings: Settings,
) -> Starlette:
    """The main port: health, OTLP (where MLflow's client sends it), both APIs, the pages."""
    routes: list[BaseRoute] = [
        health_route(told, Hosts(settings)),
        metrics_route(told),
        *receiver.routes(),
        *scoring_api.routes(scoring),
        *backfills_api.routes(backfills),
        *budgets_api.routes(budgets),
        *jobs_api.routes(jobs),
        *keys_api.routes(keys),
        *prices_api.routes(prices),
        *reviews_api.routes(reviews),
        *review_routes.routes(reviews),
        *webhooks_api.routes(webhooks),
        *mlflow_routes.routes(mlflow),
        *mlflow_routes.fallback(),
        *ui_routes.routes(pages),
    ]
    guard = Middleware(
        Visitors, settings=settings, refuse=doors.refused, open_paths=_OPEN_PATHS, keyed_paths=_KEYED_PATHS
    )
    return Starlette(routes=routes, exception_handlers={404: ui_routes.not_found}, middleware=[guard])
