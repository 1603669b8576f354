"""What `traces` and `sessions` must say, recomputed in plain Python from the contract (docs/sql.md, docs/costs.md).

A `Sent` is one version of a span as it was sent. `trace_rows` and `session_rows` read the rules:

- of the versions of a span (experiment, trace, span id) the one received last counts, but an ended one goes before one
  in progress;
- a trace is named after its root, the span without a parent that began first; without one, after the first span;
- usage of a span that is above another with usage is left out; what carries one response id is one call.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from support.telemetry import MS, otlp_span

# USD per token of the model PRICED, as the test sets them; halves and quarters, whose sums are exact.
PRICED, PRICE_IN, PRICE_OUT = "priced-by-us", 2**-10, 2**-9
_OPERATIONS = {"llm": "chat", "agent": "invoke_agent", "tool": "execute_tool", "chain": "invoke_workflow"}
_SETTLED_NS = 30 * 60 * 10**9
Key = tuple[int, int]


@dataclass(frozen=True)
class Sent:
    """One version of a span. Texts are '' and numbers None where they are not sent; `start_ns` is unique in a trace."""

    experiment: int
    trace: int
    span: int
    parent: int
    start_ns: int
    length_ms: int
    ended: bool = True
    error: bool = False
    kind: str = "chain"
    model: str = ""
    response: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: float | None = None
    session: str = ""
    user: str = ""
    said: str = ""

    @property
    def id(self) -> tuple[int, int, int]:
        """What a span is known by."""
        return self.experiment, self.trace, self.span

    @property
    def name(self) -> str:
        """Tells versions apart."""
        return f"span {self.span} of {self.length_ms} ms"

    def otlp(self) -> Span:
        """As it is sent."""
        attributes: dict[str, Any] = {
            "gen_ai.operation.name": _OPERATIONS[self.kind],
            "gen_ai.request.model": self.model,
            "gen_ai.response.id": self.response,
            "gen_ai.usage.input_tokens": self.input_tokens,
            "gen_ai.usage.output_tokens": self.output_tokens,
            "llm.cost.total": self.cost,
            "session.id": self.session,
            "user.id": self.user,
            "input.value": self.said and f"to {self.said}",
            "output.value": self.said and f"from {self.said}",
        }
        made = otlp_span(
            self.trace,
            self.span,
            self.parent,
            start_ns=self.start_ns,
            length_ms=self.length_ms,
            name=self.name,
            error="broken" if self.error else "",
            attributes={key: value for key, value in attributes.items() if value not in ("", None)},
        )
        if not self.ended:
            made.end_time_unix_nano = 0
        return made

    @property
    def is_model(self) -> bool:
        return self.kind == "llm"

    @property
    def end_ns(self) -> int:
        return self.start_ns + self.length_ms * MS if self.ended else self.start_ns

    @property
    def total_tokens(self) -> int | None:
        given = [count for count in (self.input_tokens, self.output_tokens) if count is not None]
        return sum(given) if given else None

    @property
    def paid(self) -> float | None:
        """Reported, else computed."""
        if self.cost is not None or self.model != PRICED or self.total_tokens is None:
            return self.cost
        return (self.input_tokens or 0) * PRICE_IN + (self.output_tokens or 0) * PRICE_OUT

    @property
    def has_usage(self) -> bool:
        return self.total_tokens is not None or self.paid is not None


@dataclass(frozen=True)
class Received:
    """A version and when it was received."""

    sent: Sent
    at_ns: int


def current(versions: Iterable[Received]) -> list[Received]:
    """The version of each span that counts."""
    best: dict[tuple[int, int, int], Received] = {}
    for version in versions:
        other = best.get(version.sent.id)
        if other is None or (version.sent.ended, version.at_ns) >= (other.sent.ended, other.at_ns):
            best[version.sent.id] = version
    return list(best.values())


def trace_rows(versions: Iterable[Received]) -> dict[Key, dict[str, Any]]:
    """The rows of `traces` by experiment and trace."""
    traces: dict[Key, list[Received]] = defaultdict(list)
    for version in current(versions):
        traces[version.sent.id[:2]].append(version)
    return {key: _trace(found) for key, found in traces.items()}


def _trace(versions: list[Received]) -> dict[str, Any]:
    spans = sorted((version.sent for version in versions), key=lambda span: (span.parent != 0, span.start_ns))
    first = spans[0]
    complete = any(span.parent == 0 and span.ended for span in spans)
    begun, ended = min(span.start_ns for span in spans), max(span.end_ns for span in spans)
    by_end = sorted(spans, key=lambda span: (span.parent != 0, -span.end_ns))
    shown = [span for span in spans if span.parent == 0 or span.is_model]
    return {
        "root_name": first.name,
        "service_name": "agent",
        "start_ns": begun,
        "end_ns": ended,
        "duration_ns": ended - begun,
        "state": "IN_PROGRESS" if not complete else "ERROR" if first.error else "OK",
        "span_count": len(spans),
        "error_count": sum(span.error for span in spans),
        **usage(spans),
        "models": sorted({span.model for span in spans if span.is_model and span.model}),
        "session_id": next((span.session for span in spans if span.session), ""),
        "user_id": next((span.user for span in spans if span.user), ""),
        "input_preview": next((f"to {span.said}" for span in shown if span.said), ""),
        "output_preview": next((f"from {span.said}" for span in by_end if span in shown and span.said), ""),
        "complete": complete,
        "last_seen_ns": max(version.at_ns for version in versions),
    }


def usage(spans: list[Sent]) -> dict[str, int | float | None]:
    """Tokens and cost of a trace, each call counted once."""
    by_id = {span.span: span for span in spans}
    repeating = {above for span in spans if span.has_usage for above in _above(span, by_id)}
    calls: dict[str, list[Sent]] = defaultdict(list)
    for span in spans:
        if span.has_usage and span.span not in repeating:
            calls[f"id {span.response}" if span.response else f"span {span.span}"].append(span)

    def tokens(name: str) -> int | None:
        ranked = [[(span.is_model, getattr(span, name)) for span in call if getattr(span, name) is not None]
                  for call in calls.values()]  # fmt: skip
        return sum(max(call)[1] for call in ranked if call) if any(ranked) else None

    paid = [[((span.cost is not None, span.is_model), span.paid) for span in call if span.paid is not None]
            for call in calls.values()]  # fmt: skip
    return {
        "input_tokens": tokens("input_tokens"),
        "output_tokens": tokens("output_tokens"),
        "total_tokens": tokens("total_tokens"),
        "cost_total": sum(max(call)[1] for call in paid if call) if any(paid) else None,
    }


def _above(span: Sent, by_id: dict[int, Sent]) -> set[int]:
    """The spans above one; one in a circle is above itself, unless it merely names itself as its parent."""
    found: set[int] = set()
    while span.parent in by_id and span.parent not in found | {span.span}:
        found.add(span.parent)
        span = by_id[span.parent]
    return found


def session_rows(traces: dict[Key, dict[str, Any]], now_ns: int) -> dict[tuple[int, str], dict[str, Any]]:
    """The rows of `sessions` by experiment and session."""
    sessions: dict[tuple[int, str], list[dict[str, Any]]] = defaultdict(list)
    for (experiment, _), row in traces.items():
        if row["session_id"]:
            sessions[experiment, row["session_id"]].append(row)
    return {key: _session(rows, now_ns) for key, rows in sessions.items()}


def _session(rows: list[dict[str, Any]], now_ns: int) -> dict[str, Any]:
    def total(name: str) -> Any:
        given = [row[name] for row in rows if row[name] is not None]
        return sum(given) if given else None

    return {
        "user_ids": sorted({row["user_id"] for row in rows if row["user_id"]}),
        "turn_count": sum(row["complete"] for row in rows),
        "trace_count": len(rows),
        "error_count": total("error_count"),
        **{name: total(name) for name in ("input_tokens", "output_tokens", "total_tokens", "cost_total")},
        "first_seen_ns": min(row["start_ns"] for row in rows),
        "last_seen_ns": max(row["end_ns"] for row in rows),
        "complete": all(row["complete"] for row in rows)
        and max(row["last_seen_ns"] for row in rows) < now_ns - _SETTLED_NS,
    }
