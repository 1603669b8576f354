"""Backfills: each stored target once, in pages, paused and resumed, by any number of processes."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.stored_traces import Row, numbered, store
from tracestone.schema.backfilling import BackfillSetup
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.errors import Invalid, NotFound
from tracestone.schema.online import OnlineSetup
from tracestone.schema.scorers.definition import define
from tracestone.schema.stores.backfills import BackfillStore, LeasedBackfill
from tracestone.schema.stores.experiments import ExperimentStore
from tracestone.schema.stores.jobs import JobStore
from tracestone.schema.stores.scorers import ScorerStore
from tracestone.scoring.backfill import Backfiller
from tracestone.scoring.sample import Sampler
from tracestone.scoring.watch import Watcher


class Bench:
    """A scorer, some hours of traces, and what works backfills off."""

    def __init__(self, pool: Pool, columnar: Columnar) -> None:
        self.pool = pool
        self.columnar = columnar
        self.scorers = ScorerStore(pool)
        self.store = BackfillStore(pool)
        self.setup = BackfillSetup(OnlineSetup(self.scorers, ExperimentStore(pool, 100), columnar), self.store)

    def backfiller(self, page: int = 1000) -> Backfiller:
        return Backfiller(self.store, JobStore(self.pool), self._sampler(), asyncio.Event(), page=page)

    def _sampler(self) -> Sampler:
        return Sampler(self.columnar, settle_ms=0, max_trace_age_ms=1000)

    async def traces(self, numbers: range, **fields: Any) -> None:
        await self.scorers.define(define("failed", "error", {}))
        rows = [
            Row(numbered(n), seen_ago=60 * n, written_ago=60 * n, session_id=f"s{n % 3}", **fields) for n in numbers
        ]
        await store(self.columnar, rows)

    def asked(self, hours: float = 24, **fields: Any) -> dict[str, Any]:
        since = datetime.now(UTC) - timedelta(hours=hours)
        return {"scorer": "failed", "since": since.isoformat()} | fields

    async def online(self, **fields: Any) -> None:
        """An online configuration, and what it decides of what is there."""
        plain: dict[str, Any] = {"version": None, "experiment_id": None, "salt": ""}
        await self.scorers.put_config("failed", **(plain | fields))
        await self.pool.execute("UPDATE scoring_progress SET due_ns = 0")
        watcher = Watcher(
            self.scorers, JobStore(self.pool), self._sampler(), asyncio.Event(),
            interval_ms=50, sweep_seconds=0, visibility_lag_seconds=0,
        )  # fmt: skip
        for _ in range(3):  # a sweep goes to the end of a minute at a time
            await watcher.tick()

    async def killed_before_it_advances(self) -> None:
        """A process that dies in its first page with something in it, after it wrote down what it decided."""
        worker = self.backfiller(page=4)

        async def advance(*_: Any, **__: Any) -> int:
            raise RuntimeError("killed")

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(LeasedBackfill, "advance", advance)
            with pytest.raises(RuntimeError):
                await worker.tick()

    async def coverage(self) -> dict[str, int]:
        """The sums of the view."""
        names = ("finished", "scored", "failed", "waiting", "not_chosen", "filtered")
        [row] = await self.columnar.query(
            f"SELECT {', '.join(f'sum({name}) AS {name}' for name in names)} FROM coverage"
        )
        counts = {name: int(row[name]) for name in names}
        assert counts["finished"] == sum(counts.values()) - counts["finished"]
        return counts

    async def jobs(self) -> list[tuple[str, str, str, float]]:
        rows = await self.pool.fetch("SELECT * FROM scoring_jobs ORDER BY trace_id, span_id, session_id")
        return [(row["trace_id"], row["span_id"], row["session_id"], row["probability"]) for row in rows]


@pytest.fixture
def bench(pool: Pool, columnar: Columnar) -> Bench:
    return Bench(pool, columnar)


async def test_each_stored_trace_becomes_one_job_of_low_priority(bench: Bench) -> None:
    await bench.traces(range(1, 31))
    backfill, estimate = await bench.setup.start(bench.asked(hours=0.25))
    assert (estimate.found, estimate.chosen, estimate.usd, backfill.targets) == (14, 14, None, 14)
    workers = [bench.backfiller(page=3) for _ in range(3)]
    while (await bench.store.get(backfill.backfill_id)).state != "done":
        await asyncio.gather(*(worker.tick() for worker in workers))
    assert [trace_id for trace_id, *_ in await bench.jobs()] == [numbered(n) for n in range(1, 15)]
    done = await bench.store.get(backfill.backfill_id)
    assert (done.chosen, done.enqueued) == (14, 14)
    assert await bench.pool.fetchval("SELECT max(priority) FROM scoring_jobs") == -10
    again, _ = await bench.setup.start(bench.asked(hours=0.25))
    while await workers[0].tick():
        pass
    assert (await bench.store.get(again.backfill_id)).enqueued == 0


@pytest.mark.parametrize(("target", "count"), [("trace", 10), ("span", 10), ("session", 3)])
async def test_every_kind_of_target(bench: Bench, target: str, count: int) -> None:
    await bench.traces(range(1, 11))
    if target == "session":
        await bench.scorers.define(define("talk", "refusal", {}))
    scorer = "talk" if target == "session" else "failed"
    await bench.setup.start(bench.asked(scorer=scorer, target=target))
    while await bench.backfiller(page=4).tick():
        pass
    assert len(await bench.jobs()) == count


async def test_filter_and_rate_choose_and_the_probability_is_kept(bench: Bench) -> None:
    await bench.traces(range(1, 101))
    await bench.traces(range(101, 151), state="ERROR")
    backfill, estimate = await bench.setup.start(bench.asked(filter="state = 'OK'", sample_rate=0.5))
    assert estimate.found == 100
    assert 30 < estimate.chosen < 70
    while await bench.backfiller().tick():
        pass
    found = await bench.jobs()
    assert len(found) == estimate.chosen == (await bench.store.get(backfill.backfill_id)).chosen
    assert {probability for *_, probability in found} == {0.5}


@pytest.mark.parametrize("target", ["trace", "span", "session"])
async def test_coverage_counts_each_target_once_beside_online(bench: Bench, target: Any) -> None:
    """Online chose some and left out those with errors; two backfills, killed in between, choose more."""
    await bench.traces(range(1, 31))
    await bench.traces(range(31, 46), state="ERROR")
    if target == "session":
        await bench.scorers.define(define("failed", "refusal", {}))
    ok = {"trace": "state = 'OK'", "span": "status_code != 'ERROR'", "session": "session_id != 's0'"}[target]
    await bench.online(sample_rate=0.3, filter=ok, target_type=target, idle_seconds=0)
    total = {"trace": 45, "span": 45, "session": 3}[target]
    counts = await bench.coverage()
    chosen = {row[:3] for row in await bench.jobs()}
    assert (counts["finished"], counts["waiting"]) == (total, len(chosen))
    filtered = counts["filtered"]
    assert filtered == {"trace": 15, "span": 15, "session": 1}[target]

    await bench.setup.start(bench.asked(1, target=target, filter=ok, sample_rate=0.6))
    await bench.killed_before_it_advances()
    while await bench.backfiller(page=4).tick():
        pass
    more = {row[:3] for row in await bench.jobs()}
    assert more >= chosen
    counts = await bench.coverage()
    assert (counts["finished"], counts["waiting"], counts["filtered"]) == (total, len(more), filtered)
    assert counts["not_chosen"] == total - filtered - len(more)

    # One with another filter takes nothing back; what it chooses besides is chosen.
    await bench.setup.start(bench.asked(target=target, filter=f"NOT ({ok})"))
    while await bench.backfiller(page=4).tick():
        pass
    counts = await bench.coverage()
    assert (counts["finished"], counts["waiting"], counts["filtered"]) == (total, len(more) + filtered, 0)
    assert len(await bench.jobs()) == len(more) + filtered


async def test_coverage_is_there_without_an_online_configuration(bench: Bench) -> None:
    await bench.traces(range(1, 11))
    await bench.traces(range(11, 16), state="ERROR")
    await bench.setup.start(bench.asked(filter="state = 'OK'", sample_rate=0.5))
    while await bench.backfiller(page=2).tick():
        pass
    chosen = len(await bench.jobs())
    assert await bench.coverage() == {
        "finished": 15, "waiting": chosen, "not_chosen": 10 - chosen, "filtered": 5, "scored": 0, "failed": 0
    }  # fmt: skip


async def test_it_is_paused_resumed_and_cancelled(bench: Bench) -> None:
    await bench.traces(range(1, 11))
    backfill, _ = await bench.setup.start(bench.asked())
    number = backfill.backfill_id
    assert (await bench.store.set_state(number, "paused")).state == "paused"
    assert not await bench.backfiller(page=2).tick()
    assert await bench.jobs() == []
    await bench.store.set_state(number, "running")
    while not await bench.jobs():  # a day that holds nothing is a page too
        await bench.backfiller(page=2).tick()
    assert 2 <= len(await bench.jobs()) < 10
    await bench.store.set_state(number, "cancelled")
    assert (await bench.store.set_state(number, "running")).state == "cancelled"
    assert not await bench.backfiller(page=2).tick()


async def test_its_rate_holds_it_back(bench: Bench) -> None:
    await bench.traces(range(1, 21))
    await bench.setup.start(bench.asked(per_minute=50))
    worker = bench.backfiller()
    while not await bench.jobs():
        await worker.tick()
    assert not await worker.tick()
    assert len(await bench.jobs()) == 5


async def test_what_verdicts_have_cost_tells_what_it_will(bench: Bench) -> None:
    await bench.traces(range(1, 11))
    for number in range(1, 5):
        await bench.pool.execute(
            "INSERT INTO assessments SELECT (jsonb_populate_record(NULL::tracestone.assessments, $1)).*",
            {
                "assessment_id": f"a-{number}", "experiment_id": 0, "target_type": "trace",
                "trace_id": numbered(900 + number), "span_id": "", "session_id": "", "name": "failed",
                "kind": "feedback", "error_code": "", "error_message": "", "error_stack": "", "rationale": "",
                "source_type": "LLM_JUDGE", "source_id": "", "scorer_name": "failed", "scorer_version": 1,
                "cost_usd": 0.001 * number, "input_tokens": 100, "output_tokens": 10, "metadata": {},
                "overrides": "", "valid": True, "created_at_ms": number, "updated_at_ms": number, "revision": 1,
                "input_digest": "",
            },
        )  # fmt: skip
    estimate = await bench.setup.estimate(bench.asked())
    assert (estimate.verdicts, estimate.tokens_each) == (4, 110)
    assert estimate.usd == pytest.approx(10 * 0.0025)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"since": "2026-01-01"}, "since"),
        ({"until": "2020-01-01T00:00:00Z"}, ""),
        ({"since": "2190-01-01T00:00:00Z"}, "since"),
        ({"filter": "nonsense ="}, "filter"),
        ({"target": "session"}, "target"),
        ({"experiment": "nowhere"}, "experiment"),
        ({"experiment": 77}, "experiment"),
        ({"sample_rate": 0}, "sample_rate"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_what_makes_no_sense_is_refused(bench: Bench, fields: dict[str, Any], field: str) -> None:
    await bench.scorers.define(define("failed", "response_length", {"minimum": 1}))
    with pytest.raises(Invalid) as refused:
        await bench.setup.start(bench.asked(**fields))
    assert refused.value.field == field


async def test_an_unknown_scorer_or_number_is_not_found(bench: Bench) -> None:
    with pytest.raises(NotFound):
        await bench.setup.start(bench.asked())
    with pytest.raises(NotFound):
        await bench.store.get(7)
