"""Go's SDK in `telemetrygen`, and the OpenTelemetry Collector with each of its OTLP exporters, to rows.

They are built from source by `scripts/clients go`, so these tests are slow; see docs/testing.md.
"""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    Exemplar,
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    Sum,
    Summary,
    SummaryDataPoint,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from support.clients import OtelCollector, built, counted, eventually, run
from support.program import Program
from support.signals import log, logs_request, metrics_request, pairs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

START = 1_790_000_000_000_000_000


async def _telemetrygen(signal: str, transport: str, endpoint: str, service: str, *options: str) -> None:
    """Sends with Go's SDK; `endpoint` is host:port. Faster than this its own queue overflows, and it drops spans."""
    over = ["--otlp-http"] if transport == "http" else []
    await run(
        built("go") / "bin/telemetrygen", signal, "--otlp-insecure", *over, "--otlp-endpoint", endpoint,
        "--service", service, "--rate", "1000", *options,
    )  # fmt: skip


@pytest.mark.parametrize("transport", ["grpc", "http"])
async def test_telemetrygen_traces(program: Program, transport: str) -> None:
    endpoint = program.grpc if transport == "grpc" else program.http_root.removeprefix("http://")
    service = f"telemetrygen {transport}"
    await _telemetrygen(
        "traces", transport, endpoint, service,
        *("--workers", "2", "--traces", "200", "--child-spans", "4", "--span-links", "1", "--status-code", "Error"),
        *("--telemetry-attributes", 'kind="test"', "--telemetry-attributes", "number=7"),
    )  # fmt: skip
    await counted(program, "spans", service, 2 * 200 * 5)
    question = (
        "SELECT count(), uniqExact(trace_id), countIf(status_code = 'ERROR'), countIf(length(links.trace_id) = 1),"
        " countIf(attributes_string['kind'] = 'test'), countIf(attributes_int['number'] = 7)"
        f" FROM spans WHERE service_name = '{service}'"
    )
    # A link is to an earlier span: a worker's first span has none.
    assert await program.sql(question) == [[2000, 400, 2000, 1998, 2000, 2000]]
    question = f"SELECT count(), min(span_count), max(span_count) FROM traces WHERE service_name = '{service}'"
    await eventually(program, question, [[400, 5, 5]])


def _exporters(program: Program) -> dict[str, dict[str, Any]]:
    """The Collector's ways to send OTLP, by name."""
    http = {"endpoint": program.http_root}
    grpc = {"endpoint": program.grpc, "tls": {"insecure": True}}
    ways: dict[str, dict[str, Any]] = {f"otlp {name}": {**grpc, "compression": name} for name in GRPC}
    ways |= {f"otlphttp {name}": {**http, "compression": name} for name in HTTP}
    return ways | {f"otlphttp json {name}": {**http, "compression": name, "encoding": "json"} for name in JSON}


GRPC = ("none", "gzip")
HTTP = ("none", "gzip", "zstd", "zlib", "deflate")
JSON = ("none", "gzip", "zstd")
NAMES = [
    *(f"otlp {name}" for name in GRPC),
    *(f"otlphttp {name}" for name in HTTP),
    *(f"otlphttp json {name}" for name in JSON),
]


@asynccontextmanager
async def _collector(folder: Path, exporter: dict[str, Any], name: str) -> AsyncIterator[OtelCollector]:
    kind = name.split()[0]
    pipeline = {"receivers": ["otlp"], "processors": ["batch"], "exporters": [kind]}
    collector = OtelCollector.with_receiver(
        folder,
        {
            "processors": {"batch": {"timeout": "50ms"}},
            "exporters": {kind: exporter},
            "service": {"pipelines": dict.fromkeys(("traces", "logs", "metrics"), pipeline)},
        },
    )
    await collector.start()
    try:
        yield collector
        # What it took it sends before it ends.
        assert await collector.stop() == 0, collector.tail()
    finally:
        await collector.close()


ATTRIBUTES: dict[str, Any] = {
    "string": "text",
    "string.empty": "",
    "string.long": "long " * 200,
    "string.unicode": 'é 日本 🙂 "quoted" \\ \n\t\x00',
    "int": 0,
    "int.most": 2**63 - 1,
    "int.least": -(2**63),
    "float": 0.1,
    "float.whole": 3.0,
    "float.tiny": 5e-324,
    "float.nan": float("nan"),
    "float.infinite": float("-inf"),
    "bool": False,
    "bytes": b"\x00\xff raw",
    "list": ["a", 1, 2.5, True, None, b"\xfe", [], {}],
    "nested": {"deep": [{"x": [1, {"y": "z"}]}], "empty": "", "big": 2**63 - 1},
}


