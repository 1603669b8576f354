"""Log records as they are read."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LogEvent:
    """A log record that belongs to a span. `body` is text, or JSON text when `body_type` is json; times are in ns."""

    log_id: str
    time_ns: int
    event_name: str
    severity_text: str
    body: str
    body_type: str
    attributes: dict[str, Any]


@dataclass(frozen=True)
class EvaluationEvent:
    """A `gen_ai.evaluation.result` event. Ids are lower-case hex, "" when the record has none.

    `sender_bound` says that the sender's key is bound to experiments.
    """

    log_id: str
    experiment_id: int
    sender_bound: bool
    time_ns: int
    trace_id: str
    span_id: str
    service_name: str
    scope_name: str
    attributes: dict[str, Any]


@dataclass(frozen=True)
class SpanPlace:
    """Which span, of which trace, in which experiment."""

    experiment_id: int
    trace_id: str
    span_id: str
