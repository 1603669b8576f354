"""OTLP requests built span by span, and put straight into ClickHouse as the loader would."""

import itertools
from typing import Any

from google.protobuf.internal.encoder import _VarintBytes
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from tracestone.protos.ingest.v1.traces_pb2 import Traces
from tracestone.schema import clock
from tracestone.schema.stores.spans import SpanStore

MS = 1_000_000
_batches = itertools.count(1)


def otlp_span(
    trace: int,
    span: int,
    parent: int = 0,
    *,
    start_ns: int,
    length_ms: int = 100,
    name: str = "step",
    error: str = "",
    attributes: dict[str, Any] | None = None,
    events: dict[str, dict[str, Any]] | None = None,
) -> Span:
    """A span; small numbers make its ids, `error` its status message."""
    return Span(
        trace_id=trace.to_bytes(16, "big"),
        span_id=span.to_bytes(8, "big"),
        parent_span_id=parent.to_bytes(8, "big") if parent else b"",
        name=name,
        start_time_unix_nano=start_ns,
        end_time_unix_nano=start_ns + length_ms * MS,
        attributes=_attributes(attributes or {}),
        status=Status(code=Status.STATUS_CODE_ERROR, message=error) if error else None,
        events=[
            Span.Event(name=event, time_unix_nano=start_ns, attributes=_attributes(values))
            for event, values in (events or {}).items()
        ],
    )


def export_request(*spans: Span, service: str = "agent") -> ExportTraceServiceRequest:
    """The spans as one service sends them."""
    resource = Resource(attributes=_attributes({"service.name": service}))
    scopes = [ScopeSpans(spans=spans)]
    return ExportTraceServiceRequest(resource_spans=[ResourceSpans(resource=resource, scope_spans=scopes)])


async def store(spans: SpanStore, request: ExportTraceServiceRequest, experiment_id: int) -> None:
    """Stores a request and brings its traces up to date."""
    ours = Traces(experiment_ids=[experiment_id] * len(request.resource_spans), received_at=clock.now_ns())
    record = request.SerializeToString() + ours.SerializeToString()
    batch = f"test/{next(_batches)}"
    await spans.insert(_VarintBytes(len(record)) + record, batch)
    await spans.refresh_traces([batch])


def _attributes(values: dict[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=_value(value)) for key, value in values.items()]


def _value(value: Any) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, list):
        return AnyValue(array_value=ArrayValue(values=[_value(item) for item in value]))
    return AnyValue(string_value=value)
