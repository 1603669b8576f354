"""Handlers of `/mlflow/traces/…`: reading. A read waits, bounded, for what this process acknowledged."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tracestone.collector.mlflow_api import trace_wire, wire
from tracestone.schema.errors import Invalid, TooLarge
from tracestone.schema.stores import spans
from tracestone.schema.stores.assessments import AssessmentStore
from tracestone.schema.stores.spans import SpanStore
from tracestone.schema.traces import Trace, TraceInfo

MAX_BATCH = 100
MAX_BATCH_SPANS = 100_000


class Traces:
    """Traces over HTTP."""

    def __init__(self, spans: SpanStore, assessments: AssessmentStore, barrier: Callable[[], Awaitable[None]]) -> None:
        self._spans = spans
        self._assessments = assessments
        self._barrier = barrier

    async def info(self, request: Request) -> Response:
        """GET traces/{trace_id}: GetTraceInfoV3."""
        trace_id = wire.read_trace_id(request.path_params["trace_id"])
        await self._barrier()
        info = await self._spans.info(trace_id)
        if info is None:
            raise wire.no_trace(trace_id)
        assessments = await self._assessments.by_trace(info.experiment_id, trace_id)
        return JSONResponse({"trace": {"trace_info": trace_wire.trace_info_json(info, assessments)}})

    async def get(self, request: Request) -> Response:
        """GET traces/get: one trace with its spans."""
        trace_id = wire.read_trace_id(wire.read_query(request).text("trace_id", required=True))
        await self._barrier()
        info = await self._spans.info(trace_id)
        if info is None:
            raise wire.no_trace(trace_id)
        trace = await self._whole(info)
        assessments = await self._assessments.by_trace(info.experiment_id, trace_id)
        return await _large(lambda: {"trace": trace_wire.trace_json(trace, assessments)})

    async def batch_get(self, request: Request) -> Response:
        """GET traces/batchGet: several traces with their spans; those that do not exist are left out."""
        fields = wire.read_query(request, lists=frozenset({"trace_ids", "experiment_ids"}))
        infos = await self._infos(fields)
        traces = await self._spans_of(infos)
        assessments = await self._assessments.by_traces([info.key for info in infos])
        return await _large(
            lambda: {"traces": [trace_wire.trace_json(trace, assessments.get(trace.info.key, ())) for trace in traces]}
        )

    async def batch_get_infos(self, request: Request) -> Response:
        """POST traces/batchGetInfos: several traces without their spans."""
        infos = await self._infos(await wire.read_body(request))
        assessments = await self._assessments.by_traces([info.key for info in infos])
        return await _large(
            lambda: {"trace_infos": [trace_wire.trace_info_json(info, assessments.get(info.key, ())) for info in infos]}
        )

    async def _infos(self, fields: wire.Fields) -> list[TraceInfo]:
        trace_ids = list(dict.fromkeys(wire.read_trace_id(text) for text in fields.texts("trace_ids")))
        if len(trace_ids) > MAX_BATCH:
            raise Invalid("trace_ids", f"may hold at most {MAX_BATCH}")
        allowed = _experiments(fields.texts("experiment_ids"))
        await self._barrier()
        found = [await self._spans.info(trace_id) for trace_id in trace_ids]
        return [info for info in found if info is not None and (not allowed or info.experiment_id in allowed)]

    async def _spans_of(self, infos: Sequence[TraceInfo]) -> list[Trace]:
        """The traces with their spans. Raises TooLarge before one answer would fill the memory."""
        if sum(info.span_count for info in infos) > MAX_BATCH_SPANS:
            raise TooLarge(f"These traces have over {MAX_BATCH_SPANS} spans together; ask for fewer at a time")
        return [await self._whole(info) for info in infos]

    async def _whole(self, info: TraceInfo) -> Trace:
        """The trace; raises TooLarge when not all of it can be read, because the answer has no place to say so."""
        # Its row says it before thousands of payloads are read.
        trace = await self._spans.plain(info) if info.span_count <= spans.MAX_SPANS else None
        if trace is None or trace.cut:
            raise TooLarge(
                f"Trace {info.trace_id} has {info.span_count} spans, of which {spans.MAX_SPANS} can be read here;"
                " use SQL"
            )
        return trace


def _experiments(texts: Sequence[str]) -> set[int]:
    try:
        return {int(text) for text in texts}
    except ValueError:
        raise Invalid("experiment_ids", "must be integers") from None


async def _large(render: Callable[[], dict[str, Any]]) -> Response:
    # A trace of thousands of spans takes long to write; the event loop serves others meanwhile.
    body = await asyncio.to_thread(lambda: json.dumps(render(), ensure_ascii=False, allow_nan=False).encode())
    return Response(body, media_type="application/json")
