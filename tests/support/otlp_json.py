"""OTLP's JSON form written by protobuf's own encoder, and messages of any content to write in it.

Nothing here shares code with the converter under test: the JSON is what `google.protobuf.json_format` makes, with the
ids, which it writes as base64, turned into hex where OTLP wants them.
"""

import base64
import math
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

_IDS = {"traceId", "spanId", "parentSpanId"}
_RANGES = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SINT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_FIXED32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_SFIXED64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.TYPE_FIXED64: (0, 2**64 - 1),
    FieldDescriptor.TYPE_ENUM: (-(2**31), 2**31 - 1),
}
# Indexes into a profile's table, which requests of the three signals do not have.
_ELSEWHERE = {"string_value_strindex", "key_strindex"}


def otlp_json(message: Message) -> dict[str, Any]:
    """The message in OTLP's JSON form."""
    found: dict[str, Any] = _with_hex(MessageToDict(message, use_integers_for_enums=True))
    return found


def messages(kind: type[Message], depth: int = 3) -> st.SearchStrategy[Message]:
    """Messages with any fields set to anything; values in values at most `depth` levels deep."""
    return _messages(kind.DESCRIPTOR, depth)


def _with_hex(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_hex(item) for item in value]
    if isinstance(value, dict):
        return {
            key: base64.b64decode(item).hex() if key in _IDS and isinstance(item, str) else _with_hex(item)
            for key, item in value.items()
        }
    return value


def _messages(kind: Any, depth: int) -> st.SearchStrategy[Message]:
    members = {}
    for field in kind.fields:
        if field.name in _ELSEWHERE or (depth == 0 and field.name in ("array_value", "kvlist_value")):
            continue
        inner = depth - 1 if field.name in ("array_value", "kvlist_value") else depth
        one = _messages(field.message_type, inner) if field.message_type is not None else _scalars(field)
        members[field.name] = st.lists(one, max_size=3) if field.is_repeated else one
    return st.fixed_dictionaries({}, optional=members).map(lambda given: _build(kind, given))


def _build(kind: Descriptor, given: dict[str, Any]) -> Message:
    # Of a oneof the member that is set last is left, as with every protobuf class.
    message = GetMessageClass(kind)()
    for name, value in given.items():
        field = kind.fields_by_name[name]
        if field.is_repeated:
            getattr(message, name).extend(value)
        elif field.message_type is not None:
            getattr(message, name).CopyFrom(value)
        else:
            setattr(message, name, value)
    return message


def _scalars(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.type == FieldDescriptor.TYPE_STRING:
        return st.text(max_size=20)
    if field.type == FieldDescriptor.TYPE_BYTES:
        sizes = {"trace_id": 16, "span_id": 8, "parent_span_id": 8}
        size = sizes.get(field.name)
        return st.binary(max_size=20) if size is None else st.binary(min_size=size, max_size=size) | st.just(b"")
    if field.type == FieldDescriptor.TYPE_BOOL:
        return st.booleans()
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        # JSON knows one NaN, doubles many.
        return st.floats(allow_nan=False) | st.just(math.nan)
    return st.integers(*_RANGES[field.type])
