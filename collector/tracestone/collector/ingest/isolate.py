"""Takes apart an insert that ClickHouse refused for its content, until only what is at fault is left. Pure.

The way down, each step taken only when the one before was refused:

1. **Mended**: every record as a protobuf parser understands it. ClickHouse's reader is stricter than protobuf in what
   it refuses (a field of another wire type, a group, two values of one `oneof`); read and written again, a record has
   none of that, and loses nothing that would have been stored.
2. **Halves** of the records, then of the one record's spans, until a span is alone.

A payload is what the loader inserts: each record's length, then the record, and so on.
"""

from google.protobuf.message import DecodeError

from tracestone.collector.wal.frames import split_payload, varint
from tracestone.protos.ingest.v1.traces_pb2 import Traces


def parts(payload: bytes) -> list[bytes]:
    """The next, smaller things to try; empty when there is nothing left to take apart."""
    better = mended(payload)
    if better != payload:
        return [better]
    records = split_payload(payload)
    if len(records) > 1:
        middle = len(records) // 2
        return [b"".join(records[:middle]), b"".join(records[middle:])]
    return _halves(payload)


def mended(payload: bytes) -> bytes:
    """The payload with every record that can be parsed written anew."""
    return b"".join(_mended(record) for record in split_payload(payload))


def divisible(payload: bytes) -> bool:
    """Whether there is more than one span in it."""
    records = split_payload(payload)
    return len(records) > 1 or span_count(payload) > 1


def span_count(payload: bytes) -> int:
    """How many spans the records hold; one that cannot be parsed counts as none."""
    return sum(_count(message) for record in split_payload(payload) if (message := _parsed(record)) is not None)


def without_spans(payload: bytes) -> bytes | None:
    """One record with its resources and scopes alone, to find out whether these are at fault.

    None if there is more than one record, no more than one span in it, or it cannot be parsed.
    """
    if len(split_payload(payload)) != 1:
        return None
    message = _parsed(payload)
    if message is None or _count(message) < 2:
        return None
    return _framed(_between(message, 0, 0))


def _halves(record: bytes) -> list[bytes]:
    message = _parsed(record)
    if message is None:
        return []
    total = _count(message)
    if total < 2:
        return []
    return [_framed(_between(message, 0, total // 2)), _framed(_between(message, total // 2, total))]


def _mended(record: bytes) -> bytes:
    message = _parsed(record)
    if message is None:
        return record
    message.DiscardUnknownFields()
    return _framed(message)


def _between(message: Traces, first: int, end: int) -> Traces:
    """The message with the spans of these numbers. Resources stay, as `experiment_ids` counts them."""
    chosen = Traces()
    chosen.CopyFrom(message)
    number = 0
    for resource in chosen.resource_spans:
        for scope in resource.scope_spans:
            size = len(scope.spans)
            del scope.spans[max(0, min(size, end - number)) :]
            del scope.spans[: max(0, min(size, first - number))]
            number += size
    return chosen


def _count(message: Traces) -> int:
    return sum(len(scope.spans) for resource in message.resource_spans for scope in resource.scope_spans)


def _parsed(record: bytes) -> Traces | None:
    start = next(at for at, byte in enumerate(record) if byte < 0x80) + 1  # behind the length
    try:
        return Traces.FromString(record[start:])
    except DecodeError:
        return None


def _framed(message: Traces) -> bytes:
    body = message.SerializePartialToString()
    return varint(len(body)) + body
