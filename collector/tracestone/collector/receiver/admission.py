"""Which items of a request are taken. OTLP says what a valid one is; a bad one never costs a good one.

The common request is answered by `plain`: one run of the C parser and one look at each span's ids, and its bytes are
stored as they came. A large request, and one with an invalid item, a nested value, text that is not UTF-8 or a resource
without items, is for `admit`, which goes through it piece by piece and belongs on a thread.
"""

from dataclasses import dataclass, replace
from typing import Any

from tracestone.collector.receiver import fields, incoming, pieces
from tracestone.collector.receiver.pieces import Limits, Piece
from tracestone.collector.signals.signal import Signal
from tracestone.schema.errors import TooLarge

# Whatever a body of this size holds, the C parser is done with it within some tens of milliseconds.
PLAIN_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Admitted:
    """What is kept of a request: its bytes, its resources in order, and how many items were refused and why.
    `truncated` of those that are kept were made smaller.

    `resources` holds for each resource the attributes that may name an experiment. `reason` may be given without a
    refusal: then it is a warning.
    """

    data: bytes
    items: int
    resources: tuple[dict[str, str], ...]
    rejected: int
    reason: str
    truncated: int = 0


def plain(signal: Signal, data: bytes, limits: Limits) -> Admitted | None:
    """Takes a request whole, as it came; None when `admit` must look at it. Raises TooLarge."""
    if len(data) > PLAIN_BYTES:
        return None
    request = incoming.parsed(signal, data)
    if request is None:
        return None
    if signal.lists and incoming.has_larger(data, limits.item.unseen_bytes):
        return None
    resources = signal.resources(request)
    _bound(len(resources), limits.groups, "resources")
    groups = total = 0
    for resource in resources:
        before = total
        scopes = signal.scopes(resource)
        groups += len(scopes)
        _bound(groups, limits.groups, "scopes")
        for scope in scopes:
            items = signal.items(scope)
            _bound(total + len(items), limits.items, f"{signal.item}s")
            count = signal.count(items)
            if count is None:
                return None
            total += count
            _bound(total, limits.items, signal.counted)
        if total == before:
            return None
    return Admitted(data, total, tuple(_naming(resource) for resource in resources), 0, "")


def admit(signal: Signal, data: bytes, limits: Limits) -> Admitted:
    """Decides on a serialised request. Raises Invalid when it is not one, TooLarge over a limit."""
    try:
        found = pieces.cut(signal, data, limits)
    except fields.Corrupt as error:
        raise incoming.not_a_request(signal, "the protobuf is corrupt or cut short") from error
    kept: list[Admitted] = []
    naming: dict[int, dict[str, str]] = {}
    as_sent = found.exact and not found.rejected
    items = 0
    for number, piece in enumerate(found.pieces):
        admitted, changed = _piece(signal, piece, limits)
        found.pieces[number] = replace(piece, data=b"")  # no longer needed, and as large as what is kept of it
        as_sent = as_sent and not changed and bool(admitted.items)
        found.reject(admitted.rejected, admitted.reason)
        items += admitted.items
        _bound(items, limits.items, signal.counted)
        if admitted.items:
            kept.append(admitted)
            naming.setdefault(piece.resource, admitted.resources[0])
    return Admitted(
        data=data if as_sent else b"".join(each.data for each in kept),
        items=items,
        resources=tuple(naming.values()) if as_sent else tuple(each.resources[0] for each in kept),
        rejected=found.rejected,
        reason=found.reason or _warning(signal, found),
        truncated=found.truncated,
    )


def _piece(signal: Signal, piece: Piece, limits: Limits) -> tuple[Admitted, bool]:
    """What is kept of a piece, and whether that is not what was sent."""
    request = incoming.parsed(signal, piece.data)
    changed = request is None
    unreadable = 0
    reason = ""
    if request is None:
        request, unreadable, reason = incoming.taken_apart(signal, piece.data, limits.nesting, piece.first)
    invalid = 0
    total = _total(signal, request)
    if total is None:
        bad = [item for item in signal.all_items(request) if signal.problem(item)]
        invalid = sum(map(signal.weight, bad))
        reason = reason or signal.problem(bad[0])
        if not changed:  # what was only checked does not hold all of it
            request = signal.message.FromString(piece.data)
        _drop_invalid(signal, request)
        total = sum(map(signal.weight, signal.all_items(request)))
        changed = True
    return Admitted(
        data=request.SerializeToString() if changed else piece.data,
        items=total,
        resources=tuple(_naming(resource) for resource in signal.resources(request)),
        rejected=unreadable + invalid,
        reason=reason,
    ), changed


def _warning(signal: Signal, found: pieces.Pieces) -> str:
    if not found.truncated:
        return ""
    return f"{found.truncated} {signal.item}(s) hold more than is kept and were truncated; {found.warning}"


def _total(signal: Signal, request: Any) -> int | None:
    """How much the items count for; None when one is invalid."""
    total = 0
    for resource in signal.resources(request):
        for scope in signal.scopes(resource):
            count = signal.count(signal.items(scope))
            if count is None:
                return None
            total += count
    return total


def _bound(count: int, limit: int, what: str) -> None:
    if count > limit:
        raise TooLarge(f"The request has more than {limit} {what}; send it in smaller parts.")


def _drop_invalid(signal: Signal, request: Any) -> None:
    for resource in signal.resources(request):
        for scope in signal.scopes(resource):
            items = signal.items(scope)
            # Serialised first: an item does not outlive its place in the list.
            good = [item.SerializeToString() for item in items if not signal.problem(item)]
            if len(good) != len(items):
                del items[:]
                for data in good:
                    items.add().ParseFromString(data)


def _naming(resource: Any) -> dict[str, str]:
    found = {}
    for attribute in resource.resource.attributes:
        if attribute.key in ("tracestone.experiment", "service.name") and attribute.value.string_value:
            found[attribute.key] = attribute.value.string_value
    return found
