"""A request's bytes as a message: at C speed when every span is plain, span by span when one is not.

`parsed` answers the common request with one run of the C parser. `taken_apart` is for the others: it finds the spans
that do not parse, and puts nested values (and anything a sender wrote into field numbers that are ours) in order.
"""

from typing import cast

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from tracestone.collector.receiver import nested
from tracestone.protos.ingest.v1 import traces_pb2
from tracestone.protos.ingest.v1.envelope_pb2 import Envelope, ResourceEnvelope, ScopeEnvelope
from tracestone.protos.ingest.v1.traces_pb2 import Traces
from tracestone.schema.errors import Invalid


def parsed(data: bytes) -> Traces | None:
    """The request, when its bytes can be stored as they are; None when `taken_apart` must look at it."""
    try:
        request = _Incoming.FromString(data)
    except DecodeError:
        return None
    if not request.IsInitialized() or request.experiment_ids or request.received_at:
        return None
    return request


def taken_apart(data: bytes, max_nesting: int, first: int) -> tuple[Traces, int, str]:
    """The request without the spans that cannot be parsed, their number, and what is wrong with the first.

    `first` is the number of its first span in the scope as it was sent.
    Raises Invalid when the bytes are no request at all.
    """
    try:
        envelope = Envelope.FromString(data)
    except DecodeError as error:
        raise Invalid("", f"The body is not an ExportTraceServiceRequest in protobuf: {_plain(error)}.") from error
    request = ExportTraceServiceRequest()
    rejected = 0
    reason = ""
    for raw in envelope.resource_spans:
        resource, lost, why = _resource(raw, first)
        request.resource_spans.append(resource)
        rejected += lost
        reason = reason or why
    request.DiscardUnknownFields()
    return nested.rewritten(request, max_nesting), rejected, reason


def _resource(raw: ResourceEnvelope, first: int) -> tuple[ResourceSpans, int, str]:
    scopes = list(raw.scope_spans)
    head = ResourceEnvelope.FromString(raw.SerializeToString())
    head.ClearField("scope_spans")
    try:
        resource = ResourceSpans.FromString(head.SerializeToString())
    except DecodeError as error:
        return ResourceSpans(), sum(len(scope.spans) for scope in scopes), f"resource: {_plain(error)}"
    rejected = 0
    reason = ""
    for each in scopes:
        scope, lost, why = _scope(each, first)
        resource.scope_spans.append(scope)
        rejected += lost
        reason = reason or why
    return resource, rejected, reason


def _scope(raw: ScopeEnvelope, first: int) -> tuple[ScopeSpans, int, str]:
    head = ScopeEnvelope.FromString(raw.SerializeToString())
    head.ClearField("spans")
    try:
        scope = ScopeSpans.FromString(head.SerializeToString())
    except DecodeError as error:
        return ScopeSpans(), len(raw.spans), f"scope: {_plain(error)}"
    reason = ""
    for number, data in enumerate(raw.spans, start=first):
        try:
            scope.spans.append(Span.FromString(data))
        except DecodeError as error:
            reason = reason or f"span {number} of its scope: {_plain(error)}"
    return scope, len(raw.spans) - len(scope.spans), reason


def _plain(error: DecodeError) -> str:
    # The C parser tells bad text from the rest, and no more.
    if "UTF-8" in str(error):
        return "a text is not UTF-8"
    return "the protobuf is corrupt, cut short, or holds values nested too deep"


def _as_sent() -> type[Traces]:
    """The class of what the log stores, except that a value in our own `json_value` is refused like a nested one."""
    file = FileDescriptorProto()
    traces_pb2.DESCRIPTOR.CopyToProto(file)
    for message in file.message_type:
        for field in message.field:
            if field.name == "json_value":
                field.type = FieldDescriptorProto.TYPE_MESSAGE
                field.type_name = f".{file.package}.Nested"
    pool = DescriptorPool()
    pool.Add(file)
    return cast(type[Traces], GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.Traces")))


_Incoming = _as_sent()
