"""A request cut into small requests along its items, before anything of it is made into objects.

Two bytes of protobuf can make an object of fifty, so what a body may become is bounded here, on its bytes: the
resources, scopes and items (spans, log records, metrics) of a request, the attributes of a resource or scope, and the
values of an item so large that it is a piece of its own. Every piece is small enough that no other request waits long
for it.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from tracestone.collector.receiver import fields
from tracestone.collector.receiver.trimming import Effort, ItemLimits, TooMuchWork, trimmed
from tracestone.collector.signals.signal import Signal, Tree
from tracestone.schema.errors import TooLarge

PIECE_BYTES = 512 * 1024
# A resource's and a scope's own fields are repeated in every piece of it.
MAX_HEAD_BYTES = 1024 * 1024
_HEADS_PER_PIECE = 4
MAX_ITEM_VALUES = 500_000


class _Place(NamedTuple):
    """A length-delimited field in the body: where it starts, where its value does, and where both end."""

    start: int
    value: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.start


@dataclass(frozen=True)
class Limits:
    """What one request may hold. `groups` bounds its resources, and its scopes; `nesting` is levels of a value.

    `items` bounds its spans, its log records, or its metrics' data points.
    """

    nesting: int = 64
    groups: int = 10_000
    items: int = 200_000
    item: ItemLimits = field(default_factory=ItemLimits)


@dataclass(frozen=True)
class Piece:
    """Items of one scope, as a request of their own; `first` is the number of the first in its scope, from 1."""

    resource: int
    data: bytes
    first: int


@dataclass
class Pieces:
    """A request in pieces. `exact` when every resource and scope has items and nothing but resources was sent."""

    pieces: list[Piece] = field(default_factory=list)
    exact: bool = True
    rejected: int = 0
    reason: str = ""
    truncated: int = 0
    warning: str = ""
    effort: Effort = field(default_factory=Effort)

    def reject(self, items: int, reason: str) -> None:
        """Counts items that are left out."""
        self.rejected += items
        self.reason = self.reason or reason

    def truncate(self, warning: str) -> None:
        """Counts an item that was made smaller."""
        self.exact = False
        self.truncated += 1
        self.warning = self.warning or warning


def cut(signal: Signal, data: bytes, limits: Limits) -> Pieces:
    """Cuts a serialised request. Raises fields.Corrupt when it is not one, TooLarge over a limit."""
    found = Pieces()
    scopes = items = resources = 0
    for number, _, start, end in fields.walk(data, 0, len(data)):
        if number != 1:
            found.exact = False
            continue
        resources += 1
        _bound(resources, limits.groups, "resources")
        head, inner = _parts(data, start, end, limits.groups - scopes, "scopes")
        scopes += len(inner)
        before = items
        for scope in inner:
            scope_head, places = _parts(data, scope.value, scope.end, limits.items - items, f"{signal.item}s")
            items += len(places)
            # Nobody looks at a scope without items, so its bytes are not passed on.
            found.exact = found.exact and bool(places)
            _cut_scope(signal, data, limits, found, resources, head, scope_head, places)
        found.exact = found.exact and items > before
    return found


def _cut_scope(
    signal: Signal,
    data: bytes,
    limits: Limits,
    found: Pieces,
    resource: int,
    head: bytes,
    scope_head: bytes,
    places: list[_Place],
) -> None:
    if max(len(head), len(scope_head)) > MAX_HEAD_BYTES:
        found.reject(len(places), f"the attributes of a resource or scope have more than {MAX_HEAD_BYTES} bytes")
        return
    limit = max(PIECE_BYTES, _HEADS_PER_PIECE * (len(head) + len(scope_head)))
    at = 0
    while at < len(places):
        first, size = at, 0
        while at < len(places) and (at == first or size + places[at].size <= limit):
            size += places[at].size
            at += 1
        items = [item for place in places[first:at] if (item := _item(signal, data, place, limits.item, found))]
        size = sum(map(len, items))
        if size > PIECE_BYTES and len(items) == 1 and not _has_few_values(signal.tree, items[0]):
            found.reject(1, f"{signal.item} {first + 1} of its scope holds more than {MAX_ITEM_VALUES} values")
            continue
        if not items:
            continue
        scope_size = len(scope_head) + size
        inner = b"".join((head, fields.opened(2, scope_size), scope_head, *items))
        found.pieces.append(Piece(resource, fields.opened(1, len(inner)) + inner, first + 1))


def _item(signal: Signal, data: bytes, place: _Place, limits: ItemLimits, found: Pieces) -> bytes:
    """An item as a field of its scope, within the limits; nothing when it has to be left out."""
    if place.size > limits.unseen_bytes:
        try:
            smaller = trimmed(signal, data[place.value : place.end], limits, found.effort)
        except TooMuchWork:
            found.reject(1, f"the request's {signal.item}s hold too many values to look at")
            return b""
        if smaller is not None:
            found.truncate(smaller[1])
            return fields.delimited(2, smaller[0])
    return data[place.start : place.end]


def _parts(data: bytes, start: int, end: int, room: int, what: str) -> tuple[bytes, list[_Place]]:
    """The fields of a message but number 2, and where its fields of number 2 stand."""
    head, inner = [], []
    for number, at, value, after in fields.walk(data, start, end):
        if number == 2:
            inner.append(_Place(at, value, after))
            _bound(len(inner), room, what)
        else:
            head.append(data[at:after])
            _bound(len(head), MAX_HEAD_BYTES // 2, "fields of a resource or scope")
    return b"".join(head), inner


def _bound(count: int, limit: int, what: str) -> None:
    if count > limit:
        raise TooLarge(f"The request has too many {what}; send it in smaller parts.")


def _has_few_values(tree: Tree, data: bytes) -> bool:
    """Whether an item, as a field of its scope, may be made into objects."""
    count = 0
    ((_, _, start, end),) = fields.walk(data, 0, len(data))
    waiting = [("item", start, end)]
    while waiting:
        kind, start, end = waiting.pop()
        messages = tree[kind]
        try:
            for number, _, value, after in fields.walk(data, start, end):
                count += 1
                if count > MAX_ITEM_VALUES:
                    return False
                if number in messages:
                    waiting.append((messages[number], value, after))
        except fields.Corrupt:
            return True  # the parser stops there too, and says so
    return True
