"""The messages of OTLP as msgspec reads them from JSON: one class for each, made from the official descriptors.

OTLP's JSON form is proto3's with exceptions, which the types here allow for and `wire` resolves: ids are hex texts, a
number of 64 bits is a text or a number, an enum is a number (or, leniently, its name). A key that is not known is
passed over, `null` is as if the key were not there, and of a key given twice the last counts.
"""

from types import GenericAlias
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from msgspec import Struct, defstruct

Number = int | str | float

_SCALARS: dict[int, Any] = {
    FieldDescriptor.TYPE_STRING: str,
    FieldDescriptor.TYPE_BYTES: str,
    FieldDescriptor.TYPE_BOOL: bool,
    FieldDescriptor.TYPE_DOUBLE: float | str,
}


# Values hold values, so these four are written out; none of them is ever part of a cycle of references.
class AnyValue(Struct, rename="camel", gc=False):
    """A value; exactly one member is set, or none for the empty value."""

    string_value: str | None = None
    bool_value: bool | None = None
    int_value: Number | None = None
    double_value: float | str | None = None
    array_value: "ArrayValue | None" = None
    kvlist_value: "KeyValueList | None" = None
    bytes_value: str | None = None


class ArrayValue(Struct, gc=False):
    """Values in order."""

    values: list[AnyValue] | None = None


class KeyValue(Struct, gc=False):
    """An attribute."""

    key: str | None = None
    value: AnyValue | None = None


class KeyValueList(Struct, gc=False):
    """Pairs in order."""

    values: list[KeyValue] | None = None


VALUES: dict[str, type[Struct]] = {each.__name__: each for each in (AnyValue, ArrayValue, KeyValue, KeyValueList)}


def fields(message: Descriptor) -> list[FieldDescriptor]:
    """The fields that the class of a message has, in its order. Indexes into a profile's table mean nothing here."""
    return [field for field in message.fields if not field.name.endswith("_strindex")]


def shape(message: Descriptor) -> type[Struct]:
    """The class for a message; its attributes have the fields' names, its JSON keys lowerCamelCase."""
    if message.name in VALUES:
        return VALUES[message.name]
    members = [(field.name, _type(field), None) for field in fields(message)]
    return defstruct(message.name, members, rename="camel", gc=False, module=__name__)


def _type(field: FieldDescriptor) -> Any:
    one: Any = shape(field.message_type) if field.message_type is not None else _SCALARS.get(field.type, Number)
    return (GenericAlias(list, (one,)) if field.is_repeated else one) | None
