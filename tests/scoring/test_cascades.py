"""Scorers that come after others: who is chosen, with what probability, and that nothing is lost on the way."""

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest

from support.stored_traces import Row, numbered, store
from support.targets import Bench
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.errors import Invalid
from tracestone.schema.online import OnlineSetup
from tracestone.schema.scorers.online import OnlineConfig, Stratum
from tracestone.schema.stores.experiments import ExperimentStore
from tracestone.schema.stores.jobs import Cursor
from tracestone.scoring.sample import Sampler, Window

REFUND: dict[str, Any] = {"pattern": "refund"}
LONG = "An answer of many more words than five"


@pytest.fixture
def bench(pool: Pool, columnar: Columnar, tmp_path: Path) -> Bench:
    return Bench(pool, columnar, tmp_path / "verdicts")


async def _turn(bench: Bench) -> int:
    """Looks, scores and makes the verdicts visible; how many jobs there were."""
    added = await bench.watch()
    await bench.score()
    await bench.mirror()
    return added


async def test_a_verdict_decides_whether_the_next_scorer_runs(bench: Bench) -> None:
    await bench.configure()
    await bench.configure("error", {}, name="judge", after="short", filter="verdict = 'false' AND state = 'OK'")
    rows = [Row(numbered(1)), Row(numbered(2), output=LONG), Row(numbered(3), output=LONG, state="ERROR")]
    await store(bench.columnar, rows)
    assert [await _turn(bench), await _turn(bench), await _turn(bench)] == [3, 1, 0]
    assert [each.trace_id for each in await bench.verdicts() if each.name == "judge"] == [numbered(2)]
    assert await bench.coverage("short") == {"finished": 3, "scored": 3}
    assert await bench.coverage("judge") == {"finished": 3, "scored": 1, "filtered": 2}


async def test_strata_of_verdicts_multiply_their_rates(bench: Bench) -> None:
    """A rate for the rest keeps an estimate over all traffic possible."""
    await bench.configure(sample_rate=0.8)
    strata = [Stratum(name="long", filter="verdict_number = 0", sample_rate=1.0)]
    await bench.configure("error", {}, name="judge", after="short", strata=strata, sample_rate=0.25)
    await store(bench.columnar, [Row(numbered(number), output=LONG if number % 3 else "Yes.") for number in range(60)])
    judged = await _turn(bench)
    added = await bench.watch()
    rows = await bench.pool.fetch("SELECT stratum, probability, count(*) AS n FROM scoring_jobs GROUP BY 1, 2")
    found = {row["stratum"]: (row["probability"], row["n"]) for row in rows}
    long = await bench.pool.fetchval("SELECT count(*) FROM assessments WHERE value = 'false'")
    assert found["long"] == (pytest.approx(0.8), long)
    assert found[""][0] == pytest.approx(0.2)
    assert 0 < found[""][1] < 14  # of about 16 short answers that were judged
    await bench.score()
    assert await bench.coverage("judge") == {"finished": judged, "scored": added, "not_chosen": judged - added}
    assert {each.probability for each in await bench.verdicts() if each.name == "judge"} == {
        found["long"][0], found[""][0]
    }  # fmt: skip


async def test_three_stages_of_spans(bench: Bench) -> None:
    await bench.configure(target_type="span")
    await bench.configure("error", {}, name="second", target_type="span", after="short", filter="NOT verdict_number")
    await bench.configure("regex_match", REFUND, name="third", target_type="span", after="second", sample_rate=0.5)
    await store(bench.columnar, [Row(numbered(number), output=LONG if number % 2 else "Yes.") for number in range(32)])
    assert [await _turn(bench), await _turn(bench)] == [32, 16]
    last = await _turn(bench)
    assert 0 < last < 16
    assert await bench.coverage("third") == {"finished": 16, "scored": last, "not_chosen": 16 - last}


async def test_sessions_come_after_a_verdict_too(bench: Bench) -> None:
    await bench.configure(target_type="session", idle_seconds=1)
    await bench.configure("error", {}, name="judge", target_type="session", after="short", filter="trace_count = 2")
    talk = [Row(numbered(number), session_id="a" if number < 3 else "b") for number in (1, 2, 3)]
    await store(bench.columnar, talk)
    assert [await _turn(bench), await _turn(bench)] == [2, 1]
    assert await bench.coverage("judge") == {"finished": 2, "scored": 1, "filtered": 1}


