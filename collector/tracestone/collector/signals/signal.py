"""One kind of telemetry, as the receiver and the loader have to know it.

Requests of all kinds are built alike: resources, in them scopes, in them items (spans, log records, metrics), under the
same field numbers. So one receiver and one loader serve them all, and what differs is a `Signal`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

Part = Callable[[Any], Any]
_VALUES = ("AnyValue", "FlatValue", "Scalar")
_MERGED = ("KeyValue", "FlatKeyValue", "Scalar")
# The message fields of an item, by message: field number and what is in it.
Tree = Mapping[str, Mapping[int, str]]


class Listed(NamedTuple):
    """A repeated field that is bounded, by its name, and the number of the field that counts what was left out."""

    name: str
    dropped: int


@dataclass(frozen=True, eq=False)
class Signal:
    """One kind of telemetry. `resources`, `scopes` and `items` take the repeated field out of the message above it."""

    name: str
    """Of the log's folder and of the path: traces, logs, metrics."""
    log_share: float
    """Of `wal_max_bytes`, how much is this signal's."""
    batch_age: float
    """After how many times `batch_max_age_ms` a batch is closed. Each insert costs, and only spans are waited for."""
    item: str
    """What a person calls one of them."""
    counted: str
    """What OTLP counts in a partial success: spans, log records, data points."""
    service: str
    """The gRPC service, whose one method is Export."""
    message: type[Any]
    """The class of what the log stores and ClickHouse reads."""
    incoming: type[Any]
    """The class with which a request is checked, and nothing else done (`for_checking`)."""
    request: type[Any]
    """OTLP's own class of a request."""
    response: type[Any]
    """OTLP's own class of the answer."""
    rejected: str
    """The field of `response.partial_success` with the number of what was left out."""
    resources: Part
    scopes: Part
    items: Part
    count: Callable[[Any], int | None]
    """How much the items of a scope count for; None when one is invalid."""
    weight: Callable[[Any], int]
    """How much one item counts for, valid or not."""
    problem: Callable[[Any], str]
    """What is invalid about an item, "" if nothing is."""
    tells_bound: bool
    """Whether `message` has a field for that the sender's key is bound to experiments."""
    nested: Callable[[Any], Iterator[AnyValue]]
    """The values of a request (of OTLP's own class) that have to be stored as JSON text."""
    tree: Tree
    """The message fields of an item, whose own name in it is `item`; see `pieces`."""

    lists: Mapping[str, Mapping[int, Listed]] = field(default_factory=dict)
    """By message, as in `tree`: which repeated fields are bounded; none where nothing is."""
    attributes_field: int = 0
    """The number of an item's own attributes; given with `lists`."""

    def all_items(self, message: Any) -> Iterator[Any]:
        """Every item of a message, in order."""
        for resource in self.resources(message):
            for scope in self.scopes(resource):
                yield from self.items(scope)


def for_checking(message: type[Any]) -> type[Any]:
    """The class with which the C parser checks a request of a sender: it reads the same bytes and keeps less of them.

    It differs from the class of what the log stores in that a value in our own `json_value` is refused like a nested
    one, and in that all attributes of an item, and all values of an array, are one message, into which each is merged
    as protobuf merges a field that comes again. Nothing is refused less for that: every text is checked, and a nested
    value stays nested whatever comes after it, since values exclude each other no longer. But there are a quarter of
    the objects to make and to look at, and looking at them was most of the receiver's work.
    """
    file = FileDescriptorProto()
    message.DESCRIPTOR.file.CopyToProto(file)
    for each in file.message_type:
        if each.name in _VALUES:
            del each.oneof_decl[:]
        for one in each.field:
            if one.name == "json_value":
                one.type = FieldDescriptorProto.TYPE_MESSAGE
                one.type_name = f".{file.package}.Nested"
            if each.name in _VALUES:
                one.ClearField("oneof_index")
            # The attributes of resources are read: they may name an experiment.
            if each.name != "Resource" and one.type_name.rpartition(".")[2] in _MERGED:
                one.label = FieldDescriptorProto.LABEL_OPTIONAL
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName(message.DESCRIPTOR.full_name))


def nested_in(attributes: Iterable[Any]) -> Iterator[AnyValue]:
    """The values of attributes that are more than a scalar or an array of scalars."""
    for pair in attributes:
        value = pair.value
        if value.HasField("kvlist_value"):
            yield value
        elif value.HasField("array_value"):
            items = value.array_value.values
            if any(item.HasField("kvlist_value") or item.HasField("array_value") for item in items):
                yield value


def composite_in(attributes: Iterable[Any]) -> Iterator[AnyValue]:
    """The values of attributes that are more than a scalar, for places where arrays have no columns."""
    for pair in attributes:
        if is_composite(pair.value):
            yield pair.value


def is_composite(value: AnyValue) -> bool:
    """Whether a value holds values."""
    return value.HasField("kvlist_value") or value.HasField("array_value")
