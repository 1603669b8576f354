"""Users with much traffic do not fill a sample: each has a share, and the chance of every target is known."""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from support.stored_traces import Row, numbered, store
from support.targets import Bench
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.errors import Invalid
from tracestone.schema.online import OnlineSetup
from tracestone.schema.sampling import fairness
from tracestone.schema.scorers.online import OnlineConfig, Stratum
from tracestone.schema.stores.experiments import ExperimentStore
from tracestone.schema.stores.jobs import Cursor, Target
from tracestone.scoring.sample import Sampler, Window

HOUR = 3600
HOUR_NS = HOUR * 10**9


@pytest.fixture
def bench(pool: Pool, columnar: Columnar, tmp_path: Path) -> Bench:
    return Bench(pool, columnar, tmp_path / "verdicts")


async def _hour(columnar: Columnar) -> float:
    """For how many seconds the hour has lasted before this one that a test may take for the present."""
    [row] = await columnar.query("SELECT toUnixTimestamp(now()) % 3600 AS seconds")
    return float(row["seconds"])


async def _chosen(columnar: Columnar, config: OnlineConfig, page: int = 100_000) -> list[Target]:
    """What is chosen of the hour before this one."""
    sampler = Sampler(columnar, settle_ms=0, max_trace_age_ms=1000, grace_ms=0, page=page)
    end_ns = await sampler.now_ns() // HOUR_NS * HOUR_NS
    window = await sampler.prepare(config, Window(Cursor(end_ns - HOUR_NS), end_ns + HOUR_NS, "prompt"))
    assert window.until_ns == end_ns
    found: list[Target] = []
    more = True
    while more:
        chosen = await sampler.choose(config, window)
        found += chosen.targets
        window, more = Window(chosen.cursor, window.until_ns, "prompt"), chosen.more
    return found


def _traffic(seconds: float, users: dict[str, tuple[int, int]], experiment: int = 0, first: int = 0) -> list[Row]:
    """So many traces of each user two hours ago and one hour ago; each lasted half a second."""
    rows = []
    for user, (before, now) in users.items():
        for ago, count in ((seconds + 1.5 * HOUR, before), (seconds + 0.5 * HOUR, now)):
            for _ in range(count):
                trace_id = numbered(first + len(rows) + 1)
                rows.append(Row(trace_id, experiment, seen_ago=ago, written_ago=ago, user_id=user))
    return rows


async def test_a_share_for_each_user_by_what_it_had_the_hour_before(columnar: Columnar) -> None:
    seconds = await _hour(columnar)
    users = {"heavy": (200, 300), "light": (4, 5), "new": (0, 60), "": (100, 100)}
    await store(columnar, _traffic(seconds, users))
    config = OnlineConfig(1, "x", None, None, 1.0, "", "", fair_by="user_id", fair_per_hour=10.0)
    found = await _chosen(columnar, config, page=50)
    [rows] = [await columnar.query("SELECT trace_id, user_id FROM traces")]
    users_of = {row["trace_id"]: row["user_id"] for row in rows}
    shares = Counter(users_of[target.trace_id] for target in found)
    assert {shares["light"], shares["new"], shares[""]} == {5, 60, 100}  # had few, or is nobody: no bound
    assert 3 < shares["heavy"] < 32  # expected: 300 * 10 / 200
    chances = {users_of[target.trace_id]: target.probability for target in found}
    assert chances == {"heavy": int(0.05 * 2**53) / 2**53, "light": 1.0, "new": 1.0, "": 1.0}
    assert len({target.trace_id for target in found}) == len(found)


async def test_strata_are_bounded_and_what_was_counted_stays(columnar: Columnar) -> None:
    """What arrives late for a counted hour changes no chance, and a higher share keeps what a lower one chose."""
    seconds = await _hour(columnar)
    await store(columnar, _traffic(seconds, {"heavy": (100, 200)}))
    strata = (Stratum(name="all", filter="user_id = 'heavy'", sample_rate=0.5),)
    low = OnlineConfig(1, "x", None, None, 0.0, "", "", strata=strata, fair_by="user_id", fair_per_hour=5.0)
    high = OnlineConfig(1, "x", None, None, 0.0, "", "", strata=strata, fair_by="lower(user_id)", fair_per_hour=500.0)
    first = await _chosen(columnar, low)
    assert {target.probability for target in first} <= {int(0.05 * 2**53) / 2**53}
    await store(columnar, _traffic(seconds, {"heavy": (300, 0)}, first=5000))
    assert await _chosen(columnar, low) == first
    more = await _chosen(columnar, high)
    assert {target.probability for target in more} == {0.5}
    assert {target.trace_id for target in first} < {target.trace_id for target in more}


async def test_members_of_each_experiment_and_of_what_the_filter_keeps(columnar: Columnar) -> None:
    seconds = await _hour(columnar)
    rows = [*_traffic(seconds, {"a": (40, 40)}, 1), *_traffic(seconds, {"a": (0, 40)}, 2, first=1000)]
    await store(columnar, [*rows, *_traffic(seconds, {"b": (40, 40)}, 3, first=2000)])
    config = OnlineConfig(
        1, "x", None, None, 1.0, "user_id != 'b'", "", fair_by="user_id", fair_per_hour=4.0, target_type="span"
    )
    with_spans = OnlineConfig(1, "x", None, None, 1.0, "user_id != 'b'", "", fair_by="user_id", fair_per_hour=4.0)
    chances = {target.experiment_id: target.probability for target in await _chosen(columnar, with_spans)}
    assert chances == {1: int(0.1 * 2**53) / 2**53, 2: 1.0}
    assert fairness.parameters(config, 0)["basis"] != fairness.parameters(with_spans, 0)["basis"]


