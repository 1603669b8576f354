"""Traces put into ClickHouse as rows, where the way of a span through the collector is not what is tested."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tracestone.schema.engines.columnar import Columnar


@dataclass(frozen=True)
class Row:
    """One trace of one span.

    Times are seconds before now: when it was last seen and when its row was written.
    """

    trace_id: str
    experiment_id: int = 0
    complete: bool = True
    seen_ago: float = 10.0
    written_ago: float = 10.0
    input: str = "Where is my parcel?"
    output: str = "It is on its way."
    state: str = "OK"
    duration_ms: int = 500
    tags: dict[str, str] = field(default_factory=dict)
    session_id: str = ""
    user_id: str = ""
    span_id: str = ""
    attributes_bool: dict[str, bool] = field(default_factory=dict)


async def store(columnar: Columnar, rows: Sequence[Row]) -> None:
    """Writes the rows of `spans` and `traces`."""
    now_ns = time.time_ns()
    spans = [_span(row, now_ns) for row in rows]
    traces = [_trace(row, now_ns) for row in rows]
    for table, content in (("span_rows", spans), ("trace_rows", traces)):
        if content:
            await columnar.insert_rows(table, list(content[0]), [list(item.values()) for item in content])


def numbered(number: int) -> str:
    """A trace id."""
    return f"{number:032x}"


def _ago(now_ns: int, seconds: float) -> int:
    return now_ns - int(seconds * 1e9)


def _span(row: Row, now_ns: int) -> dict[str, Any]:
    start = _ago(now_ns, row.seen_ago) - row.duration_ms * 1_000_000
    return {
        "experiment_id": row.experiment_id,
        "trace_id": row.trace_id,
        "span_id": row.span_id or row.trace_id[16:],
        "parent_span_id": "",
        "name": "answer",
        "kind": "SERVER",
        "start_time": _time(start),
        "end_time": _time(start + row.duration_ms * 1_000_000),
        "duration_ns": row.duration_ms * 1_000_000,
        "status_code": "ERROR" if row.state == "ERROR" else "UNSET",
        "service_name": "shop",
        "resource_attributes": "{}",
        "attributes_bool": row.attributes_bool,
        "attributes_text": {"input.value": row.input, "output.value": row.output},
        "received_at": _time(_ago(now_ns, row.seen_ago)),
    }


def _trace(row: Row, now_ns: int) -> dict[str, Any]:
    start = _ago(now_ns, row.seen_ago) - row.duration_ms * 1_000_000
    return {
        "experiment_id": row.experiment_id,
        "trace_id": row.trace_id,
        "root_name": "answer",
        "service_name": "shop",
        "start_time": _time(start),
        "end_time": _time(start + row.duration_ms * 1_000_000),
        "duration_ns": row.duration_ms * 1_000_000,
        "state": row.state,
        "span_count": 1,
        "error_count": int(row.state == "ERROR"),
        "tags": row.tags,
        "session_id": row.session_id,
        "user_id": row.user_id,
        "input_preview": row.input[:100],
        "output_preview": row.output[:100],
        "complete": row.complete,
        "last_seen": _time(_ago(now_ns, row.seen_ago)),
        "version": _time(_ago(now_ns, row.written_ago)),
    }


def _time(ns: int) -> datetime:
    return datetime.fromtimestamp(ns / 1e9, UTC)
