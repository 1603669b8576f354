"""Attributes and their values: most of every request, so they are written by hand.

For a short text, the common value, the bytes that stand around it are made in advance.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from msgspec.structs import astuple

from tracestone.collector.receiver.otlp_json.located import Located, Unusable, Wrong
from tracestone.collector.receiver.otlp_json.parts import Parts, Writer
from tracestone.collector.receiver.otlp_json.scalars import blob, double, int64, text, truth, varint
from tracestone.collector.receiver.otlp_json.shapes import AnyValue, ArrayValue, KeyValue, KeyValueList

_SHORT = 2048
_SHORT_KEY = 128
# Deeper than any reader of protobuf goes.
_MAX_DEPTH = 100


def attributes_writer(tag: bytes) -> Writer:
    """Writes a list of pairs, each after the tag of its field."""
    heads = [tag + varint(size) for size in range(_SHORT)]

    def write(items: list[KeyValue], out: Parts) -> int:
        size = 0
        try:
            for item in items:
                name = item.key
                key = _known_key(name) if name is not None and len(name) <= _SHORT_KEY else _key(name)
                value = item.value
                if (
                    value is not None
                    and (given := value.string_value) is not None
                    and value.bool_value is None
                    and value.int_value is None
                    and value.double_value is None
                    and value.array_value is None
                    and value.kvlist_value is None
                    and value.bytes_value is None
                ):
                    data = given.encode()
                    length = len(data)
                    before = _BEFORE_TEXT[length] if length < _SHORT else _before_text(length)
                    inner = len(key) + len(before) + length
                    head = heads[inner] if inner < _SHORT else tag + varint(inner)
                    out += (head, key, before, data)
                else:
                    data = b"" if value is None else _field(value)
                    inner = len(key) + len(data)
                    head = heads[inner] if inner < _SHORT else tag + varint(inner)
                    out += (head, key, data)
                size += len(head) + inner
        except Located as error:
            error.at(items.index(item))
            raise
        except UnicodeEncodeError:
            wrong = Unusable("the text is not UTF-8").inside("stringValue").inside("value")
            raise wrong.at(items.index(item)) from None
        return size

    return write


def value_writer(value: AnyValue, out: Parts) -> int:
    """Writes a value that is no attribute's."""
    data = _value(value, 0)
    out.append(data)
    return len(data)


def _field(value: AnyValue, depth: int = 0) -> bytes:
    """The field of a pair that holds its value."""
    try:
        data = _value(value, depth)
    except Located as error:
        error.inside("value")
        raise
    return b"\x12" + varint(len(data)) + data


def _value(value: AnyValue, depth: int) -> bytes:
    members = astuple(value)
    unset = members.count(None)
    if unset == len(members):
        return b""
    given = [number for number, member in enumerate(members) if member is not None]
    if len(given) > 1:
        raise Wrong(f"has {' and '.join(_MEMBERS[number][0] for number in given)}; only one of them may be given")
    name, tag, encode = _MEMBERS[given[0]]
    member = members[given[0]]
    try:
        return tag + (_nested(member, depth) if encode is None else encode(member))
    except Located as error:
        error.inside(name)
        raise


def _nested(value: ArrayValue | KeyValueList, depth: int) -> bytes:
    """The values in a value, as a field with its length first."""
    if depth == _MAX_DEPTH:
        raise Unusable(f"values are nested more than {_MAX_DEPTH} levels deep")
    done: list[bytes] = []
    try:
        for item in value.values or ():
            data = _value(item, depth + 1) if isinstance(item, AnyValue) else _pair(item, depth + 1)
            done += (b"\x0a", varint(len(data)), data)
    except Located as error:
        error.at(len(done) // 3).inside("values")
        raise
    data = b"".join(done)
    return varint(len(data)) + data


def _pair(pair: KeyValue, depth: int) -> bytes:
    return _key(pair.key) + (b"" if pair.value is None else _field(pair.value, depth))


def _before_text(length: int) -> bytes:
    """What stands between the key of an attribute and its text of so many bytes."""
    member = b"\x0a" + varint(length)
    return b"\x12" + varint(len(member) + length) + member


def _key(name: str | None) -> bytes:
    if not name:
        return b""
    try:
        return b"\x0a" + text(name)
    except Located as error:
        error.inside("key")
        raise


# JSON's name, the tag, and how the member becomes bytes; None for a message.
_MEMBERS: list[tuple[str, bytes, Callable[[Any], bytes] | None]] = [
    ("stringValue", b"\x0a", text),
    ("boolValue", b"\x10", truth),
    ("intValue", b"\x18", int64),
    ("doubleValue", b"\x21", double),
    ("arrayValue", b"\x2a", None),
    ("kvlistValue", b"\x32", None),
    ("bytesValue", b"\x3a", blob),
]
_BEFORE_TEXT = [_before_text(length) for length in range(_SHORT)]
_known_key = lru_cache(maxsize=4096)(_key)