async def test_watchers_choose_and_account_by_the_same_chances(bench: Bench) -> None:
    seconds = await _hour(bench.columnar)
    await bench.configure("error", {}, sample_rate=0.9, fair_by="user_id", fair_per_hour=6.0)
    await bench.pool.execute("UPDATE scoring_progress SET due_ns = due_ns - $1", 3 * HOUR_NS)
    await store(bench.columnar, _traffic(seconds, {"heavy": (60, 60), "light": (2, 2)}))
    added = await bench.watch()
    jobs = await bench.pool.fetch("SELECT trace_id, probability FROM scoring_jobs")
    decided = await bench.columnar.query("SELECT * FROM scoring_decisions FINAL")
    assert len(decided) == 124
    chosen = {row["trace_id"]: row["probability"] for row in decided if row["decision"] == "chosen"}
    assert chosen == {row["trace_id"]: row["probability"] for row in jobs} and len(chosen) == added
    assert {round(row["probability"], 6) for row in decided} == {0.9, 0.1}
    assert await bench.watch() == 0


async def test_what_cannot_be_fair_is_refused(bench: Bench) -> None:
    setup = OnlineSetup(bench.scorers, ExperimentStore(bench.pool, 100), bench.columnar)
    for name in ("first", "second"):
        await setup.define({"name": name, "kind": "error"})
    config = await setup.put("second", {"fair_by": " tags['customer'] ", "fair_per_hour": 5})
    assert (config.fair_by, config.fair_per_hour) == ("tags['customer']", 5)
    for wrong, reason in (
        ({"fair_by": "user_id"}, "need each other"),
        ({"fair_per_hour": 5}, "need each other"),
        ({"fair_by": "user_id", "fair_per_hour": 0}, "greater than 0"),
        ({"fair_by": "models", "fair_per_hour": 5}, "must be text or a whole number"),
        ({"fair_by": "(SELECT 1)", "fair_per_hour": 5}, "a subquery is not allowed"),
        ({"fair_by": "user_id)) OR ifNull(toBool((1", "fair_per_hour": 5}, "fair_by"),
        ({"fair_by": "nobody", "fair_per_hour": 5}, "nobody is not a column"),
        ({"fair_by": "user_id", "fair_per_hour": 5, "after": "first"}, "not for what comes after"),
    ):
        with pytest.raises(Invalid, match=reason):
            await setup.put("second", wrong)


async def test_the_estimate_holds_the_truth_as_often_as_it_says(columnar: Columnar) -> None:
    """200 times about 400 targets of 40 users, of whom the heavy ones fare worse: a bare mean of the sample is off."""
    seconds = await _hour(columnar)
    drawn = random.Random(20261128)
    truth: dict[int, float] = {}
    good: dict[str, float] = {}
    rows: list[Row] = []
    for experiment in range(1, 201):
        users = {
            f"u{n}": (count, drawn.randint(count // 2 + 1, count * 2)) for n in range(40) for count in [160 // (n + 1)]
        }
        mine = _traffic(seconds, users, experiment, first=experiment * 10_000)
        now = [row for row in mine if row.seen_ago < seconds + HOUR]
        for row in now:
            share = 0.4 if int(row.user_id[1:]) < 3 else 0.9
            good[row.trace_id] = float(drawn.random() < share)
        truth[experiment] = sum(good[row.trace_id] for row in now) / len(now)
        rows += mine
    await store(columnar, rows)
    config = OnlineConfig(1, "x", None, None, 0.5, "", "", fair_by="user_id", fair_per_hour=8.0)
    chosen = await _chosen(columnar, config)
    plain: dict[str, Any] = {"target_type": "trace", "kind": "feedback", "scorer_name": "x", "scorer_version": 1}
    verdicts = [
        plain | {"assessment_id": target.trace_id, "experiment_id": target.experiment_id, "name": "x", "valid": 1,
                 "trace_id": target.trace_id, "value_number": good[target.trace_id], "version": 1,
                 "probability": target.probability, "target_seen_ns": 1795861800 * 10**9}
        for target in chosen
    ]  # fmt: skip
    payload = "\n".join(json.dumps(row) for row in verdicts).encode()
    await columnar.insert_bytes("assessment_rows", payload, "JSONEachRow", {})
    found = await columnar.query("SELECT * FROM quality WHERE period = 'all' AND segment = ''")
    assert len(found) == 200
    held = sum(row["low"] <= truth[row["experiment_id"]] <= row["high"] for row in found)
    assert 0.92 <= held / 200 < 1
    assert abs(sum(row["estimate"] - truth[row["experiment_id"]] for row in found) / 200) < 0.015
    bare = sum(good[target.trace_id] for target in chosen) / len(chosen)
    assert bare - sum(truth.values()) / 200 > 0.05
