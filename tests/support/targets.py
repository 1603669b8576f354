"""Watcher and worker over the stores, driven by hand, for tests of what becomes of targets."""

import asyncio
from pathlib import Path
from typing import Any

from tracestone.schema.assessments import Assessment
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.scorers.definition import define
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

LENGTH: dict[str, Any] = {"unit": "words", "maximum": 5}


class Bench:
    """Watcher and worker over the stores, driven by hand. A trace settles at once."""

    def __init__(self, pool: Pool, columnar: Columnar, folder: Path) -> None:
        self.pool = pool
        self.columnar = columnar
        self.jobs = JobStore(pool)
        self.scorers = ScorerStore(pool)
        self.assessments = AssessmentStore(pool)
        self.sampler = Sampler(columnar, settle_ms=0, max_trace_age_ms=1000, grace_ms=0)
        self.runner = Runner(pool, self.jobs, self.scorers, Subjects(SpanStore(columnar)), self.assessments, LiteLLM())
        self.worker = Worker(self.runner, self.jobs, asyncio.Event(), KeptVerdicts(folder), concurrency=4)

    async def configure(
        self,
        kind: str = "response_length",
        parameters: dict[str, Any] = LENGTH,
        *,
        name: str = "short",
        **fields: Any,
    ) -> None:
        """A scorer with an online configuration that looks an hour back."""
        await self.scorers.define(define(name, kind, parameters))
        plain: dict[str, Any] = {"version": None, "experiment_id": None, "sample_rate": 1.0, "filter": "", "salt": ""}
        config = await self.scorers.put_config(name, **(plain | fields))
        await self.pool.execute(
            "UPDATE scoring_progress SET due_ns = due_ns - $2 WHERE config_id = $1", config.config_id, 3600 * 10**9
        )

    async def watch(self) -> int:
        """One tick of a watcher of its own, sweep included."""
        watcher = Watcher(
            self.scorers, self.jobs, self.sampler, asyncio.Event(),
            interval_ms=50, sweep_seconds=0, visibility_lag_seconds=0,
        )  # fmt: skip
        return await watcher.tick()

    async def sweep(self) -> int:
        """The sweep alone."""
        [config] = await self.scorers.configs()
        now_ns = await self.sampler.now_ns()
        watcher = Watcher(self.scorers, self.jobs, self.sampler, asyncio.Event(), interval_ms=50)
        added, _ = await watcher._look(config, "sweep", now_ns)
        return added

    async def score(self) -> None:
        """Works until the queue is empty."""
        stopping = asyncio.Event()
        task = asyncio.create_task(self.worker.run(stopping))
        async with asyncio.timeout(60):
            while await self.jobs.waiting(1):
                await asyncio.sleep(0.02)
        stopping.set()
        await task

    async def verdicts(self) -> list[Assessment]:
        """All that is said of traces and spans."""
        rows = await self.pool.fetch("SELECT DISTINCT experiment_id, trace_id FROM assessments ORDER BY 1, 2")
        found = await self.assessments.by_traces([(row["experiment_id"], row["trace_id"]) for row in rows])
        return [verdict for verdicts in found.values() for verdict in verdicts]

    async def all_verdicts(self) -> list[Assessment]:
        """Those of the session a too."""
        return [*await self.verdicts(), *await self.assessments.by_session(0, "a")]

    async def mirror(self) -> None:
        """Assessments become visible in ClickHouse."""
        outbox = Outbox(self.pool, self.columnar)
        while await outbox.deliver(1000):
            pass

    async def coverage(self, name: str = "") -> dict[str, int]:
        """The sums of the view, of one scorer or all, assessments mirrored first."""
        await self.mirror()
        [row] = await self.columnar.query(
            "SELECT sum(finished) AS finished, sum(scored) AS scored, sum(failed) AS failed, sum(waiting) AS waiting,"
            " sum(not_chosen) AS not_chosen, sum(filtered) AS filtered FROM coverage"
            " WHERE scorer_name = {name:String} OR {name:String} = ''",
            {"name": name},
        )
        counts = {name: int(value) for name, value in row.items()}
        assert counts["finished"] == sum(counts.values()) - counts["finished"]
        return {name: count for name, count in counts.items() if count}
