"""How many jobs of one configuration run at once, over all workers."""

import asyncio
from collections import Counter
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tracestone.schema.engines.postgres import Pool
from tracestone.schema.scorers.definition import define
from tracestone.schema.stores.jobs import Cursor, Job, JobStore, Target
from tracestone.schema.stores.scorers import ScorerStore
from tracestone.scoring.kept import KeptVerdicts
from tracestone.scoring.run import Scored
from tracestone.scoring.worker import Worker

PLAIN: dict[str, Any] = {"version": None, "experiment_id": None, "sample_rate": 1.0, "filter": "", "salt": ""}


async def configure(pool: Pool, name: str, **fields: Any) -> int:
    await ScorerStore(pool).define(define(name, "error", {}))
    return (await ScorerStore(pool).put_config(name, **(PLAIN | fields))).config_id


async def enqueue(pool: Pool, config_id: int, name: str, count: int, priority: int = 0) -> None:
    async with JobStore(pool).look(config_id, "prompt") as held:
        assert held is not None
        targets = [Target(0, f"{number:032x}") for number in range(1, count + 1)]
        await held.advance(Cursor(2**62), name, 1, targets, priority=priority)


async def claim(pool: Pool, limit: int = 10, seconds: float = 60.0) -> list[Job]:
    """By a worker of its own, which knows of no bounds yet."""
    return await JobStore(pool).claim(limit, uuid4(), seconds)


async def finish(pool: Pool, job: Job) -> None:
    async with pool.acquire() as connection, connection.transaction():
        assert await JobStore(pool).finish([(job, job.seen_ns)], connection)


async def test_no_more_are_claimed_than_may_run(pool: Pool) -> None:
    config_id = await configure(pool, "slow", concurrency=3)
    await enqueue(pool, config_id, "slow", 8)
    first = [job for jobs in await asyncio.gather(*(claim(pool) for _ in range(6))) for job in jobs]
    assert len(first) == 3 and all(job.limited for job in first)
    assert await claim(pool) == []
    await finish(pool, first[0])
    await JobStore(pool).retry(first[1], first[1].spent, 0.0)
    assert len(await claim(pool)) == 2


async def test_jobs_of_others_pass_by(pool: Pool) -> None:
    slow = await configure(pool, "slow", concurrency=1)
    await enqueue(pool, slow, "slow", 20, priority=50)
    quick = await configure(pool, "quick")
    await enqueue(pool, quick, "quick", 5)
    jobs = await claim(pool, 4)
    assert Counter(job.scorer_name for job in jobs) == {"slow": 1, "quick": 3}
    assert [job.scorer_name for job in await claim(pool)] == ["quick"] * 2


async def test_a_dead_worker_gives_its_places_back(pool: Pool) -> None:
    config_id = await configure(pool, "slow", concurrency=2)
    await enqueue(pool, config_id, "slow", 4)
    assert len(await claim(pool, seconds=0.05)) == 2
    await asyncio.sleep(0.1)
    assert len(await claim(pool)) == 2


async def test_a_change_is_about_the_jobs_that_wait_too(pool: Pool) -> None:
    config_id = await configure(pool, "slow")
    await enqueue(pool, config_id, "slow", 30)
    assert len(await claim(pool, 2)) == 2
    await configure(pool, "slow", concurrency=3)
    assert len(await claim(pool)) == 1  # two run already
    await configure(pool, "slow", concurrency=5)
    assert len(await claim(pool)) == 2
    await configure(pool, "slow", concurrency=1)
    assert await claim(pool) == []
    await configure(pool, "slow")
    assert len(await claim(pool)) == 10
    await configure(pool, "slow", concurrency=1)
    await ScorerStore(pool).delete_config("slow", None)
    assert len(await claim(pool, 20)) == 15


async def test_a_look_under_way_is_waited_for_by_a_change(pool: Pool) -> None:
    """What it adds by the configuration as it was is bounded as well."""
    config_id = await configure(pool, "slow")
    async with JobStore(pool).look(config_id, "prompt") as held:
        assert held is not None
        await held.advance(Cursor(2**62), "slow", 1, [Target(0, f"{number:032x}") for number in range(1, 9)])
        change = asyncio.create_task(configure(pool, "slow", concurrency=2))
        await asyncio.sleep(0.2)
        assert not change.done()
    await change
    assert len(await claim(pool)) == 2


class Running:
    """A runner whose jobs take a moment, and which counts how many run at once."""

    read_at_once = 10

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.now = self.most = self.ended = 0

    async def score(self, job: Job, turn: AbstractAsyncContextManager[None]) -> Scored:
        async with turn:
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0.02)
            self.now -= 1
        return Scored(job)

    async def settle(self, scored: Scored) -> None:
        await finish(self._pool, scored.job)
        self.ended += 1


@pytest.mark.parametrize("bound", [1, 3])
async def test_several_workers_together_keep_to_it_and_leave_nothing(pool: Pool, tmp_path: Path, bound: int) -> None:
    config_id = await configure(pool, "slow", concurrency=bound)
    await enqueue(pool, config_id, "slow", 25)
    running, stopping = Running(pool), asyncio.Event()
    workers = [
        Worker(running, JobStore(pool), asyncio.Event(), KeptVerdicts(tmp_path / str(number)), concurrency=8)  # type: ignore[arg-type]
        for number in range(3)
    ]
    tasks = [asyncio.create_task(worker.run(stopping)) for worker in workers]
    async with asyncio.timeout(100):
        while running.ended < 25:
            await asyncio.sleep(0.02)
    stopping.set()
    await asyncio.gather(*tasks)
    assert running.most == bound
