"""Read models with everything filled in, to be changed field by field."""

from dataclasses import replace
from typing import Any

from tracestone.schema.spans import Span
from tracestone.schema.stores.pages import SpanOutline
from tracestone.schema.traces import TraceInfo

TRACE_ID = "5b8efff798038103d269b633813fc60c"
SPAN_ID = "eee19b7ec3c1b174"
START_NS = 1_767_225_600_123_456_789
MS = 1_000_000

_SPAN = Span(
    experiment_id=3,
    trace_id=TRACE_ID,
    span_id=SPAN_ID,
    parent_span_id="",
    name="chat gpt-4.1-mini",
    kind="CLIENT",
    span_type="LLM",
    service_name="support-agent",
    start_time_ns=START_NS,
    end_time_ns=START_NS + 840 * MS,
    duration_ns=840 * MS,
    in_progress=False,
    status_code="OK",
    status_message="",
    scope_name="openai",
    scope_version="1.0",
    trace_state="",
    resource_attributes={"service.name": "support-agent"},
    attributes={"gen_ai.operation.name": "chat", "gen_ai.request.max_tokens": 400, "app.cached": False},
    events=(),
    links=(),
    operation="chat",
    provider="openai",
    request_model="gpt-4.1-mini",
    response_model="gpt-4.1-mini-2025-04-14",
    input="",
    output="",
    input_messages='[{"role": "user", "parts": [{"type": "text", "content": "Where is my order?"}]}]',
    output_messages='[{"role": "assistant", "parts": [{"type": "text", "content": "In Ghent."}]}]',
    system_instructions="",
    tool_name="",
    tool_arguments="",
    tool_result="",
    retrieval_documents="",
    input_tokens=812,
    output_tokens=64,
    total_tokens=876,
    cost_total=0.000427,
    session_id="chat-1",
    user_id="u-1",
    agent_name="",
    error_type="",
    received_at_ns=START_NS + 900 * MS,
)

_INFO = TraceInfo(
    experiment_id=3,
    trace_id=TRACE_ID,
    root_name="chat gpt-4.1-mini",
    service_name="support-agent",
    start_time_ns=START_NS,
    end_time_ns=START_NS + 840 * MS,
    duration_ns=840 * MS,
    state="OK",
    span_count=1,
    error_count=0,
    input_tokens=812,
    output_tokens=64,
    total_tokens=876,
    cost_total=0.000427,
    models=("gpt-4.1-mini-2025-04-14",),
    session_id="chat-1",
    user_id="u-1",
    tags={},
    input_preview="Where is my order?",
    output_preview="In Ghent.",
    complete=True,
    last_seen_ns=START_NS + 900 * MS,
)


def span(**changes: Any) -> Span:
    """A model call of 840 ms."""
    return replace(_SPAN, **changes)


def trace_info(**changes: Any) -> TraceInfo:
    """The trace of that span alone."""
    return replace(_INFO, **changes)


def outline(span_id: str, parent: str = "", start_ms: int = 0, length_ms: int = 10, **changes: Any) -> SpanOutline:
    """A span in a timeline, `start_ms` after START_NS."""
    start = START_NS + start_ms * MS
    plain = SpanOutline(
        span_id=span_id,
        parent_span_id=parent,
        name=span_id,
        span_type="CHAIN",
        service_name="support-agent",
        start_time_ns=start,
        end_time_ns=start + length_ms * MS,
        duration_ns=length_ms * MS,
        in_progress=False,
        status_code="OK",
        error_type="",
        total_tokens=None,
        cost_total=None,
    )
    return replace(plain, **changes)
