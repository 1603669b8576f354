"""A request's bytes as a message: at C speed when every item is plain, item by item when one is not.

`parsed` answers the common request with one run of the C parser. `taken_apart` is for the others: it finds the items
that do not parse, and puts nested values (and anything a sender wrote into field numbers that are ours) in order.
"""

from typing import Any

from google.protobuf.message import DecodeError, EncodeError

from tracestone.collector.receiver import deep, nested
from tracestone.collector.signals.signal import Signal
from tracestone.protos.ingest.v1.envelope_pb2 import Envelope, ResourceEnvelope, ScopeEnvelope
from tracestone.schema.errors import Invalid


def parsed(signal: Signal, data: bytes) -> Any | None:
    """The request to look at, when its bytes can be stored as they are; None when `taken_apart` must see to it.

    It does not hold all that is in the bytes: see `signal.for_checking`.
    """
    try:
        request = signal.incoming.FromString(data)
        # Refused where a nested value lacks its field, for half of what `IsInitialized` takes to look everywhere.
        request.SerializeToString()
    except (DecodeError, EncodeError):
        return None
    return None if request.experiment_ids or request.received_at else request


def has_larger(data: bytes, size: int) -> bool:
    """Whether an item of a request that parses has more bytes than `size`."""
    return len(data) > size and any(
        len(scope.items) and max(map(len, scope.items)) > size
        for resource in Envelope.FromString(data).resources
        for scope in resource.scopes
    )


def taken_apart(signal: Signal, data: bytes, max_nesting: int, first: int) -> tuple[Any, int, str]:
    """The request without the items that cannot be parsed, their number, and what is wrong with the first.

    `first` is the number of its first item in the scope as it was sent.
    Raises Invalid when the bytes are no request at all.
    """
    try:
        envelope = Envelope.FromString(data)
    except DecodeError as error:
        raise not_a_request(signal, _plain(error)) from error
    request = signal.request()
    rejected = 0
    reason = ""
    for raw in envelope.resources:
        lost, why = _resource(signal, raw, signal.resources(request).add(), max_nesting, first)
        rejected += lost
        reason = reason or why
    request.DiscardUnknownFields()
    return nested.rewritten(signal, request, max_nesting), rejected, reason


def not_a_request(signal: Signal, reason: str) -> Invalid:
    """The refusal of a body that is something else."""
    return Invalid("", f"The body is not an {signal.request.DESCRIPTOR.name} in protobuf: {reason}.")


def _resource(signal: Signal, raw: ResourceEnvelope, resource: Any, max_nesting: int, first: int) -> tuple[int, str]:
    scopes = list(raw.scopes)
    head = ResourceEnvelope.FromString(raw.SerializeToString())
    head.ClearField("scopes")
    problem = _read(signal, "resources", resource, head.SerializeToString(), max_nesting)
    if problem:
        return sum(len(scope.items) for scope in scopes), f"resource: {problem}"
    rejected = 0
    reason = ""
    for each in scopes:
        lost, why = _scope(signal, each, signal.scopes(resource).add(), max_nesting, first)
        rejected += lost
        reason = reason or why
    return rejected, reason


def _scope(signal: Signal, raw: ScopeEnvelope, scope: Any, max_nesting: int, first: int) -> tuple[int, str]:
    head = ScopeEnvelope.FromString(raw.SerializeToString())
    head.ClearField("items")
    problem = _read(signal, "scopes", scope, head.SerializeToString(), max_nesting)
    if problem:
        return len(raw.items), f"scope: {problem}"
    items = signal.items(scope)
    reason = ""
    for number, data in enumerate(raw.items, start=first):
        problem = _read(signal, "item", items.add(), data, max_nesting)
        if problem:
            del items[-1]
            reason = reason or f"{signal.item} {number} of its scope: {problem}"
    return len(raw.items) - len(items), reason


def _read(signal: Signal, kind: str, message: Any, data: bytes, max_nesting: int) -> str:
    """Parses bytes into an empty message; returns why they cannot be, "" when they can."""
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        message.Clear()
        try:
            shallow = deep.folded(signal, kind, data, max_nesting)
            if shallow is None:
                return _plain(error)
            message.ParseFromString(shallow)
        except DecodeError as second:
            message.Clear()
            return _plain(second)
    return ""


def _plain(error: DecodeError) -> str:
    # The C parser tells bad text from the rest, and no more.
    if "UTF-8" in str(error):
        return "a text is not UTF-8"
    return "the protobuf is corrupt or cut short"
