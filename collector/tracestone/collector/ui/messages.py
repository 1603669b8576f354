"""Messages of a model call, whatever shape they were recorded in, as a chat that a template can show.

Read are OpenTelemetry's `[{role, parts: [{type, ...}]}]`, its system instructions `[{type, content}]`, and
`[{role, content, tool_calls}]`, which most providers' APIs use. Anything else is no chat but a text.
"""

import json
from dataclasses import dataclass
from typing import Any

MAX_TEXT = 8_000_000  # characters of JSON that are parsed for a page


@dataclass(frozen=True)
class Part:
    """A piece of a message: text, reasoning, tool_call, tool_result or other. `label` is a tool or a type."""

    kind: str
    text: str
    label: str = ""


@dataclass(frozen=True)
class Message:
    """What one side said; `role` as recorded, usually system, user, assistant or tool."""

    role: str
    parts: tuple[Part, ...]


def parse(text: str, *, default_role: str = "user") -> tuple[Message, ...]:
    """The messages in a JSON text; empty when it holds none in a known shape."""
    if len(text) > MAX_TEXT or text.lstrip()[:1] not in ("[", "{"):
        return ()
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return ()
    if isinstance(value, dict):
        value = value["messages"] if isinstance(value.get("messages"), list) else [value]
    if not value or not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        return ()
    if all("role" in item for item in value):
        return tuple(_message(item) for item in value)
    if all("type" in item for item in value):
        return (Message(default_role, tuple(_part(item) for item in value)),)
    return ()


def _message(item: dict[str, Any]) -> Message:
    role = str(item["role"])
    parts = [_part(part) for part in _list(item.get("parts"))]
    content = item.get("content")
    if isinstance(content, list):
        parts += [_part(part) for part in content]
    elif content not in (None, ""):
        kind = "tool_result" if role == "tool" else "text"
        parts.append(Part(kind, _text(content), str(item.get("name") or "")))
    parts += [_tool_call(call) for call in _list(item.get("tool_calls"))]
    return Message(role, tuple(parts))


def _part(part: Any) -> Part:
    if not isinstance(part, dict):
        return Part("text", _text(part))
    kind = str(part.get("type", ""))
    if kind in ("text", "input_text", "output_text", "refusal"):
        return Part("text", _text(_first(part, "content", "text", "refusal")))
    if kind in ("reasoning", "thinking"):
        return Part("reasoning", _text(_first(part, "content", "thinking", "text")))
    if kind in ("tool_call", "tool_use", "function"):
        return _tool_call(part)
    if kind in ("tool_call_response", "tool_result"):
        answer = _first(part, "response", "result", "content")
        return Part("tool_result", _text(answer), str(part.get("name") or part.get("id") or ""))
    return Part("other", _text(part), kind)


def _tool_call(call: Any) -> Part:
    if not isinstance(call, dict):
        return Part("tool_call", _text(call))
    function = call["function"] if isinstance(call.get("function"), dict) else call
    return Part("tool_call", _text(_first(function, "arguments", "input")), str(function.get("name") or ""))


def _first(part: dict[str, Any], *keys: str) -> Any:
    return next((part[key] for key in keys if part.get(key) is not None), "")


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)
