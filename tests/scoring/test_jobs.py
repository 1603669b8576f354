"""The scoring queue: who may finish a job, what a dead worker leaves, what is never enqueued twice."""

import asyncio
from uuid import uuid4

import pytest
import pytest_asyncio

from tracestone.schema.assessments import Assessment
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.scorers.definition import define
from tracestone.schema.stores.assessments import AssessmentStore
from tracestone.schema.stores.jobs import Cursor, Job, JobStore, Target, Usage
from tracestone.schema.stores.scorers import ScorerStore

CURSOR = Cursor(2**62)


@pytest.fixture
def jobs(pool: Pool) -> JobStore:
    return JobStore(pool)


@pytest_asyncio.fixture
async def config_id(pool: Pool) -> int:
    scorers = ScorerStore(pool)
    await scorers.define(define("failed", "error", {}))
    config = await scorers.put_config("failed", version=None, experiment_id=None, sample_rate=1.0, filter="", salt="")
    return config.config_id


async def enqueue(jobs: JobStore, config_id: int, count: int = 1, first: int = 1) -> int:
    targets = [Target(0, f"{number:032x}", probability=0.5) for number in range(first, first + count)]
    async with jobs.look(config_id, "prompt") as held:
        assert held is not None
        return await held.advance(CURSOR, "failed", 1, targets)


async def claim(jobs: JobStore, limit: int = 10, seconds: float = 60) -> list[Job]:
    return await jobs.claim(limit, uuid4(), seconds)


async def finish(jobs: JobStore, pool: Pool, job: Job) -> bool:
    async with pool.acquire() as connection, connection.transaction():
        return bool(await jobs.finish([(job, job.seen_ns)], connection))


async def test_a_job_is_claimed_once(jobs: JobStore, config_id: int) -> None:
    assert await enqueue(jobs, config_id, 40) == 40
    claimed = await asyncio.gather(*(claim(jobs) for _ in range(8)))
    ids = [job.trace_id for batch in claimed for job in batch]
    assert len(ids) == len(set(ids)) == 40
    assert {job.probability for batch in claimed for job in batch} == {0.5}


async def test_a_target_has_one_job(jobs: JobStore, config_id: int) -> None:
    assert await enqueue(jobs, config_id, 3) == 3
    assert await enqueue(jobs, config_id, 5) == 2


async def test_a_target_with_a_verdict_gets_no_job(jobs: JobStore, config_id: int, pool: Pool) -> None:
    await AssessmentStore(pool).record(
        Assessment(
            experiment_id=0,
            target_type="trace",
            trace_id=f"{1:032x}",
            name="failed",
            kind="feedback",
            source_type="CODE",
            value=True,
            scorer_name="failed",
            scorer_version=1,
        )
    )
    assert await enqueue(jobs, config_id, 2) == 1
    assert [job.trace_id for job in await claim(jobs)] == [f"{2:032x}"]


async def test_progress_and_jobs_commit_together(jobs: JobStore, config_id: int) -> None:
    with pytest.raises(RuntimeError):
        async with jobs.look(config_id, "prompt") as held:
            assert held is not None
            start = held.cursor
            await held.advance(CURSOR, "failed", 1, [Target(0, f"{1:032x}")])
            raise RuntimeError("the process dies here")
    assert await claim(jobs) == []
    async with jobs.look(config_id, "prompt") as held:
        assert held is not None
        assert held.cursor == start


async def test_a_look_is_held_by_one_watcher(jobs: JobStore, config_id: int) -> None:
    async with jobs.look(config_id, "prompt") as held:
        assert held is not None
        async with jobs.look(config_id, "prompt") as other:
            assert other is None
        async with jobs.look(config_id, "sweep") as another:
            assert another is not None


async def test_a_dead_workers_job_is_taken_over_and_only_then(jobs: JobStore, config_id: int, pool: Pool) -> None:
    await enqueue(jobs, config_id)
    [lost] = await claim(jobs, seconds=60)
    assert await claim(jobs) == []
    await jobs.extend([lost], 0)  # its lease runs out
    [taken] = await claim(jobs)
    assert (taken.job_id, taken.deliveries) == (lost.job_id, 2)
    assert not await finish(jobs, pool, lost)
    assert not await jobs.retry(lost, Usage(), 0)
    await jobs.extend([lost], 0)
    await jobs.release([lost])
    assert await claim(jobs) == []
    assert await finish(jobs, pool, taken)
    assert not await finish(jobs, pool, taken)


async def test_a_retry_waits_and_remembers_what_was_spent(jobs: JobStore, config_id: int, pool: Pool) -> None:
    await enqueue(jobs, config_id)
    [job] = await claim(jobs)
    assert await jobs.retry(job, Usage(2, 0.5, 100, 10), 3600)
    assert await claim(jobs) == []
    await pool.execute("UPDATE scoring_jobs SET available_at = now()")
    [again] = await claim(jobs)
    assert (again.failures, again.deliveries) == (1, 2)
    assert again.spent == Usage(2, 0.5, 100, 10)


async def test_a_released_job_is_ready_and_counts_no_delivery(jobs: JobStore, config_id: int) -> None:
    await enqueue(jobs, config_id)
    await jobs.release(await claim(jobs))
    [job] = await claim(jobs)
    assert (job.failures, job.deliveries) == (0, 1)


async def test_jobs_come_in_order(jobs: JobStore, config_id: int) -> None:
    await enqueue(jobs, config_id, 3)
    await enqueue(jobs, config_id, 3, first=10)
    found = [job.trace_id for _ in range(3) for job in sorted(await claim(jobs, 2), key=lambda j: j.job_id)]
    assert found == [f"{number:032x}" for number in (1, 2, 3, 10, 11, 12)]


async def test_depth_counts_what_is_ready(jobs: JobStore, config_id: int) -> None:
    assert await jobs.depth() == (0, 0.0)
    await enqueue(jobs, config_id, 3)
    assert (await jobs.depth())[0] == 3
    await claim(jobs, 1)
    assert (await jobs.depth())[0] == 2
    assert await jobs.waiting(100) == 3
    assert await jobs.waiting(2) == 2


def test_unknown_costs_add_nothing_to_known_ones() -> None:
    assert Usage(1, None, 5, None).plus(Usage(2, 0.5, 1, None)) == Usage(3, 0.5, 6, None)
