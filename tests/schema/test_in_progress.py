"""Spans that are sent before they have ended: shown as in progress, replaced by what is sent at their end."""

import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from support.engines import fresh_stores
from support.telemetry import export_request, otlp_span, store
from tracestone.schema import clock
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.stores.spans import SpanStore

ROOT, CHILD, MARKER = 1, 2, 3


@pytest_asyncio.fixture(scope="module")
async def clickhouse(postgres_server: str, chdb_url: str) -> AsyncIterator[Columnar]:
    """One database for the module."""
    async with fresh_stores(postgres_server, chdb_url) as (_, columnar):
        yield columnar


class _Trace:
    """One trace as its spans arrive."""

    def __init__(self, columnar: Columnar) -> None:
        self.columnar = columnar
        self.id = secrets.randbits(120) + 1
        self.began = clock.now_ns()

    def span(self, span: int, parent: int = 0, *, ended: bool = True, attributes: dict[str, Any] | None = None) -> Span:
        made = otlp_span(self.id, span, parent, start_ns=self.began, length_ms=250, attributes=attributes)
        if not ended:
            made.end_time_unix_nano = 0
        return made

    def marker(self, parent: int) -> Span:
        """What Logfire sends when ROOT begins: a span of its own, below the real one."""
        return self.span(
            MARKER,
            parent,
            attributes={"logfire.span_type": "pending_span", "logfire.pending_parent_id": "0" * 16, "question": "why"},
        )

    async def receive(self, *spans: Span) -> None:
        await store(SpanStore(self.columnar), export_request(*spans), 1)

    async def rows(self, table: str) -> list[dict[str, Any]]:
        return await self.columnar.query(
            "SELECT * FROM {table:Identifier} WHERE trace_id = {id:String} ORDER BY start_time",
            {"table": table, "id": f"{self.id:032x}"},
        )


async def test_a_span_without_an_end_is_in_progress_and_then_ends(clickhouse: Columnar) -> None:
    trace = _Trace(clickhouse)
    before = clock.now_ns()
    await trace.receive(trace.span(ROOT, ended=False))
    (span,), (row,) = await trace.rows("spans"), await trace.rows("traces")
    assert (span["in_progress"], span["duration_ns"], span["end_time"]) == (True, 0, span["start_time"])
    assert (row["state"], row["complete"]) == ("IN_PROGRESS", False)
    stamps = await clickhouse.query(
        "SELECT toUnixTimestamp64Nano(s.received_at) AS span, toUnixTimestamp64Nano(t.last_seen) AS trace"
        " FROM spans AS s INNER JOIN traces AS t USING (trace_id) WHERE trace_id = {id:String}",
        {"id": f"{trace.id:032x}"},
    )
    assert before <= stamps[0]["span"] == stamps[0]["trace"] <= clock.now_ns()
    await trace.receive(trace.span(ROOT))
    (span,), (row,) = await trace.rows("spans"), await trace.rows("traces")
    assert (span["in_progress"], span["duration_ns"]) == (False, 250_000_000)
    assert (row["state"], row["complete"], row["span_count"]) == ("OK", True, 1)


@pytest.mark.parametrize("child_ended", [False, True])
async def test_an_ended_version_counts_whatever_the_order(clickhouse: Columnar, child_ended: bool) -> None:
    trace = _Trace(clickhouse)
    await trace.receive(trace.span(ROOT), trace.span(CHILD, ROOT))
    await trace.receive(trace.span(ROOT, ended=False), trace.span(CHILD, ROOT, ended=child_ended))
    assert [span["in_progress"] for span in await trace.rows("spans")] == [False, False]
    (row,) = await trace.rows("traces")
    assert (row["state"], row["span_count"], row["duration_ns"]) == ("OK", 2, 250_000_000)


async def test_a_trace_whose_root_has_ended_is_complete_though_a_child_has_not(clickhouse: Columnar) -> None:
    trace = _Trace(clickhouse)
    await trace.receive(trace.span(ROOT), trace.span(CHILD, ROOT, ended=False))
    (row,) = await trace.rows("traces")
    assert (row["state"], row["complete"], row["span_count"]) == ("OK", True, 2)


async def test_a_marker_of_logfire_stands_for_its_span_until_it_ends(clickhouse: Columnar) -> None:
    trace = _Trace(clickhouse)
    await trace.receive(trace.marker(ROOT))
    (span,), (row,) = await trace.rows("spans"), await trace.rows("traces")
    assert (span["span_id"], span["parent_span_id"], span["in_progress"]) == (f"{ROOT:016x}", "", True)
    assert span["attributes"]["question"] == "why"
    assert (row["state"], row["root_name"], row["span_count"]) == ("IN_PROGRESS", "step", 1)
    await trace.receive(trace.span(ROOT), trace.span(CHILD, ROOT))
    assert [span["in_progress"] for span in await trace.rows("spans")] == [False, False]
    (row,) = await trace.rows("traces")
    assert (row["state"], row["span_count"]) == ("OK", 2)


async def test_a_marker_of_a_span_below_another_keeps_its_place(clickhouse: Columnar) -> None:
    trace = _Trace(clickhouse)
    marker = trace.marker(CHILD)
    for pair in marker.attributes:
        if pair.key == "logfire.pending_parent_id":
            pair.value.string_value = f"{ROOT:016x}"
    await trace.receive(marker, trace.span(ROOT))
    child = next(span for span in await trace.rows("spans") if span["span_id"] == f"{CHILD:016x}")
    assert (child["parent_span_id"], child["in_progress"]) == (f"{ROOT:016x}", True)
