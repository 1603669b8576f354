"""Builds the scoring of one process: watcher, sampler, workers. No logic."""

import asyncio
import logging
from typing import Any

from tracestone.schema.budgeting import BudgetSetup
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.errors import Invalid, StartRefused
from tracestone.schema.online import OnlineSetup
from tracestone.schema.settings import Settings
from tracestone.schema.stores.assessments import AssessmentStore
from tracestone.schema.stores.backfills import BackfillStore
from tracestone.schema.stores.budgets import BudgetStore
from tracestone.schema.stores.coverage import CoverageStore
from tracestone.schema.stores.dead_jobs import DeadJobStore
from tracestone.schema.stores.experiments import ExperimentStore
from tracestone.schema.stores.jobs import JobStore
from tracestone.schema.stores.judge_replies import JudgeReplyStore
from tracestone.schema.stores.judge_traces import JudgeTraceStore
from tracestone.schema.stores.prices import PriceStore
from tracestone.schema.stores.scorers import ScorerStore
from tracestone.scoring import housekeeping
from tracestone.scoring.backfill import Backfiller
from tracestone.scoring.calls.budgeted import Budgeted
from tracestone.scoring.calls.cached import Cached
from tracestone.scoring.calls.ledger import Ledger
from tracestone.scoring.calls.limited import Limited
from tracestone.scoring.calls.noted import Noted
from tracestone.scoring.calls.prices import JudgePrices
from tracestone.scoring.code.sandbox import Sandbox
from tracestone.scoring.judge_delivery import JudgeTraces, Receiver
from tracestone.scoring.kept import KeptVerdicts
from tracestone.scoring.llm import LiteLLM
from tracestone.scoring.run import Runner
from tracestone.scoring.sample import Sampler
from tracestone.scoring.subjects import Subjects, TargetReader
from tracestone.scoring.watch import Watcher
from tracestone.scoring.worker import Worker

logger = logging.getLogger(__name__)

# Within what the whole process has to stop.
_DRAIN_SECONDS = 2.0
_SETTLE_SECONDS = 1.0
_DAY_SECONDS = 86_400.0


class Scoring:
    """Scores live traffic between `start` and `stop`."""

    def __init__(
        self,
        pool: Pool,
        columnar: Columnar,
        assessments: AssessmentStore,
        spans: TargetReader,
        settings: Settings,
        receive: Receiver | None = None,
    ) -> None:
        """`receive` takes the traces of judges' own calls; without it there are none."""
        self._settings = settings
        self._scorers = ScorerStore(pool)
        self._experiments = ExperimentStore(pool, settings.max_experiments)
        self._setup = OnlineSetup(self._scorers, self._experiments, columnar, code_scorers=settings.code_scorers)
        self._budgets = BudgetSetup(BudgetStore(pool), self._scorers, self._experiments)
        self._provider = LiteLLM()
        self._sandbox = Sandbox() if settings.code_scorers else None
        jobs = JobStore(pool)
        woken = asyncio.Event()
        sampler = Sampler(columnar, settle_ms=settings.settle_ms, max_trace_age_ms=settings.max_trace_age_ms)
        self._ledger = Ledger(self._budgets.store)
        budgeted = Budgeted(self._provider, self._ledger, JudgePrices(PriceStore(pool), self._provider))
        limited = Limited(budgeted, settings.call_limits, settings.calls_in_flight)
        replies = JudgeReplyStore(
            pool, seconds=settings.judge_cache_days * _DAY_SECONDS, most=settings.judge_cache_rows
        )
        self._cached = Cached(limited, replies)
        traces = JudgeTraceStore(pool)
        self._traces = JudgeTraces(traces, self._experiments, receive) if receive and settings.judge_traces else None
        provider = self._cached if settings.judge_cache_days else limited
        self._runner = Runner(
            pool,
            jobs,
            self._scorers,
            Subjects(spans),
            assessments,
            Noted(provider, content=settings.judge_trace_content) if self._traces else provider,
            sandbox=self._sandbox,
            traces=self._traces,
            provider_wait_seconds=settings.provider_wait_seconds,
        )
        coverage = CoverageStore(columnar, settings.coverage_days)
        dead = DeadJobStore(pool)
        self._forget = (self._budgets.store.forget, dead.forget, replies.forget, traces.forget, coverage.forget)
        self._watcher = Watcher(self._scorers, jobs, sampler, woken, interval_ms=settings.watch_interval_ms)
        self._backfiller = Backfiller(BackfillStore(pool), jobs, sampler, woken)
        self._worker = Worker(
            self._runner,
            jobs,
            woken,
            KeptVerdicts(settings.data_dir / "verdicts"),
            concurrency=settings.worker_concurrency,
            drain_seconds=_DRAIN_SECONDS,
        )
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Applies the settings `scorers` and `budgets` and begins. Raises StartRefused when one of them is invalid."""
        try:
            await self._setup.apply(self._settings.scorers)
            await self._budgets.apply(self._settings.budgets)
        except Invalid as error:
            raise StartRefused(f"The setting {error.field} cannot be used: {error.reason}.") from error
        await self._tell_of_others()
        self._stopping.clear()
        traces = self._traces
        self._tasks = [
            asyncio.create_task(self._watcher.run(self._stopping), name="scoring watcher"),
            asyncio.create_task(self._backfiller.run(self._stopping), name="backfills"),
            asyncio.create_task(self._worker.run(self._stopping), name="scoring worker"),
            asyncio.create_task(self._ledger.run(self._stopping), name="budgets"),
            asyncio.create_task(housekeeping.run(self._stopping, self._forget), name="housekeeping"),
            *([asyncio.create_task(traces.run(self._stopping), name="judges' traces")] if traces else []),
        ]

    async def stop(self) -> None:
        """Ends within the worker's drain time; unfinished jobs go back into the queue. Safe to call twice."""
        self._stopping.set()
        tasks, self._tasks = self._tasks, []
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(
            self._runner.close(_SETTLE_SECONDS), self._ledger.close(_SETTLE_SECONDS), self._cached.close()
        )
        await self._provider.close()
        if self._sandbox is not None:
            await self._sandbox.close()

    async def _tell_of_others(self) -> None:
        """What left the file goes on and may cost money, so the operator is told."""
        in_file = {document["name"] for document in self._settings.scorers}
        others = sorted({config.scorer_name for config in await self._scorers.configs()} - in_file)
        if others:
            logger.info("scorers that the configuration does not name go on", extra={"scorers": ", ".join(others)})

    def spent(self) -> dict[str, float]:
        """Calls of models since the start, `ok` and `failed`, and `cost_usd` where it is known."""
        return dict(self._provider.spent)

    def health(self) -> dict[str, Any]:
        """`ok`, `error` ("" when there is none) and the number of jobs `running` in this process."""
        dead = next((task for task in self._tasks if task.done()), None)
        error = f"the {dead.get_name()} ended" if dead else self._watcher.error or self._worker.error
        return {"ok": not error, "error": error, "running": self._worker.running}
