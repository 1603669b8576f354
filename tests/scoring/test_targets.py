"""Spans, traces and sessions as targets: chosen, scored, scored again when they change, and accounted for."""

import asyncio
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from support.stored_traces import Row, numbered, store
from support.targets import Bench
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.scorers.definition import define
from tracestone.schema.scorers.online import Stratum
from tracestone.schema.stores.coverage import CoverageStore
from tracestone.scoring.sample import Sampler


@pytest.fixture
def bench(pool: Pool, columnar: Columnar, tmp_path: Path) -> Bench:
    return Bench(pool, columnar, tmp_path / "verdicts")


async def test_a_span_is_a_target_with_its_own_verdict(bench: Bench) -> None:
    await bench.configure(target_type="span", filter="name = 'answer' AND attributes_text['output.value'] != 'No.'")
    await store(bench.columnar, [Row(numbered(1)), Row(numbered(2), output="No."), Row(numbered(3))])
    assert await bench.watch() == 2
    assert await bench.watch() == 0
    await bench.score()
    found = sorted(await bench.verdicts(), key=lambda each: each.trace_id)
    assert [(each.target_type, each.trace_id, each.span_id, each.value) for each in found] == [
        ("span", numbered(number), numbered(number)[16:], True) for number in (1, 3)
    ]
    assert await bench.coverage() == {"finished": 3, "scored": 2, "filtered": 1}


async def test_a_session_is_scored_when_it_has_been_quiet(bench: Bench) -> None:
    await bench.configure(target_type="session", idle_seconds=60, filter="trace_count >= 2")
    talk = [
        Row(numbered(1), session_id="a", seen_ago=120, written_ago=120, output="Hello"),
        Row(numbered(2), session_id="a", seen_ago=90, written_ago=90, output="A much longer answer than five words"),
        Row(numbered(3), session_id="b", seen_ago=90, written_ago=90),
        Row(numbered(4), session_id="c", seen_ago=120, written_ago=120),
        Row(numbered(5), session_id="c", seen_ago=10, written_ago=10),
        Row(numbered(6)),
    ]
    await store(bench.columnar, talk)
    assert await bench.watch() == 1
    await bench.score()
    [row] = await bench.pool.fetch("SELECT target_type, session_id, trace_id, value FROM assessments")
    assert tuple(row) == ("session", "a", "", False)
    assert await bench.coverage() == {"finished": 2, "scored": 1, "filtered": 1}


async def test_late_data_is_scored_once_and_supersedes(bench: Bench) -> None:
    await bench.configure("error", {})
    await store(bench.columnar, [Row(numbered(1), seen_ago=50, written_ago=50)])
    assert await bench.watch() == 1
    await bench.score()
    [first] = await bench.verdicts()
    assert first.value is False

    late = Row(numbered(1), seen_ago=0, written_ago=0, state="ERROR", span_id="00000000000000aa")
    await store(bench.columnar, [late])
    assert await bench.watch() == 1
    await bench.score()
    assert await bench.watch() == 0
    [second] = await bench.verdicts()
    assert (second.assessment_id, second.value) == (first.assessment_id, True)
    history = await bench.pool.fetch("SELECT was->>'value' AS value FROM assessment_history")
    assert [row["value"] for row in history] == ["false"]
    assert await bench.coverage() == {"finished": 1, "scored": 1}


async def test_what_changes_nothing_for_the_scorer_is_not_scored_again(bench: Bench) -> None:
    await bench.configure()
    await store(bench.columnar, [Row(numbered(1), seen_ago=50, written_ago=50)])
    await bench.watch()
    await bench.score()
    [first] = await bench.verdicts()
    await bench.columnar.command(
        "INSERT INTO trace_rows SELECT * REPLACE (now64(9) AS last_seen, now64(9) AS version) FROM trace_rows"
    )
    assert await bench.watch() == 1
    await bench.score()
    assert await bench.verdicts() == [first]
    assert await bench.pool.fetchval("SELECT count(*) FROM assessment_history") == 0


