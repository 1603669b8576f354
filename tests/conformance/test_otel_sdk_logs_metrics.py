"""Logs and metrics of the OpenTelemetry SDK and its own exporters, over gRPC and HTTP, to rows, field by field."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from opentelemetry._logs import Logger, LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogExporter
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetricExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetricExporter
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from support.engines import fresh_stores
from support.running import Running, running

START = 1_790_000_000_123_456_789
TRANSPORTS = ["grpc", "grpc gzip", "http", "http gzip", "http main port"]


@pytest_asyncio.fixture(scope="module")
async def collector(
    postgres_server: str, chdb_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Running]:
    """A collector for the module."""
    async with (
        fresh_stores(postgres_server, chdb_url) as (pool, columnar),
        running(pool, columnar, tmp_path_factory.mktemp("collector")) as started,
    ):
        yield started


@pytest.fixture(params=TRANSPORTS)
def logger(request: pytest.FixtureRequest, collector: Running) -> Iterator[tuple[LoggerProvider, Logger]]:
    """An SDK with a resource and an exporter as users set it up."""
    match request.param:
        case "grpc":
            exporter: Any = GrpcLogExporter(endpoint=f"http://{collector.grpc_address}", insecure=True)
        case "grpc gzip":
            exporter = GrpcLogExporter(
                endpoint=collector.grpc_address, insecure=True, compression=grpc.Compression.Gzip
            )
        case "http":
            exporter = HttpLogExporter(endpoint=collector.otlp_url("logs"))
        case "http gzip":
            exporter = HttpLogExporter(endpoint=collector.otlp_url("logs"), compression=Compression.Gzip)
        case _:
            exporter = HttpLogExporter(endpoint=f"{collector.url}/v1/logs")
    provider = LoggerProvider(resource=Resource.create({"service.name": "shop", "replica": 3}))
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
    yield (
        provider,
        provider.get_logger("my.library", "4.5", schema_url="https://example.org/schema", attributes={"team": "a"}),
    )
    provider.shutdown()


def _context(trace: int, span: int) -> Any:
    return set_span_in_context(NonRecordingSpan(SpanContext(trace, span, False, TraceFlags(1))))


async def test_a_log_record_field_by_field(logger: tuple[LoggerProvider, Logger], collector: Running) -> None:
    provider, emit = logger
    trace = secrets.randbits(120) + 1
    messages = [{"role": "user", "content": "hi", "parts": [1, 2.5, None, True]}]
    emit.emit(
        LogRecord(
            timestamp=START,
            observed_timestamp=START + 5,
            context=_context(trace, 7),
            severity_text="WARN",
            severity_number=SeverityNumber.WARN,
            body="careful",
            attributes={
                "string": "",
                "int": 2**62 + 1,
                "float": 0.5,
                "bool": False,
                "list": ["a", "b"],
                "deep": messages,
            },
            event_name="app.warning",
        )
    )
    emit.emit(LogRecord(observed_timestamp=START + 6, context=_context(trace, 7), body={"message": messages}))
    assert await asyncio.to_thread(provider.force_flush, 20_000)
    first, second = await collector.rows(
        "SELECT *, toUnixTimestamp64Nano(time) AS ns, toUnixTimestamp64Nano(observed_time) AS observed_ns FROM logs"
        " WHERE trace_id = {id:String} ORDER BY time",
        id=f"{trace:032x}",
    )
    assert (first["ns"], first["observed_ns"], first["span_id"], first["flags"]) == (START, START + 5, f"{7:016x}", 1)
    assert (first["severity_number"], first["severity_text"], first["event_name"]) == (13, "WARN", "app.warning")
    assert (first["body"], first["body_type"]) == ("careful", "string")
    assert first["attributes_string"] == {"string": ""}
    assert first["attributes_int"] == {"int": 2**62 + 1}
    assert (first["attributes_float"], first["attributes_bool"]) == ({"float": 0.5}, {"bool": False})
    assert {key: json.loads(text) for key, text in first["attributes_json"].items()} == {
        "list": ["a", "b"],
        "deep": messages,
    }
    assert first["service_name"] == "shop"
    assert json.loads(first["resource_attributes"])["replica"] == 3
    assert (first["scope_name"], first["scope_version"]) == ("my.library", "4.5")
    assert json.loads(first["scope_attributes"]) == {"team": "a"}
    assert first["schema_url"] == "https://example.org/schema"
    experiment = await collector.collector.experiments.by_name("shop")
    assert experiment is not None
    assert first["experiment_id"] == experiment.experiment_id
    # Without a time, the time of observation counts.
    assert (second["ns"], second["body_type"]) == (START + 6, "json")
    assert json.loads(second["body"]) == {"message": messages}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_metrics_of_every_instrument(collector: Running, transport: str) -> None:
    service = f"meter {transport}"
    reader = PeriodicExportingMetricReader(_metric_exporter(transport, collector), export_interval_millis=3_600_000)
    provider = MeterProvider(
        [reader],
        Resource.create({"service.name": service}),
        views=[View(instrument_name="exponential", aggregation=ExponentialBucketHistogramAggregation())],
    )
    meter = provider.get_meter("my.meter", "1.0")

    def temperature(options: CallbackOptions) -> list[Observation]:
        return [Observation(-2.5, {"room": "a"}), Observation(3, {"room": "b"})]

    meter.create_observable_gauge("temperature", [temperature], unit="Cel", description="how warm")
    trace = secrets.randbits(120) + 1
    context = _context(trace, 9)
    meter.create_counter("tokens", unit="{token}").add(2**60 + 1, {"gen_ai.token.type": "input"}, context=context)
    meter.create_up_down_counter("queue").add(-2)
    duration = meter.create_histogram("duration", unit="s", explicit_bucket_boundaries_advisory=[1.0, 10.0])
    for value in (0.5, 2.0, 3.0):
        duration.record(value, context=context)
    exponential = meter.create_histogram("exponential")
    for value in (1.0, 4.0, 0.0):
        exponential.record(value)
    assert await asyncio.to_thread(provider.force_flush, 20_000)
    await asyncio.to_thread(provider.shutdown)
    found = await collector.rows(
        "SELECT * FROM metrics WHERE service_name = {name:String} ORDER BY name, attributes_string['room'], time",
        name=service,
    )
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in found:
        rows.setdefault(row["name"], []).append(row)
    # The shutdown exports once more, at a later time: every series has its points of both.
    warm = [row for row in rows["temperature"] if row["attributes"]["room"] == "a"][0]
    assert (warm["type"], warm["value"], warm["value_int"]) == ("gauge", -2.5, None)
    assert (warm["unit"], warm["description"]) == ("Cel", "how warm")
    room_b = [row for row in rows["temperature"] if row["attributes"]["room"] == "b"][0]
    assert (room_b["value"], room_b["value_int"]) == (3.0, 3)
    tokens = rows["tokens"][0]
    assert (tokens["type"], tokens["temporality"], tokens["is_monotonic"]) == ("sum", "CUMULATIVE", True)
    assert tokens["value_int"] == 2**60 + 1
    assert tokens["attributes_string"] == {"gen_ai.token.type": "input"}
    (exemplar,) = tokens["exemplars"]
    assert (exemplar["trace_id"], exemplar["span_id"]) == (f"{trace:032x}", f"{9:016x}")
    queue = rows["queue"][0]
    assert (queue["type"], queue["is_monotonic"], queue["value_int"]) == ("sum", False, -2)
    seconds = rows["duration"][0]
    assert (seconds["type"], seconds["count"], seconds["sum"]) == ("histogram", 3, 5.5)
    assert (seconds["min"], seconds["max"]) == (0.5, 3.0)
    assert (seconds["bucket_bounds"], seconds["bucket_counts"]) == ([1.0, 10.0], [1, 2, 0])
    assert {each["value"] for each in seconds["exemplars"]} <= {0.5, 2.0, 3.0}
    exponential_row = rows["exponential"][0]
    assert exponential_row["type"] == "exponential_histogram"
    assert (exponential_row["count"], exponential_row["sum"], exponential_row["zero_count"]) == (3, 5.0, 1)
    assert sum(exponential_row["positive_counts"]) == 2
    assert {row["scope_name"] for row in found} == {"my.meter"}


def _metric_exporter(transport: str, collector: Running) -> MetricExporter:
    match transport:
        case "grpc":
            return GrpcMetricExporter(endpoint=f"http://{collector.grpc_address}", insecure=True)
        case "grpc gzip":
            return GrpcMetricExporter(endpoint=collector.grpc_address, insecure=True, compression=grpc.Compression.Gzip)
        case "http":
            return HttpMetricExporter(endpoint=collector.otlp_url("metrics"))
        case "http gzip":
            return HttpMetricExporter(endpoint=collector.otlp_url("metrics"), compression=Compression.Gzip)
    return HttpMetricExporter(endpoint=f"{collector.url}/v1/metrics")
