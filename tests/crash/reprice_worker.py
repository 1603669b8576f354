"""One process for the crash test: `reprice_worker.py POSTGRES_URL CLICKHOUSE_URL DATABASE SPANS`.

Migrates, stores that many spans unless some are there, and reprices in small steps until there is nothing to do.
"""

import asyncio
import sys

from tracestone.collector.rewrite.kinds import KINDS
from tracestone.collector.rewrite.runner import Runner
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import open_pool
from tracestone.schema.migrate import migrate
from tracestone.schema.stores.spans import SpanStore

STEP = 200
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


async def main(postgres_url: str, clickhouse_url: str, database: str, spans: int) -> None:
    """Says `working` when the work begins, ends when it is done."""
    columnar = Columnar(clickhouse_url, database=database, clients=2)
    await columnar.open()
    pool = await open_pool(postgres_url)
    await migrate(pool, columnar)
    (row,) = await columnar.query("SELECT count() AS n FROM span_rows")
    if not row["n"]:
        await columnar.command(FILL, {"spans": spans}, {"log_comment": "fill"})
        await SpanStore(columnar).refresh_traces(["fill"])
    sys.stdout.write("working\n")
    sys.stdout.flush()
    await Runner(pool, columnar, KINDS, STEP).work()
    sys.stdout.write("done\n")
    await pool.close()
    await columnar.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4], int(sys.argv[4])))
