"""Spans and log records that hold more than anybody reads, made smaller instead of refused.

A limit on the number of attributes, events and links of one, and on the length of one text, as the SDKs have them.
What is beyond is left out or cut off; the fields that OTLP has for it (`dropped_attributes_count` and its like) count
what is left out, and the attribute `tracestone.truncated` says what was done, in words.

This works on the bytes, before anything of them is made into objects, and only on items that are large enough to be
over a limit: an attribute has five bytes at least.
"""

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue

from tracestone.collector.receiver import fields
from tracestone.collector.signals.signal import Signal

MARK = "tracestone.truncated"
_MAX_NOTES = 20
# The parser refuses what is nested deeper.
_MAX_DEPTH = 110
_STRING, _BYTES = 1, 7
_LEAST_BYTES = {"attributes": 5, "events": 11, "links": 30}


@dataclass(frozen=True)
class ItemLimits:
    """What one span or log record keeps. `attributes` is also for each of its events and links."""

    attributes: int = 10_000
    events: int = 10_000
    links: int = 10_000
    value_bytes: int = 16 * 1024 * 1024

    @cached_property
    def unseen_bytes(self) -> int:
        """The size up to which an item cannot be over a limit."""
        return min(self.value_bytes, *(self.of(name) * size for name, size in _LEAST_BYTES.items()))

    def of(self, name: str) -> int:
        """How many of a repeated field are kept."""
        return {"attributes": self.attributes, "events": self.events, "links": self.links}[name]


class TooMuchWork(Exception):
    """To look at all of a request would take too long."""


class Effort:
    """How many fields of one request are looked at; two bytes may make one."""

    def __init__(self, fields: int = 3_000_000) -> None:
        self._left = fields

    def spend(self, fields: int = 1) -> None:
        """Raises TooMuchWork."""
        self._left -= fields
        if self._left < 0:
            raise TooMuchWork


@dataclass
class _Work:
    signal: Signal
    limits: ItemLimits
    effort: Effort
    notes: list[str] = field(default_factory=list)
    key: str = ""

    def note(self, text: str) -> None:
        if len(self.notes) < _MAX_NOTES:
            self.notes.append(text)


def trimmed(signal: Signal, item: bytes, limits: ItemLimits, effort: Effort) -> tuple[bytes, str] | None:
    """The item within the limits, and what was done to it; None when it is, or cannot be read. Raises TooMuchWork."""
    if not signal.lists or len(item) <= limits.unseen_bytes:
        return None
    work = _Work(signal, limits, effort)
    try:
        smaller = _message(work, "item", item, 0, len(item), 0)
    except fields.Corrupt:
        return None  # the parser stops there too, and says so
    if smaller is None:
        return None
    texts = ArrayValue(values=[AnyValue(string_value=note) for note in work.notes])
    mark = KeyValue(key=MARK, value=AnyValue(array_value=texts))
    return smaller + fields.delimited(signal.attributes_field, mark.SerializeToString()), work.notes[0]


def _message(work: _Work, kind: str, data: bytes, start: int, end: int, depth: int) -> bytes | None:
    """A message within the limits; None when it is as it came."""
    if kind == "value":
        return _value(work, data, start, end, depth)
    if depth > _MAX_DEPTH:
        return None
    parts: list[bytes] = []
    same_from = start
    changed = False
    counts: Counter[int] = Counter()
    lists, inside = work.signal.lists.get(kind, {}), work.signal.tree[kind]
    for number, at, value, after in fields.walk(data, start, end):
        work.effort.spend()
        if kind == "item" and inside.get(number) == "value":
            work.key = "body"
        elif kind == "pair" and number == 1:
            work.key = data[value : min(after, value + 100)].decode("utf-8", "replace")
        kept: bytes | None = None
        if number in lists:
            counts[number] += 1
            if counts[number] > work.limits.of(lists[number].name):
                kept = b""
        if kept is None and number in inside and after - value > work.limits.unseen_bytes:
            smaller = _message(work, inside[number], data, value, after, depth + 1)
            kept = None if smaller is None else fields.delimited(number, smaller)
        if kept is not None:
            if at > same_from:
                parts.append(data[same_from:at])
            if kept:
                parts.append(kept)
            same_from = after
            changed = True
    if not changed:
        return None
    parts.append(data[same_from:end])
    for number, count in counts.items():
        name, dropped = lists[number]
        most = work.limits.of(name)
        if count > most:
            work.effort.spend(sum(counts.values()))
            before = fields.number_in(data, start, end, dropped)
            parts.append(fields.varint(dropped, min(before + count - most, 2**32 - 1)))
            work.note(f"{name if kind == 'item' else f'{name} of {kind}s'}: {most} of {count} kept")
    return b"".join(parts)


def _value(work: _Work, data: bytes, start: int, end: int, depth: int) -> bytes | None:
    parts: list[bytes] = []
    same_from = start
    for number, at, value, after in fields.walk(data, start, end):
        kept = None
        if number in (_STRING, _BYTES) and after - value > work.limits.value_bytes:
            stop = value + work.limits.value_bytes
            while number == _STRING and stop > value and data[stop] & 0xC0 == 0x80:  # in the middle of a character
                stop -= 1
            work.note(f"{work.key}: {stop - value} of {after - value} bytes kept")
            kept = data[value:stop]
        elif number in work.signal.tree["value"]:
            kept = _message(work, work.signal.tree["value"][number], data, value, after, depth + 1)
        if kept is not None:
            parts += (data[same_from:at], fields.delimited(number, kept))
            same_from = after
    return b"".join((*parts, data[same_from:end])) if parts else None