async def test_a_superseded_verdict_decides_again(bench: Bench) -> None:
    await bench.configure("error", {})
    await bench.configure(name="judge", after="short", filter="verdict = 'true'")
    await store(bench.columnar, [Row(numbered(1), seen_ago=50, written_ago=50)])
    assert [await _turn(bench), await _turn(bench)] == [1, 0]
    assert await bench.coverage("judge") == {"finished": 1, "filtered": 1}
    late = Row(numbered(1), seen_ago=0, written_ago=0, state="ERROR", span_id="00000000000000aa")
    await store(bench.columnar, [late])
    assert [await _turn(bench), await _turn(bench), await _turn(bench)] == [1, 1, 0]
    assert await bench.coverage("judge") == {"finished": 1, "scored": 1}


async def test_a_higher_chance_on_the_same_state_counts(bench: Bench) -> None:
    """Draws are nested: the chance of having been chosen at all is the greatest of a target's chances."""
    await bench.configure("error", {}, sample_rate=0.5)
    rows = [Row(numbered(number), seen_ago=50, written_ago=50) for number in range(20)]
    await store(bench.columnar, rows)
    few = await _turn(bench)
    assert 1 < few < 19
    await bench.configure("error", {}, sample_rate=1.0)
    assert await _turn(bench) == 20 - few
    assert {each.probability for each in await bench.verdicts()} == {1.0}


async def test_a_higher_chance_counts_though_nothing_is_scored_again(bench: Bench) -> None:
    """Something came that the scorer does not read, and by then its rate is higher."""
    strata = [Stratum(name="old", filter="last_seen < '2100-01-01'", sample_rate=0.999)]
    await bench.configure("error", {}, strata=strata)
    await store(bench.columnar, [Row(numbered(1), seen_ago=50, written_ago=50)])
    assert await _turn(bench) == 1
    await bench.configure("error", {}, sample_rate=1.0)
    await bench.columnar.command(
        "INSERT INTO trace_rows SELECT * REPLACE (now64(9) AS last_seen, now64(9) AS version) FROM trace_rows"
    )
    assert await _turn(bench) == 1
    [verdict] = await bench.verdicts()
    assert verdict.probability == 1.0


async def test_failures_and_questions_can_be_asked_for(bench: Bench) -> None:
    """A judge with several questions has a verdict for each; one that failed has a code."""
    await bench.configure()
    await bench.configure("error", {}, name="asked", after="short", filter="verdicts['tone'] = 'rude' AND verdict = ''")
    await bench.configure("error", {}, name="failed", after="short", filter="verdict_error = 'TIMEOUT'")
    await store(bench.columnar, [Row(numbered(number)) for number in (1, 2)])
    plain = {"target_type": "trace", "kind": "feedback", "scorer_name": "short", "scorer_version": 1, "probability": 1}
    rows = [
        {"assessment_id": "a", "trace_id": numbered(1), "name": "short.tone", "value": "rude"},
        {"assessment_id": "b", "trace_id": numbered(1), "name": "short.length", "value": "3"},
        {"assessment_id": "c", "trace_id": numbered(2), "name": "short", "error_code": "TIMEOUT", "error": "TIMEOUT"},
    ]
    await insert_verdicts(bench.columnar, [plain | row for row in rows])
    await bench.watch()
    jobs = await bench.pool.fetch("SELECT scorer_name, trace_id FROM scoring_jobs WHERE scorer_name <> 'short'")
    assert {tuple(job) for job in jobs} == {("asked", numbered(1)), ("failed", numbered(2))}


async def test_several_watchers_and_pages_lose_and_repeat_nothing(bench: Bench) -> None:
    await bench.configure(sample_rate=0.7)
    strata = [Stratum(name="long", filter="verdict = 'false'", sample_rate=1.0)]
    await bench.configure("error", {}, name="judge", after="short", strata=strata, sample_rate=0.2)
    bench.sampler = Sampler(bench.columnar, settle_ms=0, max_trace_age_ms=1000, grace_ms=0, page=7)
    for batch in range(3):
        numbers = range(batch * 20, batch * 20 + 20)
        rows = [Row(numbered(n), output=LONG if n % 3 else "Yes.", seen_ago=0, written_ago=0) for n in numbers]
        await store(bench.columnar, rows)
        await asyncio.gather(*(bench.watch() for _ in range(3)))
        await bench.score()
        await bench.mirror()
        await asyncio.gather(*(bench.watch() for _ in range(3)))
    await bench.watch()
    await bench.score()
    first, second = await bench.coverage("short"), await bench.coverage("judge")
    assert first["finished"] == 60
    assert second["finished"] == first["scored"] == first["finished"] - first["not_chosen"]
    assert second["scored"] + second["not_chosen"] == second["finished"]
    history = await bench.pool.fetchval("SELECT count(*) FROM assessment_history")
    assert history == 0


