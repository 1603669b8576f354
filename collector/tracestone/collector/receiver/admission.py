"""Which spans of a request are taken. OTLP says what a valid span is; a bad one never costs a good one.

The common request is answered by `plain`: one run of the C parser and one look at each span's ids, and its bytes are
stored as they came. A large request, and one with an invalid span, a nested value, text that is not UTF-8 or a resource
without spans, is for `admit`, which goes through it piece by piece and belongs on a thread.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from tracestone.collector.receiver import incoming, pieces
from tracestone.collector.receiver.pieces import Limits, Piece
from tracestone.protos.ingest.v1.traces_pb2 import ResourceSpans, Span, Traces
from tracestone.schema.errors import TooLarge

_ZERO_TRACE_ID = bytes(16)
_ZERO_SPAN_ID = bytes(8)
# Whatever a body of this size holds, the C parser is done with it within some tens of milliseconds.
PLAIN_BYTES = 1024 * 1024


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


def plain(data: bytes, limits: Limits) -> Admitted | None:
    """Takes a request whole, as it came; None when `admit` must look at it. Raises TooLarge."""
    if len(data) > PLAIN_BYTES:
        return None
    request = incoming.parsed(data)
    if request is None:
        return None
    _bound(len(request.resource_spans), limits.groups, "resources")
    scopes = total = 0
    for resource in request.resource_spans:
        before = total
        scopes += len(resource.scope_spans)
        _bound(scopes, limits.groups, "scopes")
        for scope in resource.scope_spans:
            total += len(scope.spans)
            _bound(total, limits.spans, "spans")
            if not _are_valid(scope.spans):
                return None
        if total == before:
            return None
    return Admitted(data, total, tuple(_naming(resource) for resource in request.resource_spans), 0, "")


def admit(data: bytes, limits: Limits) -> Admitted:
    """Decides on a serialised ExportTraceServiceRequest. Raises Invalid when it is not one, TooLarge over a limit."""
    found = pieces.cut(data, limits)
    kept: list[Admitted] = []
    naming: dict[int, dict[str, str]] = {}
    as_sent = found.exact and not found.rejected
    for number, piece in enumerate(found.pieces):
        admitted, changed = _piece(piece, limits)
        found.pieces[number] = replace(piece, data=b"")  # no longer needed, and as large as what is kept of it
        as_sent = as_sent and not changed
        found.reject(admitted.rejected, admitted.reason)
        if admitted.spans:
            kept.append(admitted)
            naming.setdefault(piece.resource, admitted.resources[0])
    return Admitted(
        data=data if as_sent else b"".join(each.data for each in kept),
        spans=sum(each.spans for each in kept),
        resources=tuple(naming.values()) if as_sent else tuple(each.resources[0] for each in kept),
        rejected=found.rejected,
        reason=found.reason,
    )


def _piece(piece: Piece, limits: Limits) -> tuple[Admitted, bool]:
    """What is kept of a piece, and whether that is not what was sent."""
    request = incoming.parsed(piece.data)
    changed = request is None
    unreadable = 0
    reason = ""
    if request is None:
        request, unreadable, reason = incoming.taken_apart(piece.data, limits.nesting, piece.first)
    scopes = [scope for resource in request.resource_spans for scope in resource.scope_spans]
    total = sum(len(scope.spans) for scope in scopes)
    if not all(_are_valid(scope.spans) for scope in scopes):
        reason = reason or _first_problem(request)
        _drop_invalid(request)
        changed = True
    left = sum(len(scope.spans) for scope in scopes)
    return Admitted(
        data=request.SerializeToString() if changed else piece.data,
        spans=left,
        resources=tuple(_naming(resource) for resource in request.resource_spans),
        rejected=unreadable + total - left,
        reason=reason,
    ), changed


def _are_valid(spans: Iterable[Span]) -> bool:
    for span in spans:
        trace_id = span.trace_id
        span_id = span.span_id
        if len(trace_id) != 16 or len(span_id) != 8 or trace_id == _ZERO_TRACE_ID or span_id == _ZERO_SPAN_ID:
            return False
    return True


def _bound(count: int, limit: int, what: str) -> None:
    if count > limit:
        raise TooLarge(f"The request has more than {limit} {what}; send it in smaller parts.")


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
