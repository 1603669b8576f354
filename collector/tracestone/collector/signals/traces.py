"""Spans: valid when both their ids are."""

from collections.abc import Collection, Iterator
from operator import attrgetter

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from tracestone.collector.signals.signal import Listed, Signal, composite_in, for_checking, nested_in
from tracestone.protos.ingest.v1.traces_pb2 import Span, Traces

_ZERO_TRACE_ID = bytes(16)
_ZERO_SPAN_ID = bytes(8)


def _count(spans: Collection[Span]) -> int | None:
    for span in spans:
        trace_id = span.trace_id
        span_id = span.span_id
        if len(trace_id) != 16 or len(span_id) != 8 or trace_id == _ZERO_TRACE_ID or span_id == _ZERO_SPAN_ID:
            return None
    return len(spans)


def _problem(span: Span) -> str:
    for name, value, length in (("trace_id", span.trace_id, 16), ("span_id", span.span_id, 8)):
        if len(value) != length:
            return f"span {span.name[:100]!r}: {name} must have {length} bytes and has {len(value)}"
        if not any(value):
            return f"span {span.name[:100]!r}: {name} must not be all zero"
    return ""


def _nested(request: ExportTraceServiceRequest) -> Iterator[AnyValue]:
    for resource in request.resource_spans:
        yield from nested_in(resource.resource.attributes)
        for scope in resource.scope_spans:
            yield from composite_in(scope.scope.attributes)
            for span in scope.spans:
                yield from nested_in(span.attributes)
                for event in span.events:
                    yield from composite_in(event.attributes)
                for link in span.links:
                    yield from composite_in(link.attributes)


TRACES = Signal(
    name="traces",
    log_share=0.5,
    batch_age=1.0,
    item="span",
    counted="span(s)",
    service="opentelemetry.proto.collector.trace.v1.TraceService",
    message=Traces,
    incoming=for_checking(Traces),
    request=ExportTraceServiceRequest,
    response=ExportTraceServiceResponse,
    rejected="rejected_spans",
    resources=attrgetter("resource_spans"),
    scopes=attrgetter("scope_spans"),
    items=attrgetter("spans"),
    count=_count,
    weight=lambda span: 1,
    problem=_problem,
    tells_bound=False,
    nested=_nested,
    tree={
        "item": {9: "pair", 11: "event", 13: "link"},
        "event": {3: "pair"},
        "link": {4: "pair"},
        "pair": {2: "value"},
        "value": {5: "array", 6: "list"},
        "array": {1: "value"},
        "list": {1: "pair"},
    },
    lists={
        "item": {9: Listed("attributes", 10), 11: Listed("events", 12), 13: Listed("links", 14)},
        "event": {3: Listed("attributes", 4)},
        "link": {4: Listed("attributes", 5)},
    },
    attributes_field=9,
)
