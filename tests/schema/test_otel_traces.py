"""`otel_traces`: spans as the OpenTelemetry Collector's ClickHouse exporter writes them."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from support.engines import fresh_stores
from support.signals import pairs
from support.telemetry import export_request, otlp_span, store
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.stores.spans import SpanStore

SECOND = 1_000_000_000
MINUTES = 6
START = 1_790_000_000 * SECOND + 123_456_789
# The exporter's table (internal/sqltemplates/traces_table.sql), but for the zone of its times: its are the server's.
EXPORTER = {
    "Timestamp": "DateTime64(9, 'UTC')",
    "TraceId": "String",
    "SpanId": "String",
    "ParentSpanId": "String",
    "TraceState": "String",
    "SpanName": "LowCardinality(String)",
    "SpanKind": "LowCardinality(String)",
    "ServiceName": "LowCardinality(String)",
    "ResourceAttributes": "Map(LowCardinality(String), String)",
    "ScopeName": "String",
    "ScopeVersion": "String",
    "SpanAttributes": "Map(LowCardinality(String), String)",
    "Duration": "UInt64",
    "StatusCode": "LowCardinality(String)",
    "StatusMessage": "String",
    "Events.Timestamp": "Array(DateTime64(9, 'UTC'))",
    "Events.Name": "Array(LowCardinality(String))",
    "Events.Attributes": "Array(Map(LowCardinality(String), String))",
    "Links.TraceId": "Array(String)",
    "Links.SpanId": "Array(String)",
    "Links.TraceState": "Array(String)",
    "Links.Attributes": "Array(Map(LowCardinality(String), String))",
}
_ATTRIBUTES = {
    "text": "x",
    "long": "y" * 1000,
    "int": 2**53 + 1,
    "whole": 2.0,
    "float": 0.25,
    "yes": True,
    "bytes": b"\x00\xff",
    "list": ["a", 1],
    "nothing": None,
}
_AS_TEXT = {
    "text": "x",
    "long": "y" * 1000,
    "int": str(2**53 + 1),
    "whole": "2",
    "float": "0.25",
    "yes": "true",
    "bytes": "AP8=",
    "list": '["a",1]',
    "nothing": "",
}


@pytest_asyncio.fixture(scope="module")
async def columnar(postgres_server: str, chdb_url: str) -> AsyncIterator[Columnar]:
    """Small traces a minute apart, each a part of the table of its own, and one span with everything."""
    async with fresh_stores(postgres_server, chdb_url) as (_, clickhouse):
        spans = SpanStore(clickhouse)
        await clickhouse.command("SYSTEM STOP MERGES span_rows")
        for minute in range(MINUTES):
            trace = [otlp_span(100 + minute, 1 + n, n, start_ns=START + minute * 60 * SECOND) for n in range(2)]
            await store(spans, export_request(*trace), minute % 2)
        await store(spans, _everything(), 7)
        yield clickhouse
        await clickhouse.command("SYSTEM START MERGES span_rows")


def _everything() -> ExportTraceServiceRequest:
    span = Span(
        trace_id=bytes(15) + b"\x01",
        span_id=bytes(7) + b"\x02",
        parent_span_id=bytes(7) + b"\x03",
        trace_state="a=b",
        name="GET /",
        kind=Span.SPAN_KIND_SERVER,
        start_time_unix_nano=START,
        end_time_unix_nano=START + 1_500_000_001,
        attributes=pairs(_ATTRIBUTES),
        status=Status(code=Status.STATUS_CODE_ERROR, message="no"),
        events=[
            Span.Event(name="retry", time_unix_nano=START + 5, attributes=pairs({"n": 1, "why": "slow"})),
            Span.Event(name="done", time_unix_nano=START + 6),
        ],
        links=[Span.Link(trace_id=bytes(15) + b"\x09", span_id=bytes(7) + b"\x08", trace_state="c=d",
                         attributes=pairs({"of": True}))],
    )  # fmt: skip
    scope = ScopeSpans(scope=InstrumentationScope(name="lib", version="1.2"), spans=[span])
    resource = Resource(attributes=pairs({"service.name": "shop", "host.cpus": 4, "tags": ["a"]}))
    return ExportTraceServiceRequest(resource_spans=[ResourceSpans(resource=resource, scope_spans=[scope])])


async def test_it_has_the_exporter_s_columns_in_its_order(columnar: Columnar) -> None:
    rows = await columnar.query(
        "SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = 'otel_traces'"
        " ORDER BY position"
    )
    assert [(row["name"], row["type"]) for row in rows] == [*EXPORTER.items(), ("ExperimentId", "UInt32")]


async def test_values_are_the_exporter_s(columnar: Columnar) -> None:
    (row,) = await columnar.query(
        "SELECT * REPLACE (toUnixTimestamp64Nano(Timestamp) AS Timestamp,"
        " arrayMap(time -> toUnixTimestamp64Nano(time), `Events.Timestamp`) AS `Events.Timestamp`)"
        " FROM otel_traces WHERE ServiceName = 'shop'"
    )
    assert row == {
        "Timestamp": START,
        "TraceId": f"{1:032x}",
        "SpanId": f"{2:016x}",
        "ParentSpanId": f"{3:016x}",
        "TraceState": "a=b",
        "SpanName": "GET /",
        "SpanKind": "Server",
        "ServiceName": "shop",
        "ResourceAttributes": {"service.name": "shop", "host.cpus": "4", "tags": '["a"]'},
        "ScopeName": "lib",
        "ScopeVersion": "1.2",
        "SpanAttributes": _AS_TEXT,
        "Duration": 1_500_000_001,
        "StatusCode": "Error",
        "StatusMessage": "no",
        "Events.Timestamp": [START + 5, START + 6],
        "Events.Name": ["retry", "done"],
        "Events.Attributes": [{"n": "1", "why": "slow"}, {}],
        "Links.TraceId": [f"{9:032x}"],
        "Links.SpanId": [f"{8:016x}"],
        "Links.TraceState": ["c=d"],
        "Links.Attributes": [{"of": "true"}],
        "ExperimentId": 7,
    }


async def test_kinds_and_statuses_are_written_as_the_exporter_writes_them(postgres_server: str, chdb_url: str) -> None:
    """pdata's String() of both: exporter_traces.go since v0.108."""
    async with fresh_stores(postgres_server, chdb_url) as (_, clickhouse):
        made = []
        for kind in range(6):
            span = otlp_span(1, kind + 1, start_ns=START)
            span.kind, span.status.code = kind, kind % 3  # type: ignore[assignment]
            made.append(span)
        await store(SpanStore(clickhouse), export_request(*made), 0)
        rows = await clickhouse.query("SELECT SpanKind, StatusCode FROM otel_traces ORDER BY SpanId")
    assert [tuple(row.values()) for row in rows] == [
        ("Unspecified", "Unset"),
        ("Internal", "Ok"),
        ("Server", "Error"),
        ("Client", "Unset"),
        ("Producer", "Ok"),
        ("Consumer", "Error"),
    ]


