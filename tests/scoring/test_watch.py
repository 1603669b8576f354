"""From finished traces to jobs: each once, none lost, whatever happens to the watchers."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from support.stored_traces import Row, numbered, store
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.scorers.definition import define
from tracestone.schema.stores.jobs import JobStore, Usage, Wait
from tracestone.schema.stores.scorers import ScorerStore
from tracestone.scoring.sample import Sampler
from tracestone.scoring.watch import Watcher


@pytest.fixture
def scorers(pool: Pool) -> ScorerStore:
    return ScorerStore(pool)


def watcher(pool: Pool, columnar: Columnar, **fields: Any) -> Watcher:
    """A watcher for which a trace settles at once, and both looks are due at every tick."""
    times = {"settle_ms": fields.pop("settle_ms", 0), "max_trace_age_ms": fields.pop("age_ms", 1000)}
    sampler = Sampler(columnar, page=fields.pop("page", 5000), grace_ms=0, **times)
    plain: dict[str, Any] = {"interval_ms": 50, "sweep_seconds": 0, "visibility_lag_seconds": 0, "patience": 1}
    return Watcher(ScorerStore(pool), JobStore(pool), sampler, asyncio.Event(), **(plain | fields))


async def configure(
    scorers: ScorerStore,
    pool: Pool,
    name: str = "failed",
    *,
    rate: float = 1.0,
    filter: str = "",
    experiment_id: int | None = None,
    since_seconds: int = 3600,
) -> None:
    """A configuration that begins in the past."""
    await scorers.define(define(name, "error", {}))
    config = await scorers.put_config(
        name, version=None, experiment_id=experiment_id, sample_rate=rate, filter=filter, salt=""
    )
    await pool.execute(
        "UPDATE scoring_progress SET due_ns = due_ns - $2 WHERE config_id = $1", config.config_id, since_seconds * 10**9
    )


async def jobs_of(pool: Pool) -> list[tuple[str, str, float]]:
    rows = await pool.fetch("SELECT scorer_name, trace_id, probability FROM scoring_jobs ORDER BY 1, 2")
    return [(row["scorer_name"], row["trace_id"], row["probability"]) for row in rows]


async def test_a_finished_trace_becomes_one_job(scorers: ScorerStore, pool: Pool, columnar: Columnar) -> None:
    await configure(scorers, pool)
    await store(columnar, [Row(numbered(number)) for number in range(1, 4)])
    one = watcher(pool, columnar)
    assert await one.tick() == 3
    assert await one.tick() == 0
    assert await watcher(pool, columnar).tick() == 0
    assert await jobs_of(pool) == [("failed", numbered(number), 1.0) for number in range(1, 4)]


async def test_the_probability_of_the_rate_is_kept(scorers: ScorerStore, pool: Pool, columnar: Columnar) -> None:
    await configure(scorers, pool, rate=0.25)
    await store(columnar, [Row(numbered(number)) for number in range(1, 200)])
    added = await watcher(pool, columnar).tick()
    found = await jobs_of(pool)
    assert 0 < added == len(found) < 199
    assert {probability for _, _, probability in found} == {0.25}


async def test_a_new_configuration_leaves_the_past_alone(scorers: ScorerStore, pool: Pool, columnar: Columnar) -> None:
    await store(columnar, [Row(numbered(1), seen_ago=60, written_ago=60)])
    await configure(scorers, pool, since_seconds=0)
    assert await watcher(pool, columnar).tick() == 0
    await store(columnar, [Row(numbered(2), seen_ago=60, written_ago=0)])
    assert await watcher(pool, columnar).tick() == 1


async def test_pages_add_up(scorers: ScorerStore, pool: Pool, columnar: Columnar) -> None:
    await configure(scorers, pool)
    await store(columnar, [Row(numbered(number), seen_ago=10 + number / 10) for number in range(1, 100)])
    assert await watcher(pool, columnar, page=10).tick() == 99


@pytest.mark.parametrize(("age_ms", "count"), [(3_600_000, 0), (20_000, 1)])
async def test_a_trace_whose_root_never_ended_is_found_by_age(
    scorers: ScorerStore, pool: Pool, columnar: Columnar, age_ms: int, count: int
) -> None:
    await configure(scorers, pool)
    await store(columnar, [Row(numbered(1), complete=False, seen_ago=30, written_ago=30)])
    assert await watcher(pool, columnar, age_ms=age_ms).tick() == count


async def test_a_row_that_became_visible_late_is_found_by_the_sweep(
    scorers: ScorerStore, pool: Pool, columnar: Columnar
) -> None:
    """Written before the prompt look went past its due time, but readable only afterwards."""
    await configure(scorers, pool)
    behind = watcher(pool, columnar, sweep_seconds=3600, visibility_lag_seconds=30)
    await behind.tick()
    await store(columnar, [Row(numbered(1), seen_ago=20, written_ago=20)])
    assert await behind.tick() == 0
    assert await watcher(pool, columnar).tick() == 1


async def test_after_a_standstill_watching_goes_on_where_it_was(
    scorers: ScorerStore, pool: Pool, columnar: Columnar
) -> None:
    await configure(scorers, pool, since_seconds=30 * 86_400)
    await store(columnar, [Row(numbered(1), seen_ago=20 * 86_400, written_ago=20 * 86_400)])
    assert await watcher(pool, columnar).tick() == 1


async def test_a_changed_trace_is_not_chosen_again_while_it_has_a_job(
    scorers: ScorerStore, pool: Pool, columnar: Columnar
) -> None:
    await configure(scorers, pool)
    await store(columnar, [Row(numbered(1))])
    one = watcher(pool, columnar)
    assert await one.tick() == 1
    await store(columnar, [Row(numbered(1), seen_ago=0, written_ago=0)])
    assert await one.tick() == 0


async def test_a_new_version_scores_traces_that_finish_from_then_on(
    scorers: ScorerStore, pool: Pool, columnar: Columnar
) -> None:
    await configure(scorers, pool, "quick")
    await store(columnar, [Row(numbered(1))])
    one = watcher(pool, columnar)
    await one.tick()
    await scorers.define(define("quick", "latency", {"max_ms": 5}))
    await store(columnar, [Row(numbered(2), seen_ago=0, written_ago=0)])
    await one.tick()
    rows = await pool.fetch("SELECT trace_id, scorer_version FROM scoring_jobs ORDER BY 1")
    assert [tuple(row) for row in rows] == [(numbered(1), 1), (numbered(2), 2)]


async def test_an_experiments_own_configuration_replaces_the_one_for_all(
    scorers: ScorerStore, pool: Pool, columnar: Columnar
) -> None:
    await configure(scorers, pool)
    await configure(scorers, pool, experiment_id=0, filter="state = 'ERROR'")
    await store(columnar, [Row(numbered(1)), Row(numbered(2), state="ERROR"), Row(numbered(3), experiment_id=7)])
    await watcher(pool, columnar).tick()
    assert [trace_id for _, trace_id, _ in await jobs_of(pool)] == [numbered(2), numbered(3)]


async def test_watchers_at_once_add_each_job_once(scorers: ScorerStore, pool: Pool, columnar: Columnar) -> None:
    for name in ("a", "b"):
        await configure(scorers, pool, name)
    await store(columnar, [Row(numbered(number)) for number in range(1, 101)])
    added = [0]
    for _ in range(5):
        added += await asyncio.gather(*(watcher(pool, columnar, page=30).tick() for _ in range(4)))
    assert sum(added) == 200
    assert len(await jobs_of(pool)) == 200


async def test_looks_that_choose_little_become_rarer_and_lose_nothing(
    scorers: ScorerStore, pool: Pool, columnar: Columnar
) -> None:
    await configure(scorers, pool)
    one = watcher(pool, columnar, patience=4, sweep_seconds=3600)
    await one.tick()
    found = []
    for number in range(1, 10):
        await store(columnar, [Row(numbered(number), seen_ago=0, written_ago=0)])
        found.append(await one.tick())
    assert found == [0, 2, 0, 0, 0, 4, 0, 0, 0]
    await store(columnar, [Row(numbered(number), seen_ago=0, written_ago=0) for number in range(10, 30)])
    found = []
    for number in range(30, 33):
        found.append(await one.tick())
        await store(columnar, [Row(numbered(number), seen_ago=0, written_ago=0)])
    assert found == [23, 0, 2]


async def test_an_aged_trace_is_found_once_and_by_its_newest_row(
    scorers: ScorerStore, pool: Pool, columnar: Columnar
) -> None:
    """Three traces were written incomplete long ago; of two a newer row came, which is not due yet, or was before."""
    await configure(scorers, pool, since_seconds=45)
    old = [Row(numbered(number), complete=False, seen_ago=100, written_ago=100) for number in (1, 2, 3)]
    await store(columnar, old)
    await store(columnar, [Row(numbered(2), complete=False, seen_ago=20, written_ago=20)])
    await store(columnar, [Row(numbered(3), complete=True, seen_ago=80, written_ago=80)])
    one = watcher(pool, columnar, settle_ms=1000, age_ms=60_000)
    assert await one.tick() == 1
    assert [trace_id for _, trace_id, _ in await jobs_of(pool)] == [numbered(1)]
    rows = await columnar.query("SELECT sum(finished) AS n FROM coverage")
    assert rows[0]["n"] == 1


async def test_a_full_queue_pauses_and_loses_nothing(scorers: ScorerStore, pool: Pool, columnar: Columnar) -> None:
    await configure(scorers, pool)
    await store(columnar, [Row(numbered(1))])
    one = watcher(pool, columnar, max_waiting=1)
    assert await one.tick() == 1
    await store(columnar, [Row(numbered(2), seen_ago=0, written_ago=0)])
    assert await one.tick() == 0
    await pool.execute("DELETE FROM scoring_jobs WHERE trace_id = $1", numbered(1))
    await one.tick()
    assert numbered(2) in [trace_id for _, trace_id, _ in await jobs_of(pool)]


async def test_jobs_that_wait_for_a_budget_hold_up_only_their_scorer(
    scorers: ScorerStore, pool: Pool, columnar: Columnar
) -> None:
    for name in ("capped", "free"):
        await configure(scorers, pool, name)
    await store(columnar, [Row(numbered(number)) for number in (1, 2, 3)])
    one, jobs = watcher(pool, columnar, max_waiting=3), JobStore(pool)
    assert await one.tick() == 6
    for job in await jobs.claim(6, uuid4(), 60):
        if job.scorer_name == "capped":
            await jobs.defer(job, Usage(), Wait("budget", "is spent", seconds=3000))
        else:
            async with pool.acquire() as connection:
                await jobs.finish([(job, job.seen_ns)], connection)
    await store(columnar, [Row(numbered(4), seen_ago=0, written_ago=0)])
    assert await one.tick() == 1
    assert [trace_id for name, trace_id, _ in await jobs_of(pool) if name == "free"][-1] == numbered(4)
    # Once the budget is there again, what waited is chosen.
    await pool.execute("DELETE FROM scoring_jobs WHERE scorer_name = 'capped'")
    assert await one.tick() >= 1
    assert ("capped", numbered(4), 1.0) in await jobs_of(pool)


async def test_all_scorers_together_fill_the_queue(scorers: ScorerStore, pool: Pool, columnar: Columnar) -> None:
    names = [f"scorer-{number:02}" for number in range(21)]
    for name in names:
        await configure(scorers, pool, name)
    await store(columnar, [Row(numbered(1))])
    await watcher(pool, columnar).tick()
    crowd = await JobStore(pool).crowded(1)
    assert crowd.full
    assert "another" in crowd
    crowd = await JobStore(pool).crowded(2)
    assert not crowd.full
    assert names[0] not in crowd


async def test_a_filter_that_fails_holds_up_only_itself(scorers: ScorerStore, pool: Pool, columnar: Columnar) -> None:
    await configure(scorers, pool, "broken", filter="match(root_name, tags['pattern'])")
    await configure(scorers, pool, "sound")
    await store(columnar, [Row(numbered(1), tags={"pattern": "("})])
    one = watcher(pool, columnar)
    await one.tick()
    assert [name for name, _, _ in await jobs_of(pool)] == ["sound"]
    [broken] = await scorers.configs("broken")
    assert "OptimizedRegularExpression" in broken.last_error
    # Once the filter is mended, what waited is chosen.
    await scorers.put_config("broken", version=None, experiment_id=None, sample_rate=1.0, filter="", salt="")
    await one.tick()
    assert [name for name, _, _ in await jobs_of(pool)] == ["broken", "sound"]
    assert (await scorers.configs("broken"))[0].last_error == ""


async def test_a_rate_of_nothing_does_not_save_up_work(scorers: ScorerStore, pool: Pool, columnar: Columnar) -> None:
    await configure(scorers, pool, rate=0.0)
    await store(columnar, [Row(numbered(1))])
    one = watcher(pool, columnar)
    assert await one.tick() == 0
    await scorers.put_config("failed", version=None, experiment_id=None, sample_rate=1.0, filter="", salt="")
    assert await one.tick() == 0


async def test_watching_ends_when_told(scorers: ScorerStore, pool: Pool, columnar: Columnar) -> None:
    await configure(scorers, pool)
    await store(columnar, [Row(numbered(1))])
    stopping = asyncio.Event()
    one = watcher(pool, columnar)
    task = asyncio.create_task(one.run(stopping))
    async with asyncio.timeout(30):
        while not await jobs_of(pool):
            await asyncio.sleep(0.02)
        stopping.set()
        await task
    assert one.error == ""
