"""Traces that are wanted at the same time are read together, as many as their size allows."""

import asyncio
from collections.abc import Sequence

from support.stored_traces import Row, numbered, store
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.errors import StorageDown
from tracestone.schema.stores.spans import SpanStore
from tracestone.schema.traces import Trace
from tracestone.scoring.load import BatchedTraces


def counting(columnar: Columnar) -> tuple[BatchedTraces, list[int]]:
    """A reader of traces, and how many were asked for in each of its queries."""
    spans = SpanStore(columnar)
    asked: list[int] = []
    read = spans.traces

    async def counted(experiment_id: int, trace_ids: Sequence[str]) -> dict[str, Trace]:
        asked.append(len(trace_ids))
        return await read(experiment_id, trace_ids)

    spans.traces = counted  # type: ignore[method-assign]
    return BatchedTraces(spans), asked


async def test_traces_that_are_asked_for_together_are_read_together(columnar: Columnar) -> None:
    rows = [Row(numbered(number), experiment_id=number % 2, output=str(number)) for number in range(1, 51)]
    await store(columnar, rows)
    traces, asked = counting(columnar)
    found = await asyncio.gather(
        *(traces.trace(row.experiment_id, row.trace_id) for row in rows), traces.trace(0, numbered(99))
    )
    assert [trace and trace.spans[0].output for trace in found] == [row.output for row in rows] + [None]
    assert sum(asked) == 51
    assert sorted(asked) == [9, 16, 26]  # of one experiment; after the first, which was small, twice as many


async def test_as_many_traces_are_read_at_once_as_their_size_allows(columnar: Columnar) -> None:
    small = [Row(numbered(number)) for number in range(1, 201)]
    large = [Row(numbered(number), output="x" * 200_000) for number in range(201, 301)]
    await store(columnar, small + large)
    traces, asked = counting(columnar)
    await asyncio.gather(*(traces.trace(0, row.trace_id) for row in small))
    assert asked == [16, 32, 64, 88]
    asked.clear()
    await asyncio.gather(*(traces.trace(0, row.trace_id) for row in large))
    assert asked == [100]
    await asyncio.gather(*(traces.trace(0, row.trace_id) for row in large))
    assert asked == [100, 50, 25, 25]


async def test_a_store_that_is_away_fails_all_that_wait_at_once(columnar: Columnar) -> None:
    spans = SpanStore(columnar)
    asked: list[int] = []

    async def away(experiment_id: int, trace_ids: Sequence[str]) -> dict[str, Trace]:
        asked.append(len(trace_ids))
        raise StorageDown("ClickHouse does not answer")

    spans.traces = away  # type: ignore[method-assign]
    traces = BatchedTraces(spans)
    results = await asyncio.gather(*(traces.trace(0, numbered(number)) for number in range(5)), return_exceptions=True)
    assert [type(result) for result in results] == [StorageDown] * 5
    assert asked == [5]