async def test_what_cannot_come_after_is_refused(bench: Bench) -> None:
    setup = OnlineSetup(bench.scorers, ExperimentStore(bench.pool, 100), bench.columnar)
    for name, kind in (("first", "error"), ("second", "error"), ("loops", "tool_loop")):
        await setup.define({"name": name, "kind": kind})
    document = {"after": "first", "filter": "verdict = 'false'", "strata": [
        {"name": "odd", "filter": "verdict_number > 1", "sample_rate": 1}]}  # fmt: skip
    config = await setup.put("second", document)
    assert (config.after, config.after_version) == ("first", None)
    assert (await setup.put("second", document | {"after_version": 1})).after_version == 1
    for wrong, reason in (
        ({"after": "nobody"}, "There is no scorer nobody"),
        ({"after": "first", "after_version": 2}, "There is no version 2"),
        ({"after": "second"}, "comes after second itself"),
        ({"after_version": 1}, "needs after"),
        ({"filter": "verdict = 'false'"}, "verdict is not a column of traces"),
        ({"after": "loops", "target": "span"}, "loops cannot judge a span"),
    ):
        with pytest.raises(Invalid, match=reason):
            await setup.put("second", wrong)
    with pytest.raises(Invalid, match="comes after first itself"):
        await setup.put("first", {"after": "second"})


async def insert_verdicts(columnar: Columnar, rows: list[dict[str, Any]]) -> None:
    payload = "\n".join(json.dumps({"valid": 1, "version": 1} | row) for row in rows).encode()
    await columnar.insert_bytes("assessment_rows", payload, "JSONEachRow", {"date_time_input_format": "best_effort"})


async def _all_chosen(sampler: Sampler, config: OnlineConfig) -> list[tuple[int, str, float]]:
    until = await sampler.now_ns()
    chosen = await sampler.choose(config, Window(Cursor(until - 3600 * 10**9), until, "prompt"))
    assert not chosen.more
    return [(each.experiment_id, each.trace_id, each.probability) for each in chosen.targets]


async def test_the_estimate_over_all_traffic_holds_the_truth_as_often_as_it_says(columnar: Columnar) -> None:
    """200 times 400 targets: a cheap scorer sees 40 %, a judge all that it suspects and 30 % of the rest.

    The suspicion has to do with the truth, so a judge that looks only at suspects is far off, and so is one that is
    weighted by less than both stages. The draws are the sampler's own, with one salt for both.
    """
    drawn = random.Random(20261128)
    truth: dict[int, float] = {}
    good: dict[str, float] = {}
    suspect: dict[str, bool] = {}
    rows = []
    for experiment_id in range(1, 201):
        for number in range(400):
            row = Row(numbered(experiment_id * 1000 + number), experiment_id)
            rows.append(row)
            good[row.trace_id] = float(drawn.random() < 0.8)
            suspect[row.trace_id] = drawn.random() < (0.1 if good[row.trace_id] else 0.7)
        truth[experiment_id] = sum(good[row.trace_id] for row in rows[-400:]) / 400
    await store(columnar, rows)
    sampler = Sampler(columnar, settle_ms=0, max_trace_age_ms=1000, grace_ms=0, page=100_000)
    first = await _all_chosen(sampler, OnlineConfig(1, "cheap", None, None, 0.4, "", ""))
    plain = {"target_type": "trace", "kind": "feedback", "scorer_version": 1, "target_seen_ns": 1795861800 * 10**9}
    await insert_verdicts(columnar, [
        plain | {"assessment_id": f"c-{trace}", "experiment_id": experiment, "trace_id": trace, "name": "cheap",
                 "scorer_name": "cheap", "value": str(suspect[trace]).lower(), "probability": p}
        for experiment, trace, p in first
    ])  # fmt: skip
    strata = (Stratum(name="suspect", filter="verdict = 'true'", sample_rate=1.0),)
    judge = OnlineConfig(2, "judge", None, None, 0.3, "", "", strata=strata, after="cheap")
    second = await _all_chosen(sampler, judge)
    assert {round(p, 9) for _, _, p in second} == {0.4, 0.12}
    await insert_verdicts(columnar, [
        plain | {"assessment_id": f"j-{trace}", "experiment_id": experiment, "trace_id": trace, "name": "judge",
                 "scorer_name": "judge", "value_number": good[trace], "probability": p}
        for experiment, trace, p in second
    ])  # fmt: skip
    found = await columnar.query(
        "SELECT * FROM quality WHERE scorer_name = 'judge' AND period = 'all' AND segment = ''"
    )
    assert len(found) == 200
    held = sum(row["low"] <= truth[row["experiment_id"]] <= row["high"] for row in found)
    assert 0.92 <= held / 200 < 1
    bias = sum(row["estimate"] - truth[row["experiment_id"]] for row in found) / 200
    assert abs(bias) < 0.01
    assert sum(row["estimated_targets"] for row in found) / 200 == pytest.approx(400, rel=0.03)
