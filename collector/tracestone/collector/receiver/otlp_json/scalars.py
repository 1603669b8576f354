"""Single values: how proto3's JSON form may write one, and its bytes in protobuf.

Raises Wrong for a value that a field cannot have, Unusable for one that costs its record alone.
"""

import base64
import binascii
import math
import struct
from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from tracestone.collector.receiver.otlp_json.located import Unusable, Wrong
from tracestone.collector.wal import frames

Encode = Callable[[Any], bytes]

VARINT, FIXED64, DELIMITED, FIXED32 = 0, 1, 2, 5
_PREPARED = 2048
_ALL_ONES = (1 << 64) - 1
_RECORD_IDS = {"trace_id": 16, "span_id": 8, "parent_span_id": 8}
_OF_SPANS = {f"opentelemetry.proto.trace.v1.Span.{name}" for name in _RECORD_IDS}
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
# More digits than any 64-bit number has; Python refuses to read very many at once.
_MAX_DIGITS = 40

_F = FieldDescriptor
_RANGES = {
    _F.TYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    _F.TYPE_SINT32: (-(1 << 31), (1 << 31) - 1),
    _F.TYPE_UINT32: (0, (1 << 32) - 1),
    _F.TYPE_FIXED32: (0, (1 << 32) - 1),
    _F.TYPE_INT64: (-(1 << 63), (1 << 63) - 1),
    _F.TYPE_SINT64: (-(1 << 63), (1 << 63) - 1),
    _F.TYPE_SFIXED64: (-(1 << 63), (1 << 63) - 1),
    _F.TYPE_UINT64: (0, _ALL_ONES),
    _F.TYPE_FIXED64: (0, _ALL_ONES),
}
_PACKED = {_F.TYPE_FIXED64: (FIXED64, "<Q"), _F.TYPE_SFIXED64: (FIXED64, "<q"), _F.TYPE_FIXED32: (FIXED32, "<I")}


def encoder(field: FieldDescriptor) -> Encode:
    """How one value of a field becomes bytes, its length included where protobuf wants one."""
    kind = field.type
    if kind == _F.TYPE_STRING:
        return text
    if kind == _F.TYPE_BYTES:
        if field.name not in _RECORD_IDS:
            return blob
        return _record_id(field.name) if field.full_name in _OF_SPANS else _reference
    if kind == _F.TYPE_BOOL:
        return truth
    if kind == _F.TYPE_DOUBLE:
        return double
    if kind == _F.TYPE_ENUM:
        assert field.enum_type is not None
        return _enum({name: value.number for name, value in field.enum_type.values_by_name.items()})
    low, high = _RANGES[kind]
    if kind in _PACKED:
        pack = struct.Struct(_PACKED[kind][1]).pack
        return lambda value: pack(integer(value, low, high))
    if kind in (_F.TYPE_SINT32, _F.TYPE_SINT64):
        return lambda value: varint(_zigzag(integer(value, low, high)))
    return lambda value: varint(integer(value, low, high) & _ALL_ONES)


def wire_type(field: FieldDescriptor) -> int:
    """How protobuf says where a value of the field ends."""
    if field.type in (_F.TYPE_STRING, _F.TYPE_BYTES):
        return DELIMITED
    if field.type == _F.TYPE_DOUBLE:
        return FIXED64
    return _PACKED[field.type][0] if field.type in _PACKED else VARINT


def integer(value: int | str | float, low: int, high: int) -> int:
    """A whole number between the two, given as a number or as its decimal digits."""
    if isinstance(value, str):
        if not (value.isdigit() and value.isascii() and len(value) <= _MAX_DIGITS):
            _check_digits(value)
        number = int(value)
    elif isinstance(value, int):
        number = value
    else:
        # Such as 1.54e18. Beyond 2^63 nobody can tell which number was meant.
        if not (value.is_integer() and abs(value) < 1 << 63):
            raise Wrong(f"must be a whole number of 64 bits, and is {value!r}")
        number = int(value)
    if low <= number <= high:
        return number
    raise Wrong(f"must be between {low} and {high}")


def _check_digits(value: str) -> None:
    digits = value.removeprefix("-")
    if not (digits.isdigit() and digits.isascii() and len(digits) <= _MAX_DIGITS):
        raise Wrong(f"must be a whole number, and is {value[:_MAX_DIGITS]!r}")


def double(value: float | str) -> bytes:
    """A double, given as a number, as its text, or as one of proto3's names for what JSON cannot write."""
    if isinstance(value, str):
        try:
            number = _NOT_FINITE[value] if value in _NOT_FINITE else float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number) and value not in _NOT_FINITE:
            raise Wrong(f"must be a number, NaN, Infinity or -Infinity, and is {value[:_MAX_DIGITS]!r}")
    else:
        number = value
    return _DOUBLE(number)


def text(value: str) -> bytes:
    """A text."""
    try:
        data = value.encode()
    except UnicodeEncodeError:
        raise Unusable("the text is not UTF-8") from None
    return varint(len(data)) + data


def blob(value: str) -> bytes:
    """Bytes, given as base64 in either alphabet, with or without padding."""
    try:
        data = value.replace("-", "+").replace("_", "/").rstrip("=")
        decoded = base64.b64decode(data + "=" * (-len(data) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise Wrong("must be base64") from None
    return varint(len(decoded)) + decoded


def truth(value: bool) -> bytes:
    """A truth value."""
    return b"\x01" if value else b"\x00"


def int64(value: int | str | float) -> bytes:
    """A whole number of 64 bits with a sign."""
    return varint(integer(value, *_RANGES[_F.TYPE_INT64]) & _ALL_ONES)


def varint(number: int) -> bytes:
    """A number that is not negative, in protobuf's variable length."""
    return _VARINTS[number] if number < _PREPARED else frames.varint(number)


def _zigzag(number: int) -> int:
    return number << 1 if number >= 0 else (-number << 1) - 1


def _enum(names: dict[str, int]) -> Encode:
    def encode(value: int | str | float) -> bytes:
        # OTLP allows numbers alone. Names are what proto3's usual JSON has, and cannot be taken for anything else.
        known = names.get(value) if isinstance(value, str) else None
        number = integer(value, *_RANGES[_F.TYPE_INT32]) if known is None else known
        return varint(number & _ALL_ONES)

    return encode


def _record_id(name: str) -> Encode:
    digits = 2 * _RECORD_IDS[name]

    def encode(value: str) -> bytes:
        data = _hex(value)
        if data is None:
            raise Unusable(f"must be {digits} hexadecimal digits, and is {value[:60]!r}")
        return varint(len(data)) + data

    return encode


def _reference(value: str) -> bytes:
    # The id of something else. One that cannot be is none, and no reason to leave out what refers to it.
    data = _hex(value) or b""
    return varint(len(data)) + data


def _hex(value: str) -> bytes | None:
    try:
        data = bytes.fromhex(value)
    except ValueError:
        return None
    return data if 2 * len(data) == len(value) else None


_DOUBLE = struct.Struct("<d").pack
_VARINTS = [frames.varint(number) for number in range(_PREPARED)]
