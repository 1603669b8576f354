"""Log records: all are valid. Ids of another length or of zeros say only that a record belongs to no span."""

from collections.abc import Iterator
from operator import attrgetter

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from tracestone.collector.signals.signal import Listed, Signal, composite_in, for_checking, is_composite, nested_in
from tracestone.protos.ingest.v1.logs_pb2 import Logs


def _nested(request: ExportLogsServiceRequest) -> Iterator[AnyValue]:
    for resource in request.resource_logs:
        yield from nested_in(resource.resource.attributes)
        for scope in resource.scope_logs:
            yield from composite_in(scope.scope.attributes)
            for record in scope.log_records:
                yield from nested_in(record.attributes)
                if is_composite(record.body):
                    yield record.body


LOGS = Signal(
    name="logs",
    log_share=0.25,
    batch_age=4.0,
    item="log record",
    counted="log record(s)",
    service="opentelemetry.proto.collector.logs.v1.LogsService",
    message=Logs,
    incoming=for_checking(Logs),
    request=ExportLogsServiceRequest,
    response=ExportLogsServiceResponse,
    rejected="rejected_log_records",
    resources=attrgetter("resource_logs"),
    scopes=attrgetter("scope_logs"),
    items=attrgetter("log_records"),
    count=len,
    weight=lambda record: 1,
    problem=lambda record: "",
    tells_bound=True,
    nested=_nested,
    tree={
        "item": {5: "value", 6: "pair"},
        "pair": {2: "value"},
        "value": {5: "array", 6: "list"},
        "array": {1: "value"},
        "list": {1: "pair"},
    },
    lists={"item": {6: Listed("attributes", 7)}},
    attributes_field=6,
)
