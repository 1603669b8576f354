"""Which spans of a request are taken. OTLP says what a valid span is; a bad one never costs a good one.

The common request is answered by the C parser and one look at each span's ids, and its bytes are stored as they came.
Only a request with an invalid span, a nested value or text that is not UTF-8 is taken apart.
"""

from dataclasses import dataclass

from tracestone.collector.receiver import incoming
from tracestone.protos.ingest.v1.traces_pb2 import ResourceSpans, Span, Traces

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
    request = incoming.parsed(data)
    changed = request is None
    unreadable = 0
    reason = ""
    if request is None:
        request, unreadable, reason = incoming.taken_apart(data, max_nesting)
    total, invalid = _count(request)
    if invalid:
        reason = reason or _first_problem(request)
        _drop_invalid(request)
        changed = True
    return Admitted(
        data=request.SerializeToString() if changed else data,
        spans=total - invalid,
        resources=tuple(_naming(resource) for resource in request.resource_spans),
        rejected=unreadable + invalid,
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


def _first_problem(request: Traces) -> str:
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                problem = _problem(span)
                if problem:
                    return f"span {span.name[:100]!r}: {problem}"
    return ""


def _drop_invalid(request: Traces) -> None:
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            # Serialised first: a span does not outlive its place in the list.
            good = [span.SerializeToString() for span in scope.spans if not _problem(span)]
            if len(good) != len(scope.spans):
                del scope.spans[:]
                for data in good:
                    scope.spans.add().ParseFromString(data)


def _problem(span: Span) -> str:
    for name, value, length in (("trace_id", span.trace_id, 16), ("span_id", span.span_id, 8)):
        if len(value) != length:
            return f"{name} must have {length} bytes and has {len(value)}"
        if not any(value):
            return f"{name} must not be all zero"
    return ""


def _naming(resource: ResourceSpans) -> dict[str, str]:
    found = {}
    for attribute in resource.resource.attributes:
        if attribute.key in ("tracestone.experiment", "service.name") and attribute.value.string_value:
            found[attribute.key] = attribute.value.string_value
    return found
