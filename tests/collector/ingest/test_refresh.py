"""Of a trace's rows the one that was written last counts, also when the clock was put back since."""

from pathlib import Path

from support.running import Running, grpc_export, running
from support.telemetry import export_request, otlp_span
from tracestone.schema import clock
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool

HOURS = 5 * 3600 * 10**9
START = clock.now_ns()


async def _send(here: Running, number: int) -> None:
    body = export_request(otlp_span(1, number, start_ns=START)).SerializeToString()
    async with grpc_export(here.grpc_address) as export:
        await export(body)


async def _counts(here: Running) -> list[int]:
    return [row["span_count"] for row in await here.rows("SELECT span_count FROM traces")]


async def test_a_row_written_by_a_clock_that_was_ahead_is_replaced(
    pool: Pool, columnar: Columnar, tmp_path: Path
) -> None:
    async with running(pool, columnar, tmp_path) as here:
        await _send(here, 1)
        assert await _counts(here) == [1]
        batches = [row["batch"] for row in await here.rows("SELECT DISTINCT batch FROM trace_touches")]
        await here.collector.spans.refresh_traces(batches, at_least_ns=clock.now_ns() + HOURS)
    async with running(pool, columnar, tmp_path) as here:
        for number in (2, 3):
            await _send(here, number)
            assert await _counts(here) == [number]
        newest = await here.rows("SELECT toUnixTimestamp64Nano(max(version)) AS at FROM trace_rows")
        assert newest[0]["at"] < clock.now_ns() + HOURS + 10**9  # and time does not run away
