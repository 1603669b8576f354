"""Applying a newer map to stored spans: the rows are those of a fresh insert, whatever comes meanwhile."""

import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from support import producers
from support.engines import Stores
from support.faulty_columnar import BreakingColumnar
from support.telemetry import export_request, otlp_span
from tracestone.collector.rewrite.kinds import KINDS, parameters
from tracestone.collector.rewrite.runner import Runner
from tracestone.collector.wal.frames import varint
from tracestone.protos.ingest.v1.traces_pb2 import Traces
from tracestone.schema.errors import StorageDown
from tracestone.schema.migrate import migrate
from tracestone.schema.stores.rewrites import Rewrite, RewriteStore
from tracestone.schema.stores.spans import SpanStore

START = 1_790_000_000_000_000_000
RECEIVED = START + 10**9
DAY = 86_400 * 10**9
# as texts too, which tell nanoseconds
ROWS = (
    "SELECT *, toString((start_time, end_time, received_at, events, links)) AS exactly"
    " FROM span_rows FINAL ORDER BY experiment_id, trace_id, span_id"
)
TRACES = "SELECT * EXCEPT (version) FROM trace_rows FINAL ORDER BY experiment_id, trace_id"


@pytest_asyncio.fixture
async def stores(kept_stores: Stores) -> AsyncIterator[Stores]:
    """Stores without spans, with the shipped map."""
    await migrate(*kept_stores)
    yield kept_stores
    await _empty(kept_stores)
    await kept_stores[0].execute("DELETE FROM tracestone.rewrites")


async def _empty(stores: Stores) -> None:
    for table in ("span_rows", "trace_rows", "trace_slices", "trace_touches"):
        await stores[1].command(f"TRUNCATE TABLE {table}")


@pytest.fixture
def other_map(tmp_path: Path) -> Path:
    """A map that reads much of what the shipped one knows in another way."""
    (tmp_path / "dialects.csv").write_text(
        "column,convention,key,form\n"
        "session_id,acme,gen_ai.request.model,text\n"
        "input_tokens,acme,gen_ai.usage.output_tokens,integer\n"
        "cost_total,acme,gen_ai.usage.input_tokens,number\n"
        "response_model,acme,gen_ai.operation.name,text\n"
        "environment,acme,service.instance.id,text\n"
        "input,acme,gen_ai.output.messages,content\n"
    )
    (tmp_path / "conventions.csv").write_text("convention,scopes,tokens,needs\nacme,,exclusive,\n")
    return tmp_path


async def _insert(
    stores: Stores, *requests: ExportTraceServiceRequest, batch: str = "b", received: int = RECEIVED
) -> None:
    payload = b""
    for request in requests:
        ours = Traces(experiment_ids=[1] * len(request.resource_spans), received_at=received)
        record = request.SerializeToString() + ours.SerializeToString()
        payload += varint(len(record)) + record
    spans = SpanStore(stores[1])
    await spans.insert(payload, batch)
    await spans.refresh_traces([batch])


async def _renormalise(stores: Stores, *, step_spans: int = 50_000) -> Rewrite:
    pool, columnar = stores
    rewrites = RewriteStore(pool)
    asked = await rewrites.add("renormalise", parameters())
    await Runner(pool, columnar, KINDS, step_spans).work()
    return await rewrites.get(asked.rewrite_id)


def _recorded() -> list[ExportTraceServiceRequest]:
    requests = [request for name in producers.names() for request in producers.recording(name).requests]
    return [message for one in requests if isinstance(message := one.message(), ExportTraceServiceRequest)]


