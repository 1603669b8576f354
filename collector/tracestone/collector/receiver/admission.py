"""Which spans of a request are taken. OTLP says what a valid span is; a bad one never costs a good one.

The common request is answered by the C parser and one look at each span's ids, and its bytes are stored as they came.
Only a request with an invalid span, a nested value or text that is not UTF-8 is taken apart here.
"""

from dataclasses import dataclass

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tracestone.collector.receiver import nested
from tracestone.protos.ingest.v1.traces_pb2 import Span, Traces
from tracestone.schema.errors import Invalid

_ZERO_TRACE_ID = bytes(16)
_ZERO_SPAN_ID = bytes(8)


@dataclass(frozen=True)
class Admitted:
    """What is kept of a request: its bytes, its resources in order, and how many spans were refused and why.

    `resources` holds for each ResourceSpans the attributes that may name an experiment.
    """

    data: bytes
    spans: int
    resources: tuple[dict[str, str], ...]
    rejected: int
    reason: str


def admit(data: bytes, *, max_nesting: int) -> Admitted:
    """Decides on a serialised ExportTraceServiceRequest. Raises Invalid when it is not one."""
    try:
        request = Traces.FromString(data)
    except DecodeError as error:
        raise Invalid("", f"The body is not an ExportTraceServiceRequest in protobuf: {_plain(error)}") from error
    changed = False
    if not request.IsInitialized():
        try:
            request = nested.rewritten(ExportTraceServiceRequest.FromString(data), max_nesting)
        except DecodeError as error:
            raise Invalid("", f"The body is not an ExportTraceServiceRequest in protobuf: {_plain(error)}") from error
        changed = True
    total, invalid = _count(request)
    reason = ""
    if invalid:
        reason = _drop_invalid(request)
        changed = True
    return Admitted(
        data=request.SerializeToString() if changed else data,
        spans=total - invalid,
        resources=tuple(_naming(resource) for resource in request.resource_spans),
        rejected=invalid,
        reason=reason,
    )


def _count(request: Traces) -> tuple[int, int]:
    total = invalid = 0
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                total += 1
                trace_id = span.trace_id
                span_id = span.span_id
                if len(trace_id) != 16 or len(span_id) != 8 or trace_id == _ZERO_TRACE_ID or span_id == _ZERO_SPAN_ID:
                    invalid += 1
    return total, invalid


def _drop_invalid(request: Traces) -> str:
    """Removes invalid spans; says of the first what is wrong with it."""
    first = ""
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            good = []
            for span in scope.spans:
                problem = _problem(span)
                if problem:
                    first = first or f"span {span.name[:100]!r}: {problem}"
                else:
                    good.append(span)
            if len(good) != len(scope.spans):
                kept = [Span.FromString(span.SerializeToString()) for span in good]
                del scope.spans[:]
                scope.spans.extend(kept)
    return first


def _problem(span: Span) -> str:
    for name, value, length in (("trace_id", span.trace_id, 16), ("span_id", span.span_id, 8)):
        if len(value) != length:
            return f"{name} must have {length} bytes and has {len(value)}"
        if not any(value):
            return f"{name} must not be all zero"
    return ""


def _naming(resource: object) -> dict[str, str]:
    found = {}
    for attribute in resource.resource.attributes:  # type: ignore[attr-defined]
        if attribute.key in ("tracestone.experiment", "service.name") and attribute.value.string_value:
            found[attribute.key] = attribute.value.string_value
    return found


def _plain(error: DecodeError) -> str:
    return str(error).split(" with type ")[0] or "it cannot be parsed"
