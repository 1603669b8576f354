"""Spans and traces as read back, built in memory for the pure parts of scoring."""

from typing import Any

from tracestone.schema.spans import Span
from tracestone.schema.traces import Trace, TraceInfo

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


def span(number: int = 1, parent: int | None = None, **fields: Any) -> Span:
    """A span with plain values where none are given; `number` makes its id, `parent` its parent's."""
    plain: dict[str, Any] = {
        "experiment_id": 0,
        "trace_id": TRACE_ID,
        "span_id": f"{number:016x}",
        "parent_span_id": "" if parent is None else f"{parent:016x}",
        "name": f"span {number}",
        "kind": "INTERNAL",
        "span_type": "",
        "service_name": "shop",
        "start_time_ns": 1_000_000_000 * number,
        "end_time_ns": 1_000_000_000 * number + 500_000_000,
        "duration_ns": 500_000_000,
        "status_code": "UNSET",
        "resource_attributes": {},
        "attributes": {},
        "events": (),
        "links": (),
        "input_tokens": None,
        "output_tokens": None,
        "total_tokens": None,
        "cost_total": None,
        "received_at_ns": 2_000_000_000 * number,
    }
    missing = {name: "" for name in Span.__dataclass_fields__ if name not in plain}
    return Span(**{**missing, **plain, **fields})


def trace(*spans: Span, **fields: Any) -> Trace:
    """A finished trace of these spans."""
    errors = sum(item.status_code == "ERROR" for item in spans)
    plain: dict[str, Any] = {
        "experiment_id": 0,
        "trace_id": TRACE_ID,
        "root_name": spans[0].name if spans else "",
        "service_name": "shop",
        "start_time_ns": min((item.start_time_ns for item in spans), default=0),
        "end_time_ns": max((item.end_time_ns for item in spans), default=0),
        "duration_ns": 500_000_000,
        "state": "ERROR" if errors else "OK",
        "span_count": len(spans),
        "error_count": errors,
        "input_tokens": None,
        "output_tokens": None,
        "total_tokens": None,
        "cost_total": None,
        "models": (),
        "session_id": "",
        "user_id": "",
        "tags": {},
        "input_preview": "",
        "output_preview": "",
        "complete": True,
        "last_seen_ns": 0,
    }
    return Trace(TraceInfo(**{**plain, **fields}), spans)
