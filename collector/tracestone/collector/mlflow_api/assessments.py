"""Handlers of `/mlflow/traces/{trace_id}/assessments[/{assessment_id}]`."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tracestone.collector.mlflow_api import assessment_wire, wire
from tracestone.schema.errors import Invalid
from tracestone.schema.stores.assessments import AssessmentStore
from tracestone.schema.stores.spans import SpanStore


class Assessments:
    """Assessments over HTTP. A new one takes its experiment from the trace, which must exist."""

    def __init__(self, spans: SpanStore, assessments: AssessmentStore, barrier: Callable[[], Awaitable[None]]) -> None:
        self._spans = spans
        self._assessments = assessments
        self._barrier = barrier

    async def create(self, request: Request) -> Response:
        """POST: a new assessment of a trace or of one of its spans."""
        trace_id = _trace_id(request)
        fields = (await wire.read_body(request)).object("assessment")
        if fields is None:
            raise Invalid("assessment", "is required")
        experiment_id = await self._experiment_of(trace_id)
        created = await self._assessments.create(assessment_wire.read_new_assessment(fields, trace_id, experiment_id))
        return JSONResponse({"assessment": assessment_wire.assessment_json(created)})

    async def get(self, request: Request) -> Response:
        """GET: one assessment."""
        found = await self._assessments.get(_trace_id(request), request.path_params["assessment_id"])
        return JSONResponse({"assessment": assessment_wire.assessment_json(found)})

    async def update(self, request: Request) -> Response:
        """PATCH: the fields that the update mask names."""
        body = await wire.read_body(request)
        fields = body.object("assessment")
        if fields is None:
            raise Invalid("assessment", "is required")
        change = assessment_wire.read_change(fields, body.anything("update_mask"))
        changed = await self._assessments.update(_trace_id(request), request.path_params["assessment_id"], change)
        return JSONResponse({"assessment": assessment_wire.assessment_json(changed)})

    async def delete(self, request: Request) -> Response:
        """DELETE: one assessment; deleting it twice is no error, as in MLflow, but the trace must exist."""
        trace_id = _trace_id(request)
        if not await self._assessments.delete(trace_id, request.path_params["assessment_id"]):
            await self._experiment_of(trace_id)
        return JSONResponse({})

    async def _experiment_of(self, trace_id: str) -> int:
        info = await self._spans.info(trace_id)
        if info is None:
            await self._barrier()
            info = await self._spans.info(trace_id)
        if info is None:
            raise wire.no_trace(trace_id)
        return info.experiment_id


def _trace_id(request: Request) -> str:
    return wire.read_trace_id(request.path_params["trace_id"])
