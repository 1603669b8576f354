"""Takes apart an insert that ClickHouse refused for its content, until only what is at fault is left. Pure.

The way down, each step taken only when the one before was refused:

1. **Mended**: every record as a protobuf parser understands it. ClickHouse's reader is stricter than protobuf in what
   it refuses (a field of another wire type, a group, two values of one `oneof`); read and written again, a record has
   none of that, and loses nothing that would have been stored.
2. **Halves** of the records, then of the one record's items (spans, log records, metrics), until an item is alone.

A payload is what the loader inserts: each record's length, then the record, and so on.
"""

from typing import Any

from google.protobuf.message import DecodeError

from tracestone.collector.signals.signal import Signal
from tracestone.collector.wal.frames import split_payload, varint


class Isolate:
    """Takes apart the payloads of one signal."""

    def __init__(self, signal: Signal) -> None:
        self._signal = signal

    def parts(self, payload: bytes) -> list[bytes]:
        """The next, smaller things to try; empty when there is nothing left to take apart."""
        better = self.mended(payload)
        if better != payload:
            return [better]
        records = split_payload(payload)
        if len(records) > 1:
            middle = len(records) // 2
            return [b"".join(records[:middle]), b"".join(records[middle:])]
        return self._halves(payload)

    def mended(self, payload: bytes) -> bytes:
        """The payload with every record that can be parsed written anew."""
        return b"".join(self._mended(record) for record in split_payload(payload))

    def divisible(self, payload: bytes) -> bool:
        """Whether there is more than one item in it."""
        records = split_payload(payload)
        return len(records) > 1 or self.item_count(payload) > 1

    def item_count(self, payload: bytes) -> int:
        """How many items the records hold; one that cannot be parsed counts as none."""
        return sum(
            self._count(message) for record in split_payload(payload) if (message := self._parsed(record)) is not None
        )

    def without_items(self, payload: bytes) -> bytes | None:
        """One record with its resources and scopes alone, to find out whether these are at fault.

        None if there is more than one record, no more than one item in it, or it cannot be parsed.
        """
        if len(split_payload(payload)) != 1:
            return None
        message = self._parsed(payload)
        if message is None or self._count(message) < 2:
            return None
        return _framed(self._between(message, 0, 0))

    def _halves(self, record: bytes) -> list[bytes]:
        message = self._parsed(record)
        if message is None:
            return []
        total = self._count(message)
        if total < 2:
            return []
        return [
            _framed(self._between(message, 0, total // 2)),
            _framed(self._between(message, total // 2, total)),
        ]

    def _mended(self, record: bytes) -> bytes:
        message = self._parsed(record)
        if message is None:
            return record
        message.DiscardUnknownFields()
        return _framed(message)

    def _between(self, message: Any, first: int, end: int) -> Any:
        """The message with the items of these numbers. Resources stay, as `experiment_ids` counts them."""
        chosen = self._signal.message()
        chosen.CopyFrom(message)
        number = 0
        for resource in self._signal.resources(chosen):
            for scope in self._signal.scopes(resource):
                items = self._signal.items(scope)
                size = len(items)
                del items[max(0, min(size, end - number)) :]
                del items[: max(0, min(size, first - number))]
                number += size
        return chosen

    def _count(self, message: Any) -> int:
        resources = self._signal.resources(message)
        return sum(len(self._signal.items(scope)) for each in resources for scope in self._signal.scopes(each))

    def _parsed(self, record: bytes) -> Any | None:
        start = next(at for at, byte in enumerate(record) if byte < 0x80) + 1  # behind the length
        try:
            return self._signal.message.FromString(record[start:])
        except DecodeError:
            return None


def _framed(message: Any) -> bytes:
    body: bytes = message.SerializePartialToString()
    return varint(len(body)) + body
