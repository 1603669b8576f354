"""What a recorded span says, whatever the dialect: every text, number and object in it, in its events and its logs.

It answers one question: does this fact occur? Where a dialect puts it is what the map of the dialects knows, and what
these recordings test; so nothing here looks at an attribute's key.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

_DEEPEST = 5  # JSON in a string in JSON in a string


@dataclass
class Evidence:
    """All values of a span, texts that are JSON opened."""

    texts: list[str] = field(default_factory=list)
    numbers: set[float] = field(default_factory=set)
    objects: list[Any] = field(default_factory=list)

    def add(self, value: Any, depth: int = 0) -> None:
        """A plain value, not an OTLP AnyValue."""
        if isinstance(value, dict):
            self.objects.append(value)
            for item in value.values():
                self.add(item, depth)
        elif isinstance(value, list):
            for item in value:
                self.add(item, depth)
        elif isinstance(value, str):
            self.texts.append(value)
            opened = _opened(value)
            if opened is not None and depth < _DEEPEST:
                self.add(opened, depth + 1)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            self.numbers.add(float(value))

    def has(self, fact: Any) -> bool:
        """Whether a number, a text (also as a part of another) or an object occurs."""
        if isinstance(fact, dict):
            return any(_covers(one, fact) for one in self.objects)
        if isinstance(fact, str):
            return any(fact in text for text in self.texts)
        return float(fact) in self.numbers or str(fact) in self.texts

    def names(self, words: set[str]) -> bool:
        """Whether one of these words occurs as a value, alone or as the member of an enumeration."""
        return any(text.lower().rpartition(".")[2] in words for text in self.texts)


def spans(requests: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Every recorded span, its scope's name added as `scope`."""
    for request in requests:
        for resource in request["body"].get("resourceSpans", []):
            for scope in resource.get("scopeSpans", []):
                for span in scope.get("spans", []):
                    yield {**span, "scope": scope.get("scope", {}).get("name", "")}


def logs(requests: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Every recorded log record."""
    for request in requests:
        for resource in request["body"].get("resourceLogs", []):
            for scope in resource.get("scopeLogs", []):
                yield from scope.get("logRecords", [])


def evidence(requests: list[dict[str, Any]], span_ids: set[str]) -> Evidence:
    """What these spans, their events and log records say; what a resource says counts for none."""
    found = Evidence()
    for span in spans(requests):
        if span["spanId"] in span_ids:
            found.add([span["name"], span.get("status", {}).get("message", "")])
            for part in (span, *span.get("events", [])):
                found.add(_attributes(part))
    for record in logs(requests):
        if record.get("spanId") in span_ids:
            found.add([_attributes(record), _value(record.get("body", {}))])
    return found


def _attributes(part: dict[str, Any]) -> dict[str, Any]:
    return {pair["key"]: _value(pair.get("value", {})) for pair in part.get("attributes", [])}


def _value(value: dict[str, Any]) -> Any:
    match value:
        case {"kvlistValue": inner}:
            return {pair["key"]: _value(pair.get("value", {})) for pair in inner.get("values", [])}
        case {"arrayValue": inner}:
            return [_value(item) for item in inner.get("values", [])]
        case {"intValue": number}:
            return int(number)
    return next(iter(value.values()), None)


def _opened(text: str) -> Any:
    if text[:1] not in ("{", "[", '"'):
        return None
    try:
        return json.loads(text)
    except ValueError:
        return None


def _covers(one: dict[str, Any], fact: dict[str, Any]) -> bool:
    return all(key in one and one[key] == value for key, value in fact.items())