async def test_a_window_taken_up_after_a_kill_is_accounted_for_under_its_first_version(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decisions of a window are written down, then the process dies; meanwhile there is another version."""
    await bench.configure(sample_rate=0.5)
    await store(bench.columnar, [Row(numbered(number)) for number in range(1, 41)])

    class Killed(Exception):
        """The process ends here."""

    async def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(bench.jobs, "enqueue", kill)
        patched.setattr("tracestone.scoring.watch._PAGES_PER_LOOK", 1)
        with pytest.raises(Killed):
            await bench.sweep()
    assert (await bench.coverage())["finished"] == 40
    await bench.scorers.define(define("short", "response_length", {"unit": "words", "maximum": 6}))
    added = await bench.sweep()
    assert await bench.coverage() == {"finished": 40, "waiting": added, "not_chosen": 40 - added}
    await store(bench.columnar, [Row(numbered(50), seen_ago=0, written_ago=0)])
    await bench.sweep()
    rows = await bench.columnar.query("SELECT scorer_version, sum(finished) AS n FROM coverage GROUP BY 1 ORDER BY 1")
    assert [tuple(row.values()) for row in rows] == [(1, 40), (2, 1)]


async def test_a_collector_whose_clock_is_ahead_makes_nothing_late(bench: Bench) -> None:
    ahead: dict[str, Any] = {"seen_ago": -600, "written_ago": 61}
    await store(bench.columnar, [Row(numbered(1), session_id="a", **ahead)])
    await bench.configure()
    assert await bench.watch() == 1
    await bench.configure(target_type="session", idle_seconds=60)
    assert await bench.watch() == 1


@pytest.mark.parametrize("target_type", ["trace", "span", "session"])
async def test_what_comes_from_a_collector_whose_clock_is_behind_is_scored(bench: Bench, target_type: Any) -> None:
    """The trace was last seen in the future, so what comes after does not move that."""
    await bench.configure("error", {}, target_type=target_type, idle_seconds=0)
    await store(bench.columnar, [Row(numbered(1), session_id="a", seen_ago=-600, written_ago=50)])
    assert await bench.watch() == 1
    await bench.score()
    assert [each.value for each in await bench.all_verdicts()] == [False]
    for table, change in (
        ("trace_rows", "'ERROR' AS state, 1 AS error_count, 2 AS span_count, now64(9) AS version"),
        ("span_rows", "'ERROR' AS status_code, received_at + INTERVAL 1 NANOSECOND AS received_at"),
    ):
        await bench.columnar.command(f"INSERT INTO {table} SELECT * REPLACE ({change}) FROM {table}")
    assert await bench.watch() == 1
    await bench.score()
    assert [each.value for each in await bench.all_verdicts()] == [True]


async def test_a_session_that_lost_a_trace_is_still_scored_once(bench: Bench) -> None:
    """Its state is then an earlier one than it was chosen in."""
    await bench.configure("error", {}, target_type="session", idle_seconds=0)
    await store(bench.columnar, [Row(numbered(n), session_id="a", seen_ago=50 - n, written_ago=40) for n in (1, 2)])
    assert await bench.watch() == 1
    await bench.columnar.command("DELETE FROM trace_rows WHERE trace_id = {id:String}", {"id": numbered(2)})
    await bench.score()
    [verdict] = await bench.all_verdicts()
    assert (verdict.value, verdict.metadata["failed_attempts"]) == (False, "3")
    assert await bench.watch() == 0


async def test_what_arrives_while_a_target_is_scored_is_scored_after(bench: Bench) -> None:
    await bench.configure("error", {})
    await store(bench.columnar, [Row(numbered(1), seen_ago=50, written_ago=50)])
    await bench.watch()
    [job] = await bench.jobs.claim(1, uuid4(), 60)
    scored = await bench.runner.score(job)
    late = Row(numbered(1), seen_ago=0, written_ago=0, state="ERROR", span_id="00000000000000aa")
    await store(bench.columnar, [late])
    assert await bench.watch() == 0
    await bench.runner.settle(scored)
    [first] = await bench.verdicts()
    await bench.score()
    [second] = await bench.verdicts()
    assert (first.value, second.value) == (False, True)


async def test_each_stratum_has_its_rate(bench: Bench) -> None:
    await bench.configure(
        sample_rate=0.0,
        strata=[
            Stratum(name="failed", filter="state = 'ERROR'", sample_rate=1.0),
            Stratum(name="ada", filter="user_id = 'ada'", sample_rate=0.5),
        ],
    )
    rows = [Row(numbered(number), state="ERROR" if number < 4 else "OK", user_id="ada") for number in range(1, 104)]
    await store(bench.columnar, [*rows, Row(numbered(200))])
    added = await bench.watch()
    jobs = await bench.pool.fetch("SELECT stratum, probability, count(*) AS n FROM scoring_jobs GROUP BY 1, 2")
    found = {(row["stratum"], row["probability"]): row["n"] for row in jobs}
    assert found[("failed", 1.0)] == 3
    assert 25 < found[("ada", 0.5)] < 75
    assert added == sum(found.values())
    assert await bench.coverage() == {"finished": 104, "waiting": added, "not_chosen": 104 - added}
    await bench.score()
    assert {verdict.metadata["stratum"] for verdict in await bench.verdicts()} == {"failed", "ada"}
    assert await bench.coverage() == {"finished": 104, "scored": added, "not_chosen": 104 - added}


async def test_the_more_urgent_comes_first(bench: Bench) -> None:
    await bench.configure(priority=0)
    await bench.scorers.define(define("urgent", "error", {}))
    config = await bench.scorers.put_config(
        "urgent", version=None, experiment_id=None, sample_rate=1.0, filter="", salt="", priority=5
    )
    await bench.pool.execute("UPDATE scoring_progress SET due_ns = 0 WHERE config_id = $1", config.config_id)
    await store(bench.columnar, [Row(numbered(number)) for number in range(1, 4)])
    assert await bench.watch() == 6
    claimed = await bench.jobs.claim(3, uuid4(), 60)
    assert {job.scorer_name for job in claimed} == {"urgent"}


async def test_decisions_are_forgotten_by_month_and_nothing_is_counted_twice(bench: Bench) -> None:
    """Of a target that came back both decisions are there until the earlier month is forgotten; one counts."""
    await bench.columnar.command(
        "INSERT INTO scoring_decisions"
        " (scorer_name, scorer_version, target_type, trace_id, decision, seen_at, decided_at)"
        " SELECT 'short', 1, 'trace', t.1, 'not_chosen',"
        " now('UTC') - toIntervalDay(t.2), now('UTC') - toIntervalDay(t.3)"
        " FROM (SELECT arrayJoin([('gone', 150, 150), ('back', 150, 150), ('back', 1, 1), ('backfilled', 260, 1),"
        " ('recent', 20, 20)]) AS t)"
    )
    assert await bench.coverage() == {"finished": 4, "not_chosen": 4}
    await CoverageStore(bench.columnar, 0).forget()
    await CoverageStore(bench.columnar, 365).forget()
    assert await bench.coverage() == {"finished": 4, "not_chosen": 4}
    await CoverageStore(bench.columnar, 100).forget()
    await CoverageStore(bench.columnar, 100).forget()
    assert await bench.coverage() == {"finished": 3, "not_chosen": 3}
    rows = await bench.columnar.query("SELECT trace_id FROM scoring_decisions ORDER BY trace_id")
    assert [row["trace_id"] for row in rows] == ["back", "backfilled", "recent"]


async def test_every_target_is_accounted_for_with_several_watchers_and_pages(bench: Bench) -> None:
    """Watchers in any number, pages cut anywhere, decisions repeated: the sum stays exact."""
    await bench.configure(sample_rate=0.3, filter="state = 'OK'")
    bench.sampler = Sampler(bench.columnar, settle_ms=0, max_trace_age_ms=1000, grace_ms=0, page=7)
    for batch in range(4):
        numbers = range(batch * 50 + 1, batch * 50 + 51)
        await store(
            bench.columnar,
            [
                Row(numbered(number), state="ERROR" if number % 5 == 0 else "OK", seen_ago=0, written_ago=0)
                for number in numbers
            ],
        )
        await asyncio.gather(*(bench.watch() for _ in range(3)))
    await bench.watch()
    chosen = await bench.pool.fetchval("SELECT count(*) FROM scoring_jobs")
    assert await bench.coverage() == {
        "finished": 200, "waiting": chosen, "filtered": 40, "not_chosen": 160 - chosen
    }  # fmt: skip
