"""The table of MLflow's paths that we answer: the list of what its client can do here.

Every path is served under `/api` (the client) and `/ajax-api` (MLflow's pages).
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tracestone.collector.mlflow_api import errors
from tracestone.collector.mlflow_api.assessments import Assessments
from tracestone.collector.mlflow_api.experiments import Experiments
from tracestone.collector.mlflow_api.scorers import Scorers
from tracestone.collector.mlflow_api.traces import Traces
from tracestone.schema.stores.assessments import AssessmentStore
from tracestone.schema.stores.experiments import ExperimentStore
from tracestone.schema.stores.mlflow_scorers import MlflowScorerStore
from tracestone.schema.stores.spans import SpanStore

EMULATED_VERSION = "3.17.2"
"""The MLflow whose behaviour this is; its client asks once per process and remembers the answer."""

_PREFIXES = ("/api", "/ajax-api")
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


@dataclass(frozen=True)
class Deps:
    """What the handlers work with. `barrier` waits, bounded, until all that was acknowledged can be read."""

    experiments: ExperimentStore
    assessments: AssessmentStore
    spans: SpanStore
    scorers: MlflowScorerStore
    barrier: Callable[[], Awaitable[None]]


def routes(deps: Deps) -> list[Route]:
    """Every path we answer. `fallback` belongs behind these and all other routes under the prefixes."""
    experiments = Experiments(deps.experiments)
    traces = Traces(deps.spans, deps.assessments, deps.barrier)
    assessments = Assessments(deps.spans, deps.assessments, deps.barrier)
    scorers = Scorers(deps.scorers)
    table: list[tuple[str, str, errors.Handler]] = [
        ("GET", "/2.0/mlflow/experiments/get", experiments.get),
        ("GET", "/2.0/mlflow/experiments/get-by-name", experiments.get_by_name),
        ("POST", "/2.0/mlflow/experiments/create", experiments.create),
        ("POST", "/2.0/mlflow/experiments/search", experiments.search),
        ("GET", "/2.0/mlflow/experiments/search", experiments.search),
        ("POST", "/2.0/mlflow/experiments/update", experiments.update),
        ("POST", "/2.0/mlflow/experiments/delete", experiments.delete),
        ("POST", "/2.0/mlflow/experiments/restore", experiments.restore),
        ("POST", "/2.0/mlflow/experiments/set-experiment-tag", experiments.set_tag),
        ("POST", "/2.0/mlflow/experiments/delete-experiment-tag", experiments.delete_tag),
        ("POST", "/3.0/mlflow/scorers/register", scorers.register),
        ("GET", "/3.0/mlflow/scorers/list", scorers.list),
        ("GET", "/3.0/mlflow/scorers/versions", scorers.versions),
        ("GET", "/3.0/mlflow/scorers/get", scorers.get),
        ("DELETE", "/3.0/mlflow/scorers/delete", scorers.delete),
        ("PUT", "/3.0/mlflow/scorers/online-config", scorers.put_online),
        ("GET", "/3.0/mlflow/scorers/online-configs", scorers.online),
        ("GET", "/3.0/mlflow/traces/get", traces.get),
        ("GET", "/3.0/mlflow/traces/batchGet", traces.batch_get),
        ("POST", "/3.0/mlflow/traces/batchGetInfos", traces.batch_get_infos),
        ("GET", "/3.0/mlflow/traces/{trace_id}", traces.info),
        ("POST", "/3.0/mlflow/traces/{trace_id}/assessments", assessments.create),
        ("GET", "/3.0/mlflow/traces/{trace_id}/assessments/{assessment_id}", assessments.get),
        ("PATCH", "/3.0/mlflow/traces/{trace_id}/assessments/{assessment_id}", assessments.update),
        ("DELETE", "/3.0/mlflow/traces/{trace_id}/assessments/{assessment_id}", assessments.delete),
    ]
    return [
        Route("/version", _version, methods=["GET"]),
        *(
            Route(prefix + path, errors.answering(handler), methods=[method])
            for prefix in _PREFIXES
            for method, path, handler in table
        ),
    ]


def fallback() -> list[Route]:
    """Answers everything else under the prefixes in MLflow's shape, so that its client knows what to do."""
    return [Route(prefix + "/{path:path}", _unknown, methods=_METHODS) for prefix in _PREFIXES]


async def _version(request: Request) -> Response:
    return PlainTextResponse(EMULATED_VERSION)


async def _unknown(request: Request) -> Response:
    return errors.no_such_endpoint(request.method, request.url.path)
