"""Writes what `shapes` read from JSON as protobuf, without making messages of it.

The writers are put together once from the official descriptors. A message's length stands before it and is known after
it, so its place is kept and filled in.
"""

from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from msgspec.structs import astuple

from tracestone.collector.receiver.otlp_json.located import Located, Unusable, Wrong
from tracestone.collector.receiver.otlp_json.parts import Parts, Writer
from tracestone.collector.receiver.otlp_json.scalars import DELIMITED, Encode, encoder, varint, wire_type
from tracestone.collector.receiver.otlp_json.shapes import fields
from tracestone.collector.receiver.otlp_json.values import attributes_writer, value_writer

# What OTLP accepts or rejects one by one.
_RECORDS = {
    *("Span", "LogRecord", "NumberDataPoint", "HistogramDataPoint", "ExponentialHistogramDataPoint"),
    "SummaryDataPoint",
}


def message_writer(message: Descriptor) -> Writer:
    """Writes the fields of a message. Raises Wrong, and Unusable for what is outside of every record."""
    if message.name == "AnyValue":
        return value_writer
    known = fields(message)
    writers = [_field_writer(field) for field in known]
    unions = [union.fields for union in message.oneofs if len(union.fields) > 1]

    def write(value: Any, out: Parts) -> int:
        size = number = 0
        try:
            for number, member in enumerate(astuple(value)):
                if member is not None:
                    size += writers[number](member, out)
        except Located as error:
            error.inside(known[number].json_name)
            raise
        return size

    def write_one_of(value: Any, out: Parts) -> int:
        for union in unions:
            given = [field.json_name for field in union if getattr(value, field.name) is not None]
            if len(given) > 1:
                raise Wrong(f"has {' and '.join(given)}; only one of them may be given")
        return write(value, out)

    return write_one_of if unions else write


def _field_writer(field: FieldDescriptor) -> Writer:
    tag = varint(field.number << 3 | (DELIMITED if field.is_repeated or field.message_type else wire_type(field)))
    if field.message_type is not None:
        if field.is_repeated and field.message_type.name == "KeyValue":
            return attributes_writer(tag)
        one = _one(tag, message_writer(field.message_type))
        records = field.json_name if field.message_type.name in _RECORDS else None
        return _many(one, records) if field.is_repeated else one
    encode = encoder(field)
    if field.is_repeated:
        return _packed(tag, encode) if field.is_packed else _each(tag, encode)
    default = None if field.has_presence else encode("" if wire_type(field) == DELIMITED else 0)
    return _scalar(tag, encode, default)


def _scalar(tag: bytes, encode: Encode, default: bytes | None) -> Writer:
    def write(value: Any, out: Parts) -> int:
        data = encode(value)
        if data == default:
            return 0
        data = tag + data
        out.append(data)
        return len(data)

    return write


def _one(tag: bytes, inner: Writer) -> Writer:
    def write(value: Any, out: Parts) -> int:
        place = len(out)
        out.append(b"")
        size = inner(value, out)
        out[place] = head = tag + varint(size)
        return len(head) + size

    return write


def _many(one: Writer, records: str | None) -> Writer:
    """Writes messages; `records` is how JSON calls them when one may be left out."""

    def write(items: list[Any], out: Parts) -> int:
        size = 0
        for number, item in enumerate(items):
            place = len(out)
            try:
                size += one(item, out)
            except Unusable as error:
                if records is None:
                    error.at(number)
                    raise
                del out[place:]
                out.leave_out(error.at(number).inside(records))
            except Wrong as error:
                error.at(number)
                raise
        return size

    return write


def _packed(tag: bytes, encode: Encode) -> Writer:
    def write(items: list[Any], out: Parts) -> int:
        if not items:
            return 0
        data = b"".join(_encoded(items, encode))
        length = varint(len(data))
        out += (tag, length, data)
        return len(tag) + len(length) + len(data)

    return write


def _each(tag: bytes, encode: Encode) -> Writer:
    def write(items: list[Any], out: Parts) -> int:
        data = b"".join([tag + item for item in _encoded(items, encode)])
        out.append(data)
        return len(data)

    return write


def _encoded(items: list[Any], encode: Encode) -> list[bytes]:
    done: list[bytes] = []
    try:
        for item in items:
            done.append(encode(item))  # noqa: PERF401
    except Located as error:
        error.at(len(done))
        raise
    return done