def _odd() -> ExportTraceServiceRequest:
    """Every kind of value, what has not ended, Logfire's marker, times that are none, an exception."""
    odd = otlp_span(1, 1, start_ns=START, attributes={
        "text": "x", "long": "y" * 1000, "int": -7, "float": 0.1, "whole": 2.0, "none": math.nan, "most": math.inf,
        "true": True, "list": [1, 2.5, "z", False], "empty": [], "gen_ai.response.finish_reasons": ["stop", "length"],
        "mlflow.traceTag.colour": "red", "gen_ai.usage.input_tokens": 3, "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
    })  # fmt: skip
    odd.attributes.append(KeyValue(key="bytes", value=AnyValue(bytes_value=b"\x00\xff")))
    odd.attributes.append(KeyValue(key="null", value=AnyValue()))
    odd.attributes.append(
        KeyValue(key="bytes in a list", value=AnyValue(array_value=ArrayValue(values=[AnyValue(bytes_value=b"\xff")])))
    )
    odd.events.append(Span.Event(time_unix_nano=START + 1, name="exception"))
    odd.events[0].attributes.append(KeyValue(key="exception.type", value=AnyValue(string_value="ValueError")))
    odd.links.append(Span.Link(trace_id=b"t" * 16, span_id=b"s" * 8, trace_state="a=b"))
    odd.trace_state, odd.flags, odd.dropped_attributes_count, odd.dropped_events_count = "k=v", 257, 3, 4
    odd.status.code, odd.status.message, odd.kind = 2, "went wrong", 3
    running = otlp_span(2, 1, start_ns=START)
    running.end_time_unix_nano = 0
    marker = otlp_span(3, 2, 1, start_ns=START, attributes={
        "logfire.span_type": "pending_span", "logfire.pending_parent_id": "000000000000000a",
    })  # fmt: skip
    never = otlp_span(4, 1, start_ns=0)
    never.end_time_unix_nano = 0
    at_the_end_of_times = otlp_span(5, 1, start_ns=9_223_286_400_000_000_000 - 1)
    at_the_end_of_times.end_time_unix_nano = 2**64 - 1
    backwards = otlp_span(6, 1, start_ns=START)
    backwards.end_time_unix_nano = START - 5
    return export_request(odd, running, marker, never, at_the_end_of_times, backwards)


async def test_rows_and_traces_are_those_of_a_fresh_insert(stores: Stores, other_map: Path) -> None:
    pool, columnar = stores
    requests = [*_recorded(), _odd()]
    await _insert(stores, *requests)
    rows, traces = await columnar.query(ROWS), await columnar.query(TRACES)
    await _empty(stores)
    await migrate(pool, columnar, other_map)
    await _insert(stores, *requests)
    others = await columnar.query(ROWS)
    await migrate(pool, columnar)
    assert _differing(await columnar.query(ROWS), others) == set(), "a newer map alone changes nothing that is stored"
    done = await _renormalise(stores)
    assert (done.state, done.spans_changed, done.spans_done, done.error) == ("done", len(rows), len(rows), "")
    assert _differing(others, rows) >= {"session_id", "input_tokens", "cost_total", "response_model", "environment"}
    assert _differing(await columnar.query(ROWS), rows) == set()
    assert await columnar.query(TRACES) == traces
    await columnar.command("OPTIMIZE TABLE span_rows FINAL")
    assert _differing(await columnar.query(ROWS), rows) == set()
    assert (await _renormalise(stores)).spans_changed == 0


@pytest.mark.parametrize("refused", ["INSERT INTO trace_rows", "INSERT INTO spans_in"])
async def test_it_goes_on_where_it_broke_off(stores: Stores, other_map: Path, chdb_url: str, refused: str) -> None:
    pool, columnar = stores
    attributes = {"session.id": "s", "gen_ai.request.model": "m"}
    spans = [otlp_span(trace, 1, start_ns=START + trace * 60 * 10**9, attributes=attributes) for trace in range(1, 21)]
    await migrate(pool, columnar, other_map)
    await _insert(stores, export_request(*spans))
    await migrate(pool, columnar)
    rewrites = RewriteStore(pool)
    asked = await rewrites.add("renormalise", parameters())
    breaking = BreakingColumnar(chdb_url, database=columnar.database)
    await breaking.open()
    try:
        for survives in (2, 0, 1):
            breaking.statement, breaking.left = refused, survives
            with pytest.raises(StorageDown):
                await Runner(pool, breaking, KINDS, 4).work()
    finally:
        await breaking.close()
    assert 0 < (await rewrites.get(asked.rewrite_id)).spans_done < 20
    done = await _renormalise(stores, step_spans=4)
    assert (done.rewrite_id, done.state, done.spans_done) == (asked.rewrite_id, "done", 20)
    for view in ("spans", "traces"):
        found = await columnar.query("SELECT session_id FROM {view:Identifier}", {"view": view})
        assert [row["session_id"] for row in found] == ["s"] * 20


