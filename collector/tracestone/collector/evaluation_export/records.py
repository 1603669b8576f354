"""Assessments as log records of OTLP, one `gen_ai.evaluation.result` each. Pure.

As the semantic conventions have it, the record's trace and span are those of what was judged. What was judged is in an
experiment, which the resource names as `tracestone.experiment`: another Tracestone files it under the same name.
"""

from collections.abc import Mapping, Sequence

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, SeverityNumber

from tracestone.schema import clock
from tracestone.schema.evaluations import EVENT_NAME, attributes
from tracestone.schema.stores.evaluation_events import Told

SCOPE = "tracestone.evaluations"


def request(
    events: Sequence[Told], deployment: str, responses: Mapping[tuple[str, str], str]
) -> ExportLogsServiceRequest:
    """One request with a record for each assessment. `responses` are response ids by trace id and span id."""
    found = ExportLogsServiceRequest()
    by_experiment: dict[str, list[LogRecord]] = {}
    for event in events:
        row = event.assessment
        response_id = responses.get((row["trace_id"], row["span_id"]), "")
        record = LogRecord(
            event_name=EVENT_NAME,
            # A deterministic record, so that one sent again is known again.
            time_unix_nano=row["updated_at_ms"] * 1_000_000,
            observed_time_unix_nano=clock.now_ns(),
            severity_number=SeverityNumber.SEVERITY_NUMBER_WARN
            if row["error_code"]
            else SeverityNumber.SEVERITY_NUMBER_INFO,
            trace_id=_id(row["trace_id"], 16),
            span_id=_id(row["span_id"], 8),
            attributes=_pairs(attributes(row, deployment, response_id)),
        )
        by_experiment.setdefault(event.experiment, []).append(record)
    for experiment, records in by_experiment.items():
        resource = found.resource_logs.add()
        told = {"service.name": "tracestone"} | ({"tracestone.experiment": experiment} if experiment else {})
        resource.resource.attributes.extend(_pairs(told))
        resource.scope_logs.add(log_records=records).scope.name = SCOPE
    return found


def _id(text: str, length: int) -> bytes:
    """The bytes of an id in hex; none where a client named one that is no id of OTLP's."""
    try:
        found = bytes.fromhex(text)
    except ValueError:
        return b""
    return found if len(found) == length else b""


def _pairs(values: Mapping[str, bool | int | float | str]) -> list[KeyValue]:
    return [KeyValue(key=key, value=_value(value)) for key, value in values.items()]


def _value(value: bool | int | float | str) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    return AnyValue(string_value=value.encode("utf-8", "replace").decode("utf-8"))
