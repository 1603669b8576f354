"""The OpenTelemetry SDK and its own exporters, over gRPC and HTTP, to rows in `spans`, field by field (C9)."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
import pytest_asyncio
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, Tracer, TraceState

from support.engines import fresh_stores
from support.running import Running, running

START = 1_790_000_000_123_456_789


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


@pytest.fixture(params=["grpc", "grpc gzip", "http", "http gzip", "http main port"])
def exporter(request: pytest.FixtureRequest, collector: Running) -> SpanExporter:
    """The SDK's exporters as users set them up."""
    match request.param:
        case "grpc":
            return GrpcExporter(endpoint=f"http://{collector.grpc_address}", insecure=True)
        case "grpc gzip":
            return GrpcExporter(endpoint=collector.grpc_address, insecure=True, compression=grpc.Compression.Gzip)
        case "http":
            return HttpExporter(endpoint=collector.traces_url)
        case "http gzip":
            return HttpExporter(endpoint=collector.traces_url, compression=Compression.Gzip)
    return HttpExporter(endpoint=f"{collector.url}/v1/traces")


@pytest.fixture
def provider(exporter: SpanExporter) -> Iterator[TracerProvider]:
    """An SDK with a resource and that exporter."""
    made = TracerProvider(
        resource=Resource.create(
            {"service.name": "shop", "service.version": "1.2.3", "deployment.environment.name": "test", "replica": 3}
        )
    )
    made.add_span_processor(BatchSpanProcessor(exporter))
    yield made
    made.shutdown()


@pytest.fixture
def tracer(provider: TracerProvider) -> Tracer:
    """A tracer with a scope of its own."""
    return provider.get_tracer("my.library", "4.5", schema_url="https://example.org/schema", attributes={"team": "a"})


async def _flush(provider: TracerProvider) -> None:
    assert await asyncio.to_thread(provider.force_flush, 20_000)


ATTRIBUTES: dict[str, Any] = {
    "string": "text",
    "string.empty": "",
    "string.long": "long " * 200,
    "string.unicode": 'é 日本 🙂 "quoted" \\ \n\t',
    "int": 7,
    "int.beyond.double": 2**53 + 1,
    "int.most": 2**63 - 1,
    "int.least": -(2**63),
    "float": 0.1,
    "float.whole": 1.0,
    "float.tiny": 5e-324,
    "bool.true": True,
    "bool.false": False,
    "bytes": b"\x00\xff raw",
    "strings": ["a", "", "c"],
    "ints": [1, 2**53 + 1],
    "floats": [1.0, 2.5],
    "bools": [True, False],
    "empty": [],
}


