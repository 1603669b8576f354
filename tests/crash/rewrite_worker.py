"""One process for the crash test: `rewrite_worker.py KIND POSTGRES_URL CLICKHOUSE_URL DATABASE SPANS`.

Stores that many spans unless some are there, and rewrites them in small steps until there is nothing to do. With `tell`
as the kind it says instead what is stored; with `compare`, whether that is what the same spans are when they are stored
now.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from support.telemetry import export_request, otlp_span
from tracestone.collector.rewrite.kinds import KINDS
from tracestone.collector.rewrite.runner import Runner
from tracestone.collector.wal.frames import varint
from tracestone.protos.ingest.v1.traces_pb2 import Traces
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool, open_pool
from tracestone.schema.migrate import migrate
from tracestone.schema.stores.spans import SpanStore

STEP = 200
START = 1_790_000_000_000_000_000
SECOND = 10**9
# Two spans a trace, one trace a second, in two experiments.
FILL = """
INSERT INTO span_rows (experiment_id, trace_id, span_id, parent_span_id, name, start_time, end_time,
    span_type, provider, request_model, input_tokens, output_tokens, received_at)
SELECT 1 + intDiv(number, {spans:UInt64} / 2) AS experiment_id, leftPad(hex(intDiv(number, 2) + 1), 32, '0'),
    leftPad(toString(number % 2 + 1), 16, '0'), if(number % 2 = 0, '', '0000000000000001'), 'step',
    toDateTime64('2026-06-01', 9, 'UTC') + intDiv(number, 2) AS start_time, start_time,
    if(number % 2 = 0, 'agent', 'llm'), 'acme', 'm', if(number % 2 = 0, NULL, 10), if(number % 2 = 0, NULL, 1), now64(9)
FROM numbers({spans:UInt64})
"""
OTHER_MAP = """\
column,convention,key,form
session_id,otel_genai,gen_ai.request.model,text
input_tokens,otel_genai,gen_ai.usage.output_tokens,integer
"""
TELLS = (
    "SELECT count(), countIf(cost_source = 'computed'), min(cost_total), max(cost_total) FROM span_rows FINAL",
    "SELECT count(), min(cost_total), max(cost_total) FROM traces",
)
SPAN_ROWS = (
    "SELECT * EXCEPT (map_version), toString((start_time, end_time, received_at)) FROM span_rows FINAL"
    " ORDER BY experiment_id, trace_id, span_id"
)
TRACE_ROWS = "SELECT * EXCEPT (version) FROM trace_rows FINAL ORDER BY experiment_id, trace_id"


def tell(*values: object) -> None:
    """Writes a line for the test."""
    sys.stdout.write(" ".join(map(str, values)) + "\n")
    sys.stdout.flush()


async def fill(kind: str, pool: Pool, columnar: Columnar, spans: int) -> None:
    """Stores the spans: without prices, or as another map reads them."""
    if kind == "reprice":
        await migrate(pool, columnar)
        await columnar.command(FILL, {"spans": spans}, {"log_comment": "fill"})
        await SpanStore(columnar).refresh_traces(["fill"])
        return
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "dialects.csv").write_text(OTHER_MAP)
        await migrate(pool, columnar, Path(folder))
    await insert(columnar, spans)


async def insert(columnar: Columnar, spans: int) -> None:
    """The same spans whenever, two a trace, one trace a second, in two experiments."""
    payload = bytearray()
    for trace in range(1, spans // 2 + 1):
        given = {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": f"m{trace % 7}",
            "session.id": f"s{trace % 11}",
        }
        usage = {"gen_ai.usage.input_tokens": trace % 97, "gen_ai.usage.output_tokens": trace % 13}
        begin = START + trace * SECOND
        request = export_request(
            otlp_span(trace, 1, start_ns=begin, attributes={"openinference.span.kind": "AGENT"}),
            otlp_span(trace, 2, 1, start_ns=begin, attributes={**given, **usage}),
        )
        ours = Traces(experiment_ids=[1 + trace % 2], received_at=begin + SECOND)
        record = request.SerializeToString() + ours.SerializeToString()
        payload += varint(len(record)) + record
    store = SpanStore(columnar)
    await store.insert(bytes(payload), "fill")
    await store.refresh_traces(["fill"])


async def compare(pool: Pool, columnar: Columnar, clickhouse_url: str, spans: int) -> None:
    """Says how many spans and traces are stored, and how many of them differ from what they would be now."""
    fresh = Columnar(clickhouse_url, database="fresh", clients=1)
    await fresh.open()
    await migrate(pool, fresh)
    await insert(fresh, spans)
    for statement in (SPAN_ROWS, TRACE_ROWS):
        stored, wanted = await columnar.query(statement), await fresh.query(statement)
        tell(len(stored), sum(one != other for one, other in zip(stored, wanted, strict=True)))
    (row,) = await columnar.query("SELECT uniqExact(map_version) AS n, max(map_version) AS map FROM span_rows FINAL")
    tell(row["n"], row["map"])
    await fresh.close()


async def main(kind: str, postgres_url: str, clickhouse_url: str, database: str, spans: int) -> None:
    """Says `working` when the work begins, ends when it is done."""
    columnar = Columnar(clickhouse_url, database=database, clients=2)
    await columnar.open()
    pool = await open_pool(postgres_url)
    if kind in KINDS:
        await migrate(pool, columnar)
        (row,) = await columnar.query("SELECT count() AS n FROM span_rows")
        if not row["n"]:
            await fill(kind, pool, columnar, spans)
            await migrate(pool, columnar)
        tell("working")
        await Runner(pool, columnar, KINDS, STEP).work()
    elif kind == "tell":
        for statement in TELLS:
            (row,) = await columnar.query(statement)
            tell(*row.values())
    else:
        await compare(pool, columnar, clickhouse_url, spans)
    await pool.close()
    await columnar.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:5], int(sys.argv[5])))
