"""Native blocks as a ClickHouse server frames them for a client of a given protocol revision.

Over HTTP a client may send `client_protocol_version`; the server then puts a block info before each block and, from
revision 54454, a flag for custom serialisation before each column. The embedded engine cannot be told a revision and
writes neither, so they are put in here. For that the end of every column must be found, which its type and the number
of rows give without building a value. Go's client (Grafana's data source) insists on these frames.

    block   := info columns:varint rows:varint column*
    info    := 01 00  02 ff ff ff ff  00            -- fields by number: is_overflows, bucket_num; 0 ends them
    column  := name:string type:string 00 data      -- 00: no custom serialisation

clickhouse-connect asks for an older revision, looks whether it got it, and does without; it is left without, as
reading every answer once more would only cost it time.
"""

import re
import struct
from collections.abc import Callable, Sequence
from functools import cache

from tracestone.collector.sql_endpoint.refusals import Kind, Refused

FRAMED_FROM = 54454

_INFO = b"\x01\x00\x02\xff\xff\xff\xff\x00"
_INDEX_WIDTHS = (1, 2, 4, 8)
_WIDTHS = {
    **dict.fromkeys(("UInt8", "Int8", "Bool", "Enum8", "Nothing"), 1),
    **dict.fromkeys(("UInt16", "Int16", "Date", "Enum16", "BFloat16"), 2),
    **dict.fromkeys(("UInt32", "Int32", "Float32", "Date32", "DateTime", "IPv4", "Decimal32", "Time"), 4),
    **dict.fromkeys(("UInt64", "Int64", "Float64", "DateTime64", "Decimal64", "Time64"), 8),
    **dict.fromkeys(("UInt128", "Int128", "UUID", "IPv6", "Decimal128"), 16),
    **dict.fromkeys(("UInt256", "Int256", "Decimal256"), 32),
}
_ALIASES = {
    "Point": "Tuple(Float64, Float64)",
    "Ring": "Array(Point)",
    "LineString": "Array(Point)",
    "MultiLineString": "Array(LineString)",
    "Polygon": "Array(Ring)",
    "MultiPolygon": "Array(Polygon)",
}
_DECIMAL_WIDTHS = ((9, 4), (18, 8), (38, 16), (76, 32))
_SHAPE = re.compile(r"(?P<name>\w+)(?:\((?P<inside>.*)\))?", re.DOTALL)
_FIELD = re.compile(r"(?:`(?:[^`\\]|\\.)*`|\w+) (?P<type>\w+(?:\(.*\))?)", re.DOTALL)

End = Callable[[bytes, int, int], int]


def framed(body: bytes, revision: int) -> bytes:
    """The blocks of `body` framed for this revision; `body` itself when that has no frames. Raises Refused."""
    if revision < FRAMED_FROM or not body:
        return body
    pieces: list[bytes] = []
    place = 0
    try:
        while place < len(body):
            place = _block(body, place, pieces)
    except (IndexError, struct.error):
        raise Refused(Kind.NOT_IMPLEMENTED, "The answer's Native blocks cannot be framed; use another format") from None
    return b"".join(pieces)


def _block(body: bytes, place: int, pieces: list[bytes]) -> int:
    began = place
    columns, place = _varint(body, place)
    rows, place = _varint(body, place)
    pieces += (_INFO, body[began:place])
    for _ in range(columns):
        began = place
        length, place = _varint(body, place)
        place += length
        length, place = _varint(body, place)
        kind = body[place : place + length].decode()
        place += length
        pieces += (body[began:place], b"\x00")
        began = place
        if rows:
            place = _data(kind)(body, _prefix(kind)(body, place, 0), rows)
        if place > len(body):
            raise IndexError
        pieces.append(body[began:place])
    return place


