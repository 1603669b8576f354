"""Logs and metrics built record by record, and sent as bytes."""

from typing import Any

import httpx
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric, ResourceMetrics, ScopeMetrics
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from support.running import Running
from tracestone.collector.wal.frames import varint
from tracestone.protos.ingest.v1.logs_pb2 import Logs
from tracestone.protos.ingest.v1.metrics_pb2 import Metrics
from tracestone.schema import clock
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.stores.logs import LogStore
from tracestone.schema.stores.otlp import OtlpTable

START = 1_790_000_000_000_000_000
SECOND = 1_000_000_000


def any_value(value: Any) -> AnyValue:
    """A Python value as OTLP has it, nested to any depth."""
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, bytes):
        return AnyValue(bytes_value=value)
    if isinstance(value, list):
        return AnyValue(array_value=ArrayValue(values=[any_value(item) for item in value]))
    if isinstance(value, dict):
        return AnyValue(kvlist_value=KeyValueList(values=pairs(value)))
    return AnyValue() if value is None else AnyValue(string_value=value)


def pairs(values: dict[str, Any]) -> list[KeyValue]:
    """Attributes."""
    return [KeyValue(key=key, value=any_value(value)) for key, value in values.items()]


def log(body: Any = None, trace: int = 0, span: int = 0, *, at: int = START, **fields: Any) -> LogRecord:
    """A log record; small numbers make its ids, `attributes` is a dictionary."""
    return LogRecord(
        time_unix_nano=at,
        body=None if body is None else any_value(body),
        trace_id=trace.to_bytes(16, "big") if trace else b"",
        span_id=span.to_bytes(8, "big") if span else b"",
        attributes=pairs(fields.pop("attributes", {})),
        **fields,
    )


def logs_request(*records: LogRecord, service: str = "agent", scope: str = "") -> ExportLogsServiceRequest:
    """The records as one service sends them."""
    request = ExportLogsServiceRequest(
        resource_logs=[
            ResourceLogs(
                resource=Resource(attributes=pairs({"service.name": service})),
                scope_logs=[ScopeLogs(log_records=records)],
            )
        ]
    )
    request.resource_logs[0].scope_logs[0].scope.name = scope
    return request


def metrics_request(*metrics: Metric, service: str = "agent") -> ExportMetricsServiceRequest:
    """The metrics as one service sends them."""
    return ExportMetricsServiceRequest(
        resource_metrics=[
            ResourceMetrics(
                resource=Resource(attributes=pairs({"service.name": service})),
                scope_metrics=[ScopeMetrics(metrics=metrics)],
            )
        ]
    )


async def post(receiver: Running, signal: str, body: bytes) -> bytes:
    """Sends over HTTP what must be answered with success; the answer's bytes."""
    async with httpx.AsyncClient(timeout=20) as http:
        answer = await http.post(
            receiver.otlp_url(signal), content=body, headers={"content-type": "application/x-protobuf"}
        )
    assert answer.status_code == 200, answer.content
    return answer.content


async def store_logs(columnar: Columnar, request: ExportLogsServiceRequest, experiment_id: int) -> None:
    """Puts log records straight into ClickHouse, as the loader would."""
    ours = Logs(experiment_ids=[experiment_id] * len(request.resource_logs), received_at=clock.now_ns())
    record = request.SerializeToString() + ours.SerializeToString()
    await LogStore(columnar).insert(varint(len(record)) + record, "test")


async def store_metrics(columnar: Columnar, request: ExportMetricsServiceRequest, experiment_id: int) -> None:
    """Puts data points straight into ClickHouse, as the loader would."""
    ours = Metrics(experiment_ids=[experiment_id] * len(request.resource_metrics), received_at=clock.now_ns())
    record = request.SerializeToString() + ours.SerializeToString()
    await OtlpTable(columnar, "metrics", "Metrics").insert(varint(len(record)) + record, "test")
