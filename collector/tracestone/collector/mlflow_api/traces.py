"""Handlers of `/mlflow/traces/…`: reading. A read waits, bounded, for what this process acknowledged."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tracestone.collector.mlflow_api import trace_wire, wire
from tracestone.schema.errors import Invalid
from tracestone.schema.stores.assessments import AssessmentStore
from tracestone.schema.traces import Trace

MAX_BATCH = 100


class TraceReader(Protocol):
    """What the handlers need of the span store."""

    async def trace(self, trace_id: str, experiment_id: int | None = None) -> Trace | None:
        """A trace by its hex id, or None. Raises StorageDown."""


class Traces:
    """Traces over HTTP."""

    def __init__(
        self, spans: TraceReader, assessments: AssessmentStore, barrier: Callable[[], Awaitable[None]]
    ) -> None:
        self._spans = spans
        self._assessments = assessments
        self._barrier = barrier

    async def info(self, request: Request) -> Response:
        """GET traces/{trace_id}: GetTraceInfoV3."""
        trace = await self._read(request.path_params["trace_id"])
        assessments = await self._assessments.by_trace(trace.info.trace_id)
        return JSONResponse({"trace": {"trace_info": trace_wire.trace_info_json(trace.info, assessments)}})

    async def get(self, request: Request) -> Response:
        """GET traces/get: one trace with its spans."""
        trace = await self._read(wire.read_query(request).text("trace_id", required=True))
        assessments = await self._assessments.by_trace(trace.info.trace_id)
        return await _large(lambda: {"trace": trace_wire.trace_json(trace, assessments)})

    async def batch_get(self, request: Request) -> Response:
        """GET traces/batchGet: several traces with their spans; those that do not exist are left out."""
        fields = wire.read_query(request, lists=frozenset({"trace_ids", "experiment_ids"}))
        found = await self._read_all(fields)
        assessments = await self._assessments.by_traces([trace.info.trace_id for trace in found])
        return await _large(
            lambda: {
                "traces": [
                    trace_wire.trace_json(trace, assessments.get(trace.info.trace_id, ())) for trace in found
                ]
            }
        )

    async def batch_get_infos(self, request: Request) -> Response:
        """POST traces/batchGetInfos: several traces without their spans."""
        found = await self._read_all(await wire.read_body(request))
        assessments = await self._assessments.by_traces([trace.info.trace_id for trace in found])
        return await _large(
            lambda: {
                "trace_infos": [
                    trace_wire.trace_info_json(trace.info, assessments.get(trace.info.trace_id, ()))
                    for trace in found
                ]
            }
        )

    async def _read(self, given_id: str) -> Trace:
        trace_id = wire.read_trace_id(given_id)
        await self._barrier()
        trace = await self._spans.trace(trace_id)
        if trace is None:
            raise wire.no_trace(trace_id)
        return trace

    async def _read_all(self, fields: wire.Fields) -> list[Trace]:
        trace_ids = list(dict.fromkeys(wire.read_trace_id(text) for text in fields.texts("trace_ids")))
        if len(trace_ids) > MAX_BATCH:
            raise Invalid("trace_ids", f"may hold at most {MAX_BATCH}")
        allowed = _experiments(fields.texts("experiment_ids"))
        await self._barrier()
        found = []
        for trace_id in trace_ids:
            trace = await self._spans.trace(trace_id)
            if trace is not None and (not allowed or trace.info.experiment_id in allowed):
                found.append(trace)
        return found


def _experiments(texts: Sequence[str]) -> set[int]:
    try:
        return {int(text) for text in texts}
    except ValueError:
        raise Invalid("experiment_ids", "must be integers") from None


async def _large(render: Callable[[], dict[str, Any]]) -> Response:
    # A trace of thousands of spans takes long to write; the event loop serves others meanwhile.
    body = await asyncio.to_thread(lambda: json.dumps(render(), ensure_ascii=False, allow_nan=False).encode())
    return Response(body, media_type="application/json")
