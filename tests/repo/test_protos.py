"""What the log stores is read by our own schemas: the fields they name are OTLP's, number by number."""

from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from tracestone.collector.signals.known import SIGNALS
from tracestone.collector.signals.signal import Signal

# Of a recursive value, what ClickHouse does not read has a message type of ours instead.
_NESTED = "Nested"
_OURS = {"json_value", "experiment_ids", "received_at", "sender_bound"}
_NOT_READ = {"entity_refs", "string_value_strindex", "key_strindex"}
_ENUMS = {FieldDescriptor.TYPE_ENUM: FieldDescriptor.TYPE_INT32}


def _pairs(ours: Descriptor, theirs: Descriptor, seen: set[str]) -> Iterator[tuple[Descriptor, Descriptor]]:
    """Our messages beside OTLP's, from the request down."""
    if f"{ours.name} {theirs.name}" in seen:
        return
    seen.add(f"{ours.name} {theirs.name}")
    yield ours, theirs
    for field in ours.fields:
        other = theirs.fields_by_number.get(field.number)
        if field.message_type and other is not None and field.message_type.name != _NESTED:
            yield from _pairs(field.message_type, other.message_type, seen)


def _shape(field: FieldDescriptor) -> tuple[Any, ...]:
    oneof = field.containing_oneof
    kind = _ENUMS.get(field.type, field.type)
    # An optional field is a oneof of its own in the older syntax.
    choice = "" if oneof is None or oneof.name.startswith("_") else oneof.name
    return field.name, kind, field.is_repeated, field.is_packed, field.has_presence, choice


@pytest.mark.parametrize("signal", SIGNALS, ids=lambda signal: signal.name)
def test_our_schema_is_otlp_s_on_the_wire(signal: Signal) -> None:
    compared = 0
    for ours, theirs in _pairs(signal.message.DESCRIPTOR, signal.request.DESCRIPTOR, set()):
        for field in theirs.fields:
            own = ours.fields_by_number.get(field.number)
            if own is None:
                assert field.name in _NOT_READ, f"{theirs.full_name}.{field.name} is not read"
                continue
            assert _shape(own)[1:] == _shape(field)[1:], f"{ours.full_name}.{own.name}"
            assert own.name == field.name or own.message_type, f"{ours.full_name}.{own.name}"
            compared += 1
        assert {field.name for field in ours.fields if field.number not in theirs.fields_by_number} <= _OURS
    assert compared > 30
