"""The text a user sent and got, taken from spans. Pure."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tracestone.schema.spans import Span
from tracestone.schema.traces import Trace
from tracestone.scoring.scorers.protocol import Subject, Turn


def subject_of(trace: Trace, expectations: Mapping[str, Any] | None = None) -> Subject:
    """The trace with its input and output."""
    turn = turn_of(trace)
    return Subject("trace", (turn,), turn.inputs, turn.outputs, expectations=expectations or {})


def subject_of_span(trace: Trace, span: Span, expectations: Mapping[str, Any] | None = None) -> Subject:
    """A span of a trace."""
    inputs, outputs = _input(span) or span.tool_arguments, _output(span) or span.tool_result or span.retrieval_documents
    turn = Turn(trace, inputs, outputs)
    return Subject("span", (turn,), inputs, outputs, span=span, expectations=expectations or {})


def subject_of_session(
    session_id: str, traces: Sequence[Trace], omitted: int = 0, expectations: Mapping[str, Any] | None = None
) -> Subject:
    """A session: its traces in order of time, of which the first `omitted` may be left out."""
    turns = tuple(turn_of(trace) for trace in traces)
    inputs = next((turn.inputs for turn in turns if turn.inputs), "")
    outputs = next((turn.outputs for turn in reversed(turns) if turn.outputs), "")
    return Subject(
        "session",
        turns,
        inputs,
        outputs,
        expectations=expectations or {},
        session_id=session_id,
        omitted=omitted,
    )


def turn_of(trace: Trace) -> Turn:
    """A trace's input and output.

    They are the root span's; where the root has none (a web framework's span, say), the input of the first
    span that has one, and the output of the last one to end.
    """
    by_start = sorted(trace.spans, key=lambda span: (span.parent_span_id != "", span.start_time_ns))
    root = trace.root
    inputs = _input(root) if root else ""
    outputs = _output(root) if root else ""
    if not inputs:
        inputs = next((text for span in by_start if (text := _input(span))), "")
    if not outputs:
        by_end = sorted(trace.spans, key=lambda span: span.end_time_ns, reverse=True)
        outputs = next((text for span in by_end if (text := _output(span))), "")
    return Turn(trace, inputs, outputs)


def _input(span: Span) -> str:
    return _last_said(span.input_messages, "user") or _plain(span.input, "user")


def _output(span: Span) -> str:
    return _last_said(span.output_messages, "") or _plain(span.output, "")


def _plain(text: str, role: str) -> str:
    return _last_said(text, role) or text


def _last_said(text: str, role: str) -> str:
    """The text of the last message (of a role) when `text` is a JSON list of chat messages, else ""."""
    if not text.lstrip().startswith(("[", "{")):
        return ""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    if isinstance(found, dict) and isinstance(found.get("messages"), list):
        found = found["messages"]
    if not isinstance(found, list) or not found or not all(_is_message(item) for item in found):
        return ""
    said = [_content(message) for message in found if not role or message["role"] == role]
    return next((content for content in reversed(said) if content), "")


def _is_message(item: Any) -> bool:
    return isinstance(item, dict) and isinstance(item.get("role"), str) and ("content" in item or "parts" in item)


def _content(message: dict[str, Any]) -> str:
    content = message.get("parts", message.get("content"))
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    pieces = []
    for part in content:
        if isinstance(part, str):
            pieces.append(part)
        elif isinstance(part, dict) and part.get("type", "text") == "text":
            piece = part.get("content", part.get("text", ""))
            pieces.append(piece if isinstance(piece, str) else "")
    return "\n".join(piece for piece in pieces if piece)
