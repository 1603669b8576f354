"""The text a user sent and got, taken from the spans of a trace. Pure."""

import json
from typing import Any

from tracestone.schema.spans import Span
from tracestone.schema.traces import Trace
from tracestone.scoring.scorers.protocol import Subject


def subject_of(trace: Trace) -> Subject:
    """The trace with its input and output.

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
    return Subject(trace, inputs, outputs)


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