async def test_only_what_another_map_filled_is_written(stores: Stores, other_map: Path) -> None:
    """And only in the time and the experiment that were asked for."""
    pool, columnar = stores
    await migrate(pool, columnar, other_map)
    for trace, at in ((1, 0), (2, DAY)):
        span = otlp_span(trace, 1, start_ns=START + at, attributes={"gen_ai.request.model": "m"})
        await _insert(stores, export_request(span), batch=f"b/{trace}")
    await migrate(pool, columnar)
    await _insert(stores, export_request(otlp_span(3, 1, start_ns=START)), batch="b/3")
    rewrites = RewriteStore(pool)
    for chosen, changed in (
        (parameters(experiment=2), 0), (parameters(since="2026-09-22"), 1), (parameters(), 1), (parameters(), 0),
    ):  # fmt: skip
        asked = await rewrites.add("renormalise", chosen)
        await Runner(pool, columnar, KINDS).work()
        assert (await rewrites.get(asked.rewrite_id)).spans_changed == changed


async def test_what_arrives_meanwhile_wins(stores: Stores, other_map: Path, chdb_url: str) -> None:
    """A later version of a span, received after the old one was read and before that is written again."""
    pool, columnar = stores
    await migrate(pool, columnar, other_map)

    def call(session: str) -> ExportTraceServiceRequest:
        return export_request(otlp_span(1, 1, start_ns=START, attributes={"session.id": session}))

    await _insert(stores, call("early"))
    await migrate(pool, columnar)
    await columnar.command("CREATE TABLE read_before AS spans_in ENGINE = MergeTree ORDER BY trace_id")
    try:
        rewrite = KINDS["renormalise"].rewrite[0].replace("INSERT INTO spans_in", "INSERT INTO read_before")
        bound = {"experiment_id": 1, "after": 0, "upto": 2**40, **parameters()}
        await columnar.command(rewrite, bound)
        await _insert(stores, call("late"), batch="b/2", received=RECEIVED + 1)
        await columnar.command("INSERT INTO spans_in SELECT * FROM read_before")
    finally:
        await columnar.command("DROP TABLE read_before SYNC")
    (row,) = await columnar.query("SELECT session_id FROM span_rows FINAL")
    assert row["session_id"] == "late"
    assert (await _renormalise(stores)).spans_changed == 0


async def test_a_marker_from_before_markers_were_known_becomes_its_span(stores: Stores) -> None:
    """It was a row of its own; it tells of its parent, which has not ended, or has."""
    pool, columnar = stores
    markers = [otlp_span(trace, 2, 1, start_ns=START) for trace in (1, 2)]
    await _insert(stores, export_request(*markers, otlp_span(2, 1, start_ns=START)))
    old = (
        "INSERT INTO span_rows SELECT * REPLACE (map('logfire.span_type', 'pending_span') AS attributes_string,"
        " 0 AS map_version) FROM span_rows WHERE parent_span_id != ''"
    )
    await columnar.command(old, settings={"log_comment": "old"})
    await SpanStore(columnar).refresh_traces(["old"])
    counted = "SELECT trace_id, span_count, state FROM traces ORDER BY trace_id"
    assert [row["span_count"] for row in await columnar.query(counted)] == [1, 2]
    await _renormalise(stores)
    rows = await columnar.query("SELECT trace_id, span_id, in_progress FROM spans ORDER BY trace_id, span_id")
    assert [(int(row["trace_id"]), int(row["span_id"]), row["in_progress"]) for row in rows] == [
        (1, 1, True),
        (2, 1, False),
    ]
    assert [(row["span_count"], row["state"]) for row in await columnar.query(counted)] == [
        (1, "IN_PROGRESS"),
        (1, "OK"),
    ]
    assert (await _renormalise(stores)).spans_changed == 0


def _differing(rows: list[dict[str, Any]], others: list[dict[str, Any]]) -> set[str]:
    assert len(rows) == len(others)
    return {
        name for row, other in zip(rows, others, strict=True) for name in row if repr(row[name]) != repr(other[name])
    }