def _request(service: str) -> bytes:
    """Two spans with everything that a span can have."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add(schema_url="https://example.org/resource")
    resource.resource.attributes.extend(pairs({"service.name": service, "replica": 3, "hosts": ["a", "b"]}))
    scope = resource.scope_spans.add(schema_url="https://example.org/schema")
    scope.scope.name, scope.scope.version = "my.library", "4.5"
    scope.scope.attributes.extend(pairs({"team": "a"}))
    child = scope.spans.add(
        trace_id=b"\xab" * 16, span_id=b"\x01" * 8, parent_span_id=b"\x02" * 8, trace_state="vendor=x", flags=0x101,
        name="child", kind=Span.SPAN_KIND_CONSUMER, start_time_unix_nano=START + 1, end_time_unix_nano=START + 999,
        attributes=pairs(ATTRIBUTES), dropped_attributes_count=1, dropped_events_count=2, dropped_links_count=3,
        status=Status(code=Status.STATUS_CODE_ERROR, message="it failed"),
    )  # fmt: skip
    child.events.add(name="happened", time_unix_nano=START + 5, attributes=pairs({"n": 1, "list": ["a", 2.0]}))
    child.links.add(trace_id=b"\xcd" * 16, span_id=b"\xef" * 8, trace_state="a=b", attributes=pairs({"try": 2}))
    scope.spans.add(
        trace_id=b"\xab" * 16, span_id=b"\x02" * 8, name="parent", start_time_unix_nano=START,
        end_time_unix_nano=START + 1000,
    )  # fmt: skip
    return request.SerializeToString()


def _logs_request(service: str) -> bytes:
    bodies = [
        "text",
        "",
        None,
        7,
        0.5,
        True,
        b"\xff",
        {"role": "user", "parts": [{"n": 1}, None, b"\x00"]},
        [1, [2.5, "x"]],
    ]
    records = [log(body, 3, 4, at=START + number, attributes=ATTRIBUTES) for number, body in enumerate(bodies)]
    records[0].severity_number, records[0].severity_text, records[0].event_name = 13, "WARN", "my.event"
    records[1].observed_time_unix_nano, records[1].dropped_attributes_count, records[1].flags = START + 9, 5, 1
    records.append(log("associated with nothing", at=START + 50))
    return logs_request(*records, service=service, scope="my.library").SerializeToString()


def _metrics_request(service: str) -> bytes:
    exemplar = Exemplar(time_unix_nano=START, as_int=4, trace_id=b"t" * 16, span_id=b"s" * 8)
    exemplar.filtered_attributes.extend(pairs({"user": "u"}))
    # The fields that all kinds of data points have.
    of: dict[str, Any] = {"start_time_unix_nano": START - 1, "time_unix_nano": START, "attributes": pairs(ATTRIBUTES)}
    number = NumberDataPoint(**of, as_int=2**63 - 1, exemplars=[exemplar])
    nothing = NumberDataPoint(time_unix_nano=START, flags=1)
    buckets = HistogramDataPoint(
        **of, count=3, sum=-0.5, min=-1, max=9, bucket_counts=[1, 2, 0], explicit_bounds=[0.5, 7], exemplars=[exemplar]
    )
    scaled = ExponentialHistogramDataPoint(**of, count=6, sum=1.5, scale=-2, zero_count=1, zero_threshold=0.25)
    scaled.positive.offset, scaled.negative.offset = -3, 4
    scaled.positive.bucket_counts.extend([1, 0, 2])
    scaled.negative.bucket_counts.extend([2])
    quantiles = SummaryDataPoint(**of, count=4, sum=10)
    quantiles.quantile_values.add(quantile=0.5, value=2.5)
    metrics = [
        Metric(name="gauge", gauge=Gauge(data_points=[number, nothing]), description="what", unit="By"),
        Metric(name="sum", sum=Sum(data_points=[number], aggregation_temporality=1, is_monotonic=True)),
        Metric(name="histogram", histogram=Histogram(data_points=[buckets], aggregation_temporality=2)),
        Metric(
            name="exponential",
            exponential_histogram=ExponentialHistogram(data_points=[scaled], aggregation_temporality=1),
        ),
        Metric(name="summary", summary=Summary(data_points=[quantiles]), metadata=pairs({"origin": "x"})),
    ]
    return metrics_request(*metrics, service=service).SerializeToString()


async def _stored(program: Program, table: str, service: str, rows: int) -> str:
    """The rows as text, without what must differ."""
    await counted(program, table, service, rows)
    differ = {"spans": "", "logs": ", log_id", "metrics": ", series_id"}[table]
    order = {"spans": "span_id", "logs": "time", "metrics": "name, no_recorded_value"}[table]
    found = await program.sql(
        f"SELECT * EXCEPT (experiment_id, received_at, service_name, resource_attributes{differ}),"
        f" replaceOne(resource_attributes, '{service}', 'service') FROM {table} WHERE service_name = '{service}'"
        f" ORDER BY {order}"
    )
    return "\n".join(json.dumps(row) for row in found)


SIGNALS = {
    "traces": ("spans", _request, 2),
    "logs": ("logs", _logs_request, 10),
    "metrics": ("metrics", _metrics_request, 6),
}


@pytest.mark.parametrize("name", NAMES)
async def test_what_the_collector_passes_on_is_what_it_was_sent(program: Program, folder: Path, name: str) -> None:
    async with (
        _collector(folder / name, _exporters(program)[name], name) as collector,
        httpx.AsyncClient(headers={"content-type": "application/x-protobuf"}) as client,
    ):
        for signal, (_, request, _) in SIGNALS.items():
            for root, service in ((collector.http_root, f"through {name}"), (program.http_root, f"direct {name}")):
                answer = await client.post(f"{root}/v1/{signal}", content=request(service))
                assert answer.status_code == 200, answer.text
    for table, _, rows in SIGNALS.values():
        passed = await _stored(program, table, f"through {name}", rows)
        assert passed == await _stored(program, table, f"direct {name}", rows)
        assert "string.unicode" in passed


@pytest.mark.parametrize("name", NAMES)
async def test_telemetrygen_through_the_collector(program: Program, folder: Path, name: str) -> None:
    service = f"telemetrygen through {name}"
    async with _collector(folder / f"{name} many", _exporters(program)[name], name) as collector:
        await _telemetrygen(
            "traces", "grpc", collector.grpc, service, "--workers", "2", "--traces", "500", "--child-spans", "3"
        )
    await counted(program, "spans", service, 2 * 500 * 4)


@pytest.mark.parametrize("way", ["grpc", "http", "otlp gzip", "otlphttp json zstd"])
async def test_telemetrygen_logs_and_metrics(program: Program, folder: Path, way: str) -> None:
    service, trace_id, span_id = f"telemetrygen {way}", "ab" * 16, "cd" * 8
    async with AsyncExitStack() as stack:
        if way in ("grpc", "http"):
            transport = way
            endpoint = program.grpc if way == "grpc" else program.http_root.removeprefix("http://")
        else:
            collector = await stack.enter_async_context(
                _collector(folder / f"signals {way}", _exporters(program)[way], way)
            )
            transport, endpoint = "grpc", collector.grpc
        ids = ("--trace-id", trace_id, "--span-id", span_id)
        await _telemetrygen("logs", transport, endpoint, service, "--logs", "500", *ids, "--body", "a line")
        for kind in ("Gauge", "Sum", "Histogram", "ExponentialHistogram"):
            options = ("--metrics", "50", "--metric-type", kind, "--otlp-metric-name", kind, *ids)
            await _telemetrygen("metrics", transport, endpoint, service, *options)
    where = f"WHERE service_name = '{service}'"
    logs = f"SELECT count(), any(body), uniqExact(trace_id), any(span_id), any(severity_number) FROM logs {where}"
    await eventually(program, logs, [[500, "a line", 1, span_id, 9]])
    metrics = f"SELECT name, any(type), count() FROM metrics {where} GROUP BY name ORDER BY name"
    kinds = {"ExponentialHistogram": "exponential_histogram", "Gauge": "gauge", "Histogram": "histogram", "Sum": "sum"}
    await eventually(program, metrics, [[kind, stored, 50] for kind, stored in kinds.items()])
    exemplars = f"SELECT countIf(exemplars[1].trace_id = '{trace_id}') > 0 FROM metrics {where} AND name = 'Sum'"
    assert await program.sql(exemplars) == [[True]]
