"""JSON that reads well in a diff: what fits a line stands on one."""

import json
from typing import Any

_WIDTH = 150


def readable(value: Any) -> str:
    """The value as JSON text."""
    return _lines(value, 0) + "\n"


def _lines(value: Any, depth: int) -> str:
    short = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or not value or len(short) + depth <= _WIDTH:
        return short
    inner, outer = " " * (depth + 1), " " * depth
    if isinstance(value, dict):
        parts = [f"{json.dumps(key, ensure_ascii=False)}: {_lines(item, depth + 1)}" for key, item in value.items()]
        return "{\n" + ",\n".join(inner + part for part in parts) + "\n" + outer + "}"
    return "[\n" + ",\n".join(inner + _lines(item, depth + 1) for item in value) + "\n" + outer + "]"
