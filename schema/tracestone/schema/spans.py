"""A stored span as read back, for the API, the pages and the scorers. Times are nanoseconds since the Unix epoch."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class SpanEvent:
    """Something that happened at one moment of a span."""

    time_ns: int
    name: str
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SpanLink:
    """A reference to another span; ids are lower-case hex."""

    trace_id: str
    span_id: str
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Span:
    """One row of `tracestone.spans`. Ids are lower-case hex; a missing text is "", a missing number None.

    A span in progress has no end yet: its `end_time_ns` is that of its start.
    """

    experiment_id: int
    trace_id: str
    span_id: str
    parent_span_id: str
    name: str
    kind: str
    span_type: str
    service_name: str
    start_time_ns: int
    end_time_ns: int
    duration_ns: int
    in_progress: bool
    status_code: str
    status_message: str
    scope_name: str
    scope_version: str
    trace_state: str
    resource_attributes: dict[str, Any]
    attributes: dict[str, Any]
    events: tuple[SpanEvent, ...]
    links: tuple[SpanLink, ...]
    operation: str
    provider: str
    request_model: str
    response_model: str
    input: str
    output: str
    input_messages: str
    output_messages: str
    system_instructions: str
    tool_name: str
    tool_arguments: str
    tool_result: str
    retrieval_documents: str
    input_tokens: int | None
    output_tokens: int | None
    total_tokens: int | None
    cost_total: float | None
    session_id: str
    user_id: str
    agent_name: str
    error_type: str
    received_at_ns: int
