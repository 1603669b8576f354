"""Which recorded span tells of which call of the provider: both were timed by the same clock."""

from fnmatch import fnmatchcase

from producers.facts import Facts
from support.provider.server import Call

_MODEL_CALLS = ("llm", "embedding")
_SHORTLY_NS = 2_000_000_000


def around(call: Call, known: dict[str, Facts], described: Facts) -> list[Facts]:
    """The spans of a model call that were open when the request came in, the innermost first."""
    if call.facts.get("stream"):
        # One producer tells of a stream's answer in a span of its own, when it has been read.
        later = [
            span
            for span in known.values()
            if any(fnmatchcase(span["name"], one) for one in described.get("streams_told_by", []))
            and int(span["startTimeUnixNano"]) >= call.began_ns
        ]
        if later:
            return [min(later, key=lambda span: int(span["startTimeUnixNano"]))]
    found = [
        span
        for span in known.values()
        if described_span(span, described)["span_type"] in _MODEL_CALLS
        and int(span["startTimeUnixNano"]) <= call.began_ns <= int(span.get("endTimeUnixNano", 0))
    ]
    # Where a producer ends a stream's span before it is read, the request comes shortly after.
    found = found or [
        span
        for span in known.values()
        if span["name"] in described.get("ends_early", [])
        and 0 <= call.began_ns - int(span["endTimeUnixNano"]) <= _SHORTLY_NS
    ]
    return sorted(found, key=lambda span: int(span["startTimeUnixNano"]), reverse=True)


def described_span(span: Facts, described: Facts) -> Facts:
    """A span as `spans` lists it; its type is None when no pattern fits."""
    types = (kind for pattern, kind, *sign in described["types"] if _fits(span, pattern, sign))
    return {
        "trace_id": span["traceId"],
        "span_id": span["spanId"],
        "parent_span_id": span.get("parentSpanId", ""),
        "name": span["name"],
        "span_type": next(types, None),
    }


def _fits(span: Facts, pattern: str, sign: list[str]) -> bool:
    """Whether a name fits; `sign` may hold one KEY=VALUE of a text attribute that the span must have too."""
    said = {f"{pair['key']}={pair['value'].get('stringValue')}" for pair in span.get("attributes", [])}
    return fnmatchcase(span["name"], pattern) and said.issuperset(sign)
