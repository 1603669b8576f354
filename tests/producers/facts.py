"""The single facts of a call, a tool or a search: what must occur in its span, or be said to be absent."""

from collections.abc import Iterator
from typing import Any

_NO_FACTS = {
    "scenario",
    "api",
    "streamed",
    "trace_id",
    "span_id",
    "also",
    "absent",
    "told",
    "provider",
    "finish_reason",
}
Facts = dict[str, Any]


def atoms(told: Facts) -> Iterator[tuple[str, Any]]:
    """The single facts that must be found, with the field that an `absent` rule names."""
    for field, value in told.items():
        if field in _NO_FACTS:
            continue
        match field:
            case "input_messages" | "output_messages":
                for message in value or []:
                    for part in message["parts"]:
                        yield field_of(field, message, part), _fact(part)
            case "texts" | "documents":
                yield from ((field, text) for text in value)
            case "tool_definitions":
                yield from ((field, name) for name in value)
            case "error":
                yield "error.message", value["message"]
            case _ if value in (None, 0):
                pass  # a provider's 0 may be left out
            case _:
                yield field, value


def field_of(field: str, message: Facts, part: Facts) -> str:
    """How a rule names a part of a message."""
    is_system = message["role"] in ("system", "developer")
    return f"{field}.{'system' if is_system else part['type']}"


def _fact(part: Facts) -> Any:
    return {"tool_call": part.get("arguments"), "tool_result": part.get("result")}.get(part["type"], part.get("text"))
