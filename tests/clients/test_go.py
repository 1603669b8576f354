"""Go's SDK in `telemetrygen`, and the OpenTelemetry Collector with each of its OTLP exporters, to rows.

They are built from source by `scripts/clients go`, so these tests are slow; see docs/testing.md.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from support.clients import OtelCollector, built, counted, run
from support.program import Program

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

START = 1_790_000_000_000_000_000
PROTOBUF = {"content-type": "application/x-protobuf"}


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
    assert await program.sql(question) == [[400, 5, 5]]


def _exporters(program: Program) -> dict[str, dict[str, Any]]:
    """The Collector's ways to send OTLP, by name."""
    http = {"endpoint": program.http_root}
    grpc = {"endpoint": program.grpc, "tls": {"insecure": True}}
    ways: dict[str, dict[str, Any]] = {f"otlp {name}": {**grpc, "compression": name} for name in GRPC}
    ways |= {f"otlphttp {name}": {**http, "compression": name} for name in HTTP}
    return ways | {f"otlphttp json {name}": {**http, "compression": name, "encoding": "json"} for name in JSON}


GRPC = ("none", "gzip")
HTTP = ("none", "gzip")
JSON: tuple[str, ...] = ()
NAMES = [
    *(f"otlp {name}" for name in GRPC),
    *(f"otlphttp {name}" for name in HTTP),
    *(f"otlphttp json {name}" for name in JSON),
]


@asynccontextmanager
async def _collector(folder: Path, exporter: dict[str, Any], name: str) -> AsyncIterator[OtelCollector]:
    kind = name.split()[0]
    pipeline = {"receivers": ["otlp"], "processors": ["batch"], "exporters": [kind]}
    collector = OtelCollector(
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


def _value(value: Any) -> AnyValue:
    match value:
        case None:
            return AnyValue()
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case bytes():
            return AnyValue(bytes_value=value)
        case list():
            return AnyValue(array_value=ArrayValue(values=map(_value, value)))
        case dict():
            return AnyValue(kvlist_value=KeyValueList(values=_pairs(value)))
    return AnyValue(string_value=value)


def _pairs(values: dict[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=_value(value)) for key, value in values.items()]


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
    resource.resource.attributes.extend(_pairs({"service.name": service, "replica": 3, "hosts": ["a", "b"]}))
    scope = resource.scope_spans.add(schema_url="https://example.org/schema")
    scope.scope.name, scope.scope.version = "my.library", "4.5"
    scope.scope.attributes.extend(_pairs({"team": "a"}))
    child = scope.spans.add(
        trace_id=b"\xab" * 16, span_id=b"\x01" * 8, parent_span_id=b"\x02" * 8, trace_state="vendor=x", flags=0x101,
        name="child", kind=Span.SPAN_KIND_CONSUMER, start_time_unix_nano=START + 1, end_time_unix_nano=START + 999,
        attributes=_pairs(ATTRIBUTES), dropped_attributes_count=1, dropped_events_count=2, dropped_links_count=3,
        status=Status(code=Status.STATUS_CODE_ERROR, message="it failed"),
    )  # fmt: skip
    child.events.add(name="happened", time_unix_nano=START + 5, attributes=_pairs({"n": 1, "list": ["a", 2.0]}))
    child.links.add(trace_id=b"\xcd" * 16, span_id=b"\xef" * 8, trace_state="a=b", attributes=_pairs({"try": 2}))
    scope.spans.add(
        trace_id=b"\xab" * 16, span_id=b"\x02" * 8, name="parent", start_time_unix_nano=START,
        end_time_unix_nano=START + 1000,
    )  # fmt: skip
    return request.SerializeToString()


async def _stored(program: Program, service: str) -> list[list[Any]]:
    await counted(program, "spans", service, 2)
    return await program.sql(
        "SELECT * EXCEPT (experiment_id, received_at, service_name, resource_attributes),"
        f" replaceOne(resource_attributes, '{service}', 'service') FROM spans WHERE service_name = '{service}'"
        " ORDER BY span_id"
    )


@pytest.mark.parametrize("name", NAMES)
async def test_what_the_collector_passes_on_is_what_it_was_sent(program: Program, folder: Path, name: str) -> None:
    service = f"through {name}"
    async with (
        _collector(folder / name, _exporters(program)[name], name) as collector,
        httpx.AsyncClient() as client,
    ):
        answer = await client.post(f"{collector.http_root}/v1/traces", content=_request(service), headers=PROTOBUF)
        assert answer.status_code == 200, answer.text
        answer = await client.post(program.http, content=_request(f"direct {name}"), headers=PROTOBUF)
        assert answer.status_code == 200, answer.text
    passed, direct = await _stored(program, service), await _stored(program, f"direct {name}")
    assert json.dumps(passed) == json.dumps(direct)
    assert "string.unicode" in json.dumps(passed)


@pytest.mark.parametrize("name", NAMES)
async def test_telemetrygen_through_the_collector(program: Program, folder: Path, name: str) -> None:
    service = f"telemetrygen through {name}"
    async with _collector(folder / f"{name} many", _exporters(program)[name], name) as collector:
        await _telemetrygen(
            "traces", "grpc", collector.grpc, service, "--workers", "2", "--traces", "500", "--child-spans", "3"
        )
    await counted(program, "spans", service, 2 * 500 * 4)
