"""Judges over stored traces, with all that stands between a worker and a provider, as `scoring.app` builds it."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from support.openai_server import Answer, OpenAIServer
from support.stored_traces import Row, numbered, store
from tracestone.schema.assessments import Assessment
from tracestone.schema.budgets import BudgetRequest, BudgetState
from tracestone.schema.call_limits import CallLimit
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.scorers.definition import define
from tracestone.schema.stores.assessments import AssessmentStore
from tracestone.schema.stores.budgets import BudgetStore
from tracestone.schema.stores.dead_jobs import DeadJobStore
from tracestone.schema.stores.jobs import Cursor, JobStore, Target
from tracestone.schema.stores.judge_replies import JudgeReplyStore
from tracestone.schema.stores.prices import PriceStore
from tracestone.schema.stores.scorers import ScorerStore
from tracestone.schema.stores.spans import SpanStore
from tracestone.scoring.calls.breaker import Breaker
from tracestone.scoring.calls.budgeted import Budgeted
from tracestone.scoring.calls.cached import Cached
from tracestone.scoring.calls.ledger import Ledger
from tracestone.scoring.calls.limited import Limited
from tracestone.scoring.calls.noted import Noted
from tracestone.scoring.calls.prices import JudgePrices
from tracestone.scoring.kept import KeptVerdicts
from tracestone.scoring.llm import LiteLLM
from tracestone.scoring.run import Runner
from tracestone.scoring.subjects import Subjects
from tracestone.scoring.worker import Worker

ONE_CALL = 100 * 0.15e-6 + 10 * 0.6e-6
"""USD of `good()` from gpt-4o-mini."""


def judge(server: OpenAIServer, **fields: Any) -> dict[str, Any]:
    """A judge that asks this server."""
    plain = {
        "instructions": "Is {{ outputs }} polite?",
        "model": "openai/gpt-4o-mini",
        "api_base": server.url,
        "params": {"max_tokens": 100},
    }
    return plain | fields


def good(value: bool = True, *, input_tokens: int = 100, output_tokens: int = 10) -> Answer:
    """A verdict."""
    return Answer(json.dumps({"rationale": "It is.", "value": value}), input_tokens, output_tokens)


class Judged:
    """The stores of a deployment and its worker processes."""

    def __init__(self, pool: Pool, columnar: Columnar, litellm: LiteLLM, folder: Path) -> None:
        self.pool = pool
        self.columnar = columnar
        self.litellm = litellm
        self.jobs = JobStore(pool)
        self.scorers = ScorerStore(pool)
        self.budgets = BudgetStore(pool)
        self.dead = DeadJobStore(pool)
        self.prices = PriceStore(pool)
        self.replies = JudgeReplyStore(pool, seconds=3600, most=1000)
        self._assessments = AssessmentStore(pool)
        self._folder = folder

    async def enqueue(
        self,
        parameters: dict[str, Any],
        numbers: Sequence[int],
        name: str = "tone",
        *,
        differing: bool = True,
        kind: str = "judge",
    ) -> None:
        """Traces with these numbers, each with a text of its own if `differing`, and a job for each."""
        rows = [Row(numbered(n), output=f"Parcel {n} is on its way." if differing else "Gladly.") for n in numbers]
        await store(self.columnar, rows)
        scorer = await self.scorers.define(define(name, kind, parameters))
        config = await self.scorers.put_config(
            name, version=None, experiment_id=None, sample_rate=1.0, filter="", salt=""
        )
        async with self.jobs.look(config.config_id, "prompt") as held:
            assert held is not None
            targets = [Target(0, row.trace_id) for row in rows]
            await held.advance(Cursor(2**62), name, scorer.version, targets)

    async def budget(self, experiment: int | None = None, **fields: Any) -> int:
        """Sets a budget, of a day unless told; its number."""
        request = BudgetRequest(**({"per": "day"} | fields))
        return (await self.budgets.set(request, experiment))[0].budget_id

    async def state(self, number: int) -> BudgetState:
        """How a budget stands."""
        return await self.budgets.state(number)

    @asynccontextmanager
    async def working(
        self,
        processes: int = 1,
        *,
        concurrency: int = 4,
        in_flight: int = 1000,
        limits: Sequence[CallLimit] = (),
        cache: bool = False,
        content: bool | None = None,
        **runner: Any,
    ) -> AsyncIterator[None]:
        """So many worker processes, each with a ledger and limits of its own; calls are noted if `content` is given."""
        stopping = asyncio.Event()
        # A thousand separate queries are not what is tested.
        subjects = Subjects(SpanStore(self.columnar))
        closing: list[Cached] = []
        ledgers = [Ledger(self.budgets) for _ in range(processes)]
        tasks = []
        for number, ledger in enumerate(ledgers):
            budgeted = Budgeted(self.litellm, ledger, JudgePrices(self.prices, self.litellm))
            limited = Limited(
                budgeted, limits, in_flight, patience_seconds=1.0, breaker=lambda: Breaker(open_seconds=0.5)
            )
            remembering = Cached(limited, self.replies)
            closing.append(remembering)
            provider = remembering if cache else limited
            jobs = Runner(
                self.pool,
                self.jobs,
                self.scorers,
                subjects,
                self._assessments,
                provider if content is None else Noted(provider, content=content),
                **({"backoff_seconds": 0.01} | runner),
            )
            kept = KeptVerdicts(self._folder / str(number))
            worker = Worker(jobs, self.jobs, asyncio.Event(), kept, concurrency=concurrency)
            tasks += [asyncio.create_task(worker.run(stopping)), asyncio.create_task(ledger.run(stopping))]
        try:
            yield
        finally:
            stopping.set()
            await asyncio.gather(*tasks)
            for each in (*ledgers, *closing):
                await each.close()

    async def states(self) -> dict[str, int]:
        """How many jobs are in each state, those left out that have none."""
        return {state: count for state, count in (await self.jobs.by_state()).items() if count}

    async def until(self, **states: int) -> None:
        """Waits until so many jobs are in these states, and none in another."""
        async with asyncio.timeout(60):
            while await self.states() != states:
                await asyncio.sleep(0.05)

    async def verdicts(self, numbers: Sequence[int]) -> list[Assessment]:
        """The assessments of traces."""
        found = await self._assessments.by_traces([(0, numbered(number)) for number in numbers])
        return [each for verdicts in found.values() for each in verdicts]
