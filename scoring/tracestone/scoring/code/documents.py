"""A subject as the plain values that a scorer function gets. Pure."""

import json
from collections.abc import Collection
from typing import Any

from tracestone.schema.spans import Span
from tracestone.schema.traces import Trace
from tracestone.scoring.scorers.protocol import Subject


def given(subject: Subject, names: Collection[str]) -> dict[str, Any]:
    """The arguments of these names: `inputs` and `outputs` parsed where they are a JSON object or list.

    `session` is None for a span or a trace.
    """
    found: dict[str, Any] = {}
    if "inputs" in names:
        found["inputs"] = _parsed(subject.inputs)
    if "outputs" in names:
        found["outputs"] = _parsed(subject.outputs)
    if "expectations" in names:
        found["expectations"] = dict(subject.expectations)
    if "trace" in names:
        spans = subject.spans if subject.span is not None else subject.trace.spans
        found["trace"] = document_of(subject.trace, spans)
    if "session" in names:
        turns = subject.turns if subject.target_type == "session" else ()
        found["session"] = [document_of(turn.trace, turn.trace.spans) for turn in turns] or None
    return found


def document_of(trace: Trace, spans: tuple[Span, ...]) -> dict[str, Any]:
    """A trace with these of its spans as JSON values; `functions.trace_of` makes it an object again."""
    info = trace.info
    return {
        "trace_id": info.trace_id,
        "state": info.state,
        "execution_duration": info.duration_ns / 1e6,
        "timestamp_ms": info.start_time_ns // 1_000_000,
        "tags": info.tags,
        "token_usage": {
            "input_tokens": info.input_tokens,
            "output_tokens": info.output_tokens,
            "total_tokens": info.total_tokens,
        },
        "cost_usd": info.cost_total,
        "session_id": info.session_id,
        "user_id": info.user_id,
        "spans": [_span(span) for span in spans],
    }


def _span(span: Span) -> dict[str, Any]:
    return {
        "trace_id": span.trace_id,
        "span_id": span.span_id,
        "parent_id": span.parent_span_id or None,
        "name": span.name,
        "span_type": span.span_type,
        "inputs": _parsed(span.input or span.input_messages or span.tool_arguments),
        "outputs": _parsed(span.output or span.output_messages or span.tool_result or span.retrieval_documents),
        "status": span.status_code,
        "start_time_ns": span.start_time_ns,
        "end_time_ns": span.end_time_ns,
        "attributes": span.attributes,
        "model": span.response_model or span.request_model,
        "tool_name": span.tool_name,
    }


def _parsed(text: str) -> Any:
    if text.lstrip().startswith(("{", "[")):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            pass
    return text