def _varint(body: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = body[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7


@cache
def _prefix(kind: str) -> End:
    """Finds the end of what a column writes once before its data: a version for each LowCardinality in it."""
    name, inside = _split(kind)
    count = 1 if name == "LowCardinality" else 0
    parts = [] if count else _parts(name, inside)
    ends = [_prefix(part) for part in parts]

    def end(body: bytes, place: int, _: int) -> int:
        place += 8 * count
        for inner in ends:
            place = inner(body, place, 0)
        return place

    return end


@cache
def _data(kind: str) -> End:
    """Finds the end of a number of values of one type."""
    name, inside = _split(kind)
    if name == "String":
        return _strings
    if name == "LowCardinality":
        return _dictionary(inside[0])
    if name in ("Array", "Map", "Nested"):
        return _arrays([_data(part) for part in _parts(name, inside)])
    if name in ("Tuple", "Nullable", "SimpleAggregateFunction"):
        return _sequence([_data(part) for part in _parts(name, inside)], 1 if name == "Nullable" else 0)
    width = _width(name, inside)
    return lambda body, place, rows: place + width * rows


def _strings(body: bytes, place: int, rows: int) -> int:
    for _ in range(rows):
        length = body[place]
        place += 1
        if length >= 0x80:
            length, place = _varint(body, place - 1)
        place += length
    return place


def _sequence(ends: Sequence[End], flags: int) -> End:
    def end(body: bytes, place: int, rows: int) -> int:
        place += flags * rows
        for inner in ends:
            place = inner(body, place, rows)
        return place

    return end


def _arrays(ends: Sequence[End]) -> End:
    def end(body: bytes, place: int, rows: int) -> int:
        if not rows:
            return place
        place += 8 * rows
        (total,) = struct.unpack_from("<Q", body, place - 8)
        for inner in ends if total else ():
            place = inner(body, place, total)
        return place

    return end


def _dictionary(kind: str) -> End:
    name, inside = _split(kind)
    keys = _data(inside[0] if name == "Nullable" else kind)

    def end(body: bytes, place: int, rows: int) -> int:
        if not rows:
            return place
        (flags, count) = struct.unpack_from("<QQ", body, place)
        if flags & 0x100 or not flags & 0x200:
            raise IndexError
        place = keys(body, place + 16, count)
        (indexes,) = struct.unpack_from("<Q", body, place)
        return place + 8 + int(indexes) * _INDEX_WIDTHS[flags & 0xFF]

    return end


def _width(name: str, inside: Sequence[str]) -> int:
    if name == "FixedString":
        return int(inside[0])
    if name == "Decimal":
        return next(width for digits, width in _DECIMAL_WIDTHS if int(inside[0]) <= digits)
    if name.startswith("Interval"):
        return 8
    if name not in _WIDTHS:
        raise Refused(
            Kind.NOT_IMPLEMENTED,
            f"A column of type {name} cannot be answered in Native for this client; convert it with toString",
        )
    return _WIDTHS[name]


def _parts(name: str, inside: Sequence[str]) -> list[str]:
    """The types a type is made of, in the order they are written."""
    if name in ("Tuple", "Nested"):
        return [match["type"] if (match := _FIELD.fullmatch(part)) else part for part in inside]
    if name == "SimpleAggregateFunction":
        return list(inside[1:])
    return list(inside) if name in ("Array", "Map", "Nullable") else []


def _split(kind: str) -> tuple[str, list[str]]:
    """A type's name and what stands between its brackets, cut at the commas of the first level."""
    match = _SHAPE.fullmatch(_ALIASES.get(kind, kind))
    if match is None:
        raise Refused(Kind.NOT_IMPLEMENTED, "A column's type is not known here; use another format")
    parts, depth, quote, start = [], 0, "", 0
    inside = match["inside"] or ""
    skipped = False
    for place, sign in enumerate(inside):
        if skipped:
            skipped = False
        elif sign == "\\" and quote:
            skipped = True
        elif quote:
            quote = "" if sign == quote else quote
        elif sign in "'`":
            quote = sign
        elif sign == "," and not depth:
            parts.append(inside[start:place].strip())
            start = place + 1
        else:
            depth += (sign == "(") - (sign == ")")
    last = inside[start:].strip()
    return match["name"], [*parts, last] if last else parts