async def test_every_field_of_a_span(collector: Running, provider: TracerProvider, tracer: Tracer) -> None:
    other = SpanContext(secrets.randbits(128), secrets.randbits(64), True, TraceFlags(1), TraceState([("vendor", "x")]))
    with tracer.start_as_current_span("parent") as parent:
        span = tracer.start_span(
            "child",
            kind=SpanKind.CLIENT,
            start_time=START,
            attributes=ATTRIBUTES,
            links=[Link(other, {"why": "retry", "try": 2})],
        )
        span.add_event("happened", {"n": 1, "list": ["a", "b"], "ratio": 2.0}, timestamp=START + 5)
        span.record_exception(ValueError("no such order"), timestamp=START + 9)
        span.set_status(Status(StatusCode.ERROR, "it failed"))
        span.end(START + 1_000)
    await _flush(provider)
    context = span.get_span_context()
    row = await collector.span(f"{context.span_id:016x}")

    when = datetime.fromtimestamp(START // 1_000_000_000, UTC).replace(microsecond=123456)
    (times,) = await collector.rows(
        "SELECT toUnixTimestamp64Nano(start_time) AS s, toUnixTimestamp64Nano(end_time) AS e,"
        " toUnixTimestamp64Nano(events[1].time) AS v FROM spans WHERE span_id = {id:String}",
        id=f"{context.span_id:016x}",
    )
    assert times == {"s": START, "e": START + 1_000, "v": START + 5}
    expected = {
        "trace_id": f"{context.trace_id:032x}",
        "span_id": f"{context.span_id:016x}",
        "parent_span_id": f"{parent.get_span_context().span_id:016x}",
        "name": "child",
        "kind": "CLIENT",
        "start_time": when,
        "duration_ns": 1_000,
        "status_code": "ERROR",
        "status_message": "it failed",
        "service_name": "shop",
        "environment": "test",
        "release": "1.2.3",
        "scope_name": "my.library",
        "scope_version": "4.5",
        "schema_url": "https://example.org/schema",
        "error_type": "ValueError",
        "dropped_attributes_count": 0,
        "dropped_events_count": 0,
        "dropped_links_count": 0,
        "attributes_string": {
            key: value for key, value in ATTRIBUTES.items() if isinstance(value, str) and len(value) < 250
        },
        "attributes_text": {"string.long": ATTRIBUTES["string.long"]},
        "attributes_int": {key: value for key, value in ATTRIBUTES.items() if type(value) is int},
        "attributes_float": {key: value for key, value in ATTRIBUTES.items() if isinstance(value, float)},
        "attributes_bool": {key: value for key, value in ATTRIBUTES.items() if isinstance(value, bool)},
    }
    start = row["start_time"]
    row["start_time"] = start if start.tzinfo else start.replace(tzinfo=UTC)
    assert {name: row[name] for name in expected} == expected
    assert {key: json.loads(text) for key, text in row["attributes_json"].items()} == {
        key: value for key, value in ATTRIBUTES.items() if isinstance(value, list)
    }
    assert set(row["attributes"]) == set(ATTRIBUTES)
    assert json.loads(row["scope_attributes"]) == {"team": "a"}
    resource = json.loads(row["resource_attributes"])
    assert (resource["service.name"], resource["replica"], resource["telemetry.sdk.language"]) == ("shop", 3, "python")

    happened, exception = row["events"]
    assert (happened["name"], json.loads(happened["attributes"])) == (
        "happened",
        {"n": 1, "list": ["a", "b"], "ratio": 2.0},
    )
    assert '"ratio":2.0' in happened["attributes"]
    assert exception["name"] == "exception"
    assert json.loads(exception["attributes"])["exception.message"] == "no such order"
    (link,) = row["links"]
    # Its trace state is not among what the SDK's exporter sends.
    assert (link["trace_id"], link["span_id"], json.loads(link["attributes"])) == (
        f"{other.trace_id:032x}",
        f"{other.span_id:016x}",
        {"why": "retry", "try": 2},
    )


async def test_attributes_read_back_typed(collector: Running, provider: TracerProvider, tracer: Tracer) -> None:
    with tracer.start_as_current_span("typed", attributes=ATTRIBUTES) as span:
        pass
    await _flush(provider)
    await collector.collector.barrier()
    context = span.get_span_context()
    trace = await collector.collector.spans.trace(f"{context.trace_id:032x}")
    assert trace is not None
    assert trace.root is not None
    read = trace.root.attributes
    assert read.pop("bytes") == "AP8gcmF3"
    assert read == {key: value for key, value in ATTRIBUTES.items() if key != "bytes"}
    assert {key: type(value) for key, value in read.items()} == {
        key: type(value) for key, value in ATTRIBUTES.items() if key != "bytes"
    }
    (row,) = await collector.rows(
        "SELECT hex(attributes_bytes['bytes']) AS raw FROM spans WHERE span_id = {id:String}",
        id=f"{context.span_id:016x}",
    )
    assert row["raw"] == b"\x00\xff raw".hex().upper()


async def test_a_batch_of_many_spans(collector: Running, provider: TracerProvider, tracer: Tracer) -> None:
    with tracer.start_as_current_span("root") as root:
        for number in range(300):
            with tracer.start_as_current_span(f"step {number}", kind=SpanKind.INTERNAL):
                pass
    await _flush(provider)
    trace_id = f"{root.get_span_context().trace_id:032x}"
    (row,) = await collector.rows(
        "SELECT span_count, state, root_name, complete FROM traces WHERE trace_id = {id:String}", id=trace_id
    )
    assert row == {"span_count": 301, "state": "OK", "root_name": "root", "complete": True}


@pytest.mark.parametrize("kind", list(SpanKind))
async def test_kinds(collector: Running, kind: SpanKind) -> None:
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(GrpcExporter(endpoint=collector.grpc_address, insecure=True)))
    with provider.get_tracer("kinds").start_as_current_span("kind", kind=kind) as span:
        pass
    await _flush(provider)
    provider.shutdown()
    assert (await collector.span(f"{span.get_span_context().span_id:016x}"))["kind"] == kind.name


async def test_what_the_sdk_dropped_is_told(collector: Running) -> None:
    from opentelemetry.sdk.trace import SpanLimits

    provider = TracerProvider(span_limits=SpanLimits(max_attributes=2, max_events=1, max_links=1))
    provider.add_span_processor(BatchSpanProcessor(HttpExporter(endpoint=collector.traces_url)))
    with provider.get_tracer("limits").start_as_current_span("cut", attributes={"a": 1, "b": 2, "c": 3}) as span:
        span.add_event("one")
        span.add_event("two")
    await _flush(provider)
    provider.shutdown()
    row = await collector.span(f"{span.get_span_context().span_id:016x}")
    assert (row["dropped_attributes_count"], row["dropped_events_count"], len(row["attributes"])) == (1, 1, 2)
