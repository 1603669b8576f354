"""One worker process for the crash test: `scoring_worker.py POSTGRES_URL CLICKHOUSE_URL DATABASE FIRST LAST`.

Stores the traces FIRST to LAST, then scores whatever is in the queue, and mirrors the verdicts, until it is killed.
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


async def main(postgres_url: str, clickhouse_url: str, database: str, first: int, last: int) -> None:
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
    folder = Path(clickhouse_url.removeprefix("chdb://")).with_name("verdicts")
    watcher = Watcher(
        scorers,
        jobs,
        Sampler(columnar, settle_ms=0, max_trace_age_ms=1000, page=7),
        woken,
        interval_ms=50,
        sweep_seconds=0,
        visibility_lag_seconds=0,
    )
    worker = Worker(runner, jobs, woken, KeptVerdicts(folder), concurrency=4, lease_seconds=1.0)
    sys.stdout.write("working\n")
    sys.stdout.flush()
    await asyncio.gather(watcher.run(stopping), worker.run(stopping), mirror(Outbox(pool, columnar)))


async def mirror(outbox: Outbox) -> None:
    """Runs for ever."""
    while True:
        await outbox.deliver(5)
        await asyncio.sleep(0.02)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4], *map(int, sys.argv[4:])))
