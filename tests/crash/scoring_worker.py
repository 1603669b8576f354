"""One scoring process for the crash tests, until it is killed.

    scoring_worker.py POSTGRES_URL CLICKHOUSE_URL DATABASE FOLDER LAG_SECONDS [FIRST LAST]

Looks for finished targets, its sweep LAG_SECONDS behind, and scores what is in the queue. FOLDER is its own. Before, it
stores the traces FIRST to LAST, where it is the only process of its ClickHouse; then it mirrors the verdicts too.
"""

import asyncio
import sys
from pathlib import Path

from support.stored_traces import Row, numbered, store
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import open_pool
from tracestone.schema.stores.assessments import AssessmentStore
from tracestone.schema.stores.jobs import JobStore
from tracestone.schema.stores.outbox import Outbox
from tracestone.schema.stores.scorers import ScorerStore
from tracestone.schema.stores.spans import SpanStore
from tracestone.scoring.kept import KeptVerdicts
from tracestone.scoring.llm import LiteLLM
from tracestone.scoring.run import Runner
from tracestone.scoring.sample import Sampler
from tracestone.scoring.subjects import Subjects
from tracestone.scoring.watch import Watcher
from tracestone.scoring.worker import Worker


async def main(
    postgres_url: str, clickhouse_url: str, database: str, folder: Path, lag_seconds: float, first: int, last: int
) -> None:
    """Runs for ever."""
    columnar = Columnar(clickhouse_url, database=database, clients=2)
    await columnar.open()
    await store(columnar, [Row(numbered(number), seen_ago=1, written_ago=0) for number in range(first, last + 1)])
    pool = await open_pool(postgres_url)
    jobs, scorers, woken, stopping = JobStore(pool), ScorerStore(pool), asyncio.Event(), asyncio.Event()
    runner = Runner(
        pool,
        jobs,
        scorers,
        Subjects(SpanStore(columnar)),
        AssessmentStore(pool),
        LiteLLM(),
    )
    watcher = Watcher(
        scorers,
        jobs,
        Sampler(columnar, settle_ms=0, max_trace_age_ms=1000, page=7),
        woken,
        interval_ms=50,
        sweep_seconds=0,
        visibility_lag_seconds=lag_seconds,
    )
    worker = Worker(runner, jobs, woken, KeptVerdicts(folder), concurrency=4, lease_seconds=1.0)
    sys.stdout.write("working\n")
    sys.stdout.flush()
    mirroring = [mirror(Outbox(pool, columnar))] if columnar.embedded else []
    await asyncio.gather(watcher.run(stopping), worker.run(stopping), *mirroring)


async def mirror(outbox: Outbox) -> None:
    """Runs for ever."""
    while True:
        await outbox.deliver(5)
        await asyncio.sleep(0.02)


if __name__ == "__main__":
    first_to_last = [int(argument) for argument in sys.argv[6:]] or [1, 0]
    asyncio.run(main(*sys.argv[1:4], Path(sys.argv[4]), float(sys.argv[5]), *first_to_last))