async def test_parts_of_events_can_be_named_either_way(columnar: Columnar) -> None:
    rows = await columnar.query(
        'SELECT Events.Name AS a, `Events.Name` AS b, "Links.TraceId" AS c, toString(Links.TraceId) AS d'
        " FROM otel_traces WHERE ServiceName = 'shop'"
    )
    id_ = f"{9:032x}"
    assert rows == [{"a": ["retry", "done"], "b": ["retry", "done"], "c": [id_], "d": f"['{id_}']"}]


async def test_a_later_version_of_a_span_is_the_only_one(postgres_server: str, chdb_url: str) -> None:
    async with fresh_stores(postgres_server, chdb_url) as (_, clickhouse):
        spans = SpanStore(clickhouse)
        for name in ("first", "second"):
            await store(spans, export_request(otlp_span(1, 1, start_ns=START, name=name)), 0)
        assert await clickhouse.query("SELECT SpanName FROM otel_traces") == [{"SpanName": "second"}]
        bounds = await clickhouse.query(
            "SELECT toUnixTimestamp(Start) AS a, toUnixTimestamp(End) AS b FROM otel_traces_trace_id_ts"
        )
        assert len(bounds) == 1
        assert bounds[0]["a"] <= START // SECOND <= bounds[0]["b"] <= bounds[0]["a"] + 5


async def _read(columnar: Columnar, where: str) -> tuple[int, int, int]:
    """Spans found by a condition, parts of `span_rows` read for them, and all its parts."""
    query = f"FROM otel_traces WHERE {where}"
    found: list[dict[str, Any]] = await columnar.query(f"SELECT count() AS n {query}")
    plan = [
        line for row in await columnar.query(f"EXPLAIN indexes = 1 SELECT SpanName {query}") for line in row.values()
    ]
    parts = [line.split()[-1].split("/") for line in plan if line.strip(" │").startswith("Parts: ") and "/" in line]
    return found[0]["n"], min(int(left) for left, _ in parts), max(int(whole) for _, whole in parts)


_ID = f"{104:032x}"
_FROM = START + 4 * 60 * SECOND
_BOUND = f"FROM otel_traces_trace_id_ts WHERE TraceId = '{_ID}'"


@pytest.mark.parametrize(
    "where",
    [
        f"TraceId = '{_ID}'",
        f"TraceId = '{_ID}' AND ExperimentId = 0",
        f"Timestamp >= fromUnixTimestamp64Nano({_FROM}) AND Timestamp < fromUnixTimestamp64Nano({_FROM + SECOND})",
        f"TraceId = '{_ID}' AND Timestamp BETWEEN (SELECT min(Start) {_BOUND}) AND (SELECT max(End) + 1 {_BOUND})",
    ],
)
async def test_filters_reach_the_indexes(columnar: Columnar, where: str) -> None:
    """Of the parts only the one that holds the two spans is read."""
    assert await _read(columnar, where) == (2, 1, MINUTES + 1)


async def test_the_bounds_of_a_trace_are_found_by_its_key(columnar: Columnar) -> None:
    plan = await columnar.query(
        f"EXPLAIN indexes = 1 SELECT Start FROM otel_traces_trace_id_ts WHERE TraceId = '{_ID}'"
    )
    text = "\n".join(line for row in plan for line in row.values())
    assert "PrimaryKey" in text and "trace_id in ['" in text
