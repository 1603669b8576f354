"""Values nested deeper than protobuf's parser goes, made shallow before it sees them.

The parser gives up at a hundred messages in messages: 31 key-value lists in a span's attribute. SDKs allow 64. So every
few levels what lies below is put into a `bytes_value`, behind a mark that no sender can know, and is parsed for itself
when its turn comes. What is deeper than the bound is cut off, visibly.

This works on the bytes of what the parser refused, and on nothing else.
"""

import secrets

from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from tracestone.collector.receiver import fields
from tracestone.collector.signals.signal import Signal, Tree

TOO_DEEP = "[nested too deep]"
_LEVELS = 12
_STRING, _BYTES = 1, 7
_MARK = secrets.token_bytes(16)
_AROUND: Tree = {"resources": {1: "resource"}, "resource": {1: "pair"}, "scopes": {1: "scope"}, "scope": {3: "pair"}}


def folded(signal: Signal, kind: str, message: bytes, max_nesting: int) -> bytes | None:
    """The message with its deep values folded; None when it has none or cannot be read.

    `kind` is `item`, or `resources` or `scopes` for what stands around items. Raises DecodeError when what would be
    folded is no value.
    """
    try:
        return _Folding({**_AROUND, **signal.tree}, max_nesting).message(kind, message, 0, len(message), 0)
    except fields.Corrupt:
        return None


def unfolded(data: bytes) -> AnyValue | None:
    """The value that was folded into these bytes of a value; None when they are a sender's own."""
    return AnyValue.FromString(data.removeprefix(_MARK)) if data.startswith(_MARK) else None


class _Folding:
    def __init__(self, tree: Tree, max_nesting: int) -> None:
        self._tree = tree
        self._max_nesting = max_nesting

    def message(self, kind: str, data: bytes, start: int, end: int, level: int) -> bytes | None:
        """A message at a level of values in values; None when it is as it came."""
        inside = self._tree[kind]
        parts: list[bytes] = []
        same_from = start
        for number, at, value, after in fields.walk(data, start, end):
            if number not in inside:
                continue
            if kind == "value":
                field = self._nested(number, data, value, after, level)
            else:
                smaller = self.message(inside[number], data, value, after, level)
                field = None if smaller is None else fields.delimited(number, smaller)
            if field is not None:
                parts += (data[same_from:at], field)
                same_from = after
        return b"".join((*parts, data[same_from:end])) if parts else None

    def _nested(self, number: int, data: bytes, start: int, end: int, level: int) -> bytes | None:
        """The array or list in a value that is itself inside of `level` others, as a field of it."""
        if level == self._max_nesting:
            return fields.delimited(_STRING, TOO_DEEP.encode())
        smaller = self.message(self._tree["value"][number], data, start, end, level + 1)
        if level == 0 or level % _LEVELS:
            return None if smaller is None else fields.delimited(number, smaller)
        content = fields.delimited(number, data[start:end] if smaller is None else smaller)
        AnyValue.FromString(content)  # or else it would fail when nobody can leave the item out any more
        return fields.delimited(_BYTES, _MARK + content)
