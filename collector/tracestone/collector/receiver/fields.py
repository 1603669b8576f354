"""Protobuf's bytes, field by field, without a schema and without making objects."""

from collections.abc import Iterator

from tracestone.collector.wal import frames

_DELIMITED = 2
_FIXED = {1: 8, 5: 4}

Field = tuple[int, int, int, int]  # number (0 unless length-delimited), start, start of the value, end


class Corrupt(Exception):
    """The bytes are not a protobuf message that OTLP could hold."""


def walk(data: bytes, at: int, end: int) -> Iterator[Field]:
    """The fields of the message between two places. Raises Corrupt."""
    while at < end:
        start = at
        tag, at = _varint(data, at, end)
        if tag < 8:
            raise Corrupt
        wire = tag & 7
        if wire == _DELIMITED:
            size, value = _varint(data, at, end)
            at = value + size
            number = tag >> 3
        else:
            number, value = 0, at
            if wire == 0:
                _, at = _varint(data, at, end)
            else:
                at += _FIXED.get(wire, end)  # groups were given up before OTLP began
        if at > end:
            raise Corrupt
        yield number, start, value, at


def number_in(data: bytes, start: int, end: int, field: int) -> int:
    """The value of a varint field of a message, the last if it stands there more than once; 0 without one."""
    found = 0
    for number, at, value, after in walk(data, start, end):
        if number == 0 and _varint(data, at, end)[0] == field << 3:
            found = _varint(data, value, after)[0]
    return found


def delimited(number: int, value: bytes) -> bytes:
    """A length-delimited field of a message, serialised."""
    return opened(number, len(value)) + value


def opened(number: int, size: int) -> bytes:
    """The beginning of a length-delimited field of `size` bytes."""
    return frames.varint(number << 3 | _DELIMITED) + frames.varint(size)


def varint(number: int, value: int) -> bytes:
    """A varint field of a message, serialised."""
    return frames.varint(number << 3) + frames.varint(value)


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    if at < end and data[at] < 0x80:
        return data[at], at + 1
    number = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
    raise Corrupt
