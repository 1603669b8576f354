"""Traces and sessions that say themselves that they are over."""

from pathlib import Path

import pytest

from support.stored_traces import Row, numbered, store
from support.targets import Bench
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.errors import StartRefused
from tracestone.schema.mapping import generate, tables
from tracestone.scoring.sample import Sampler

TRACE_END = {"tracestone.trace.end": True}
SESSION_END = {"tracestone.session.end": True}


@pytest.fixture
def bench(pool: Pool, columnar: Columnar, tmp_path: Path) -> Bench:
    """Traces settle after an hour."""
    bench = Bench(pool, columnar, tmp_path / "verdicts")
    bench.sampler = Sampler(columnar, settle_ms=3_600_000, max_trace_age_ms=7_200_000, grace_ms=0)
    return bench


async def _chosen(bench: Bench) -> list[str]:
    rows = await bench.pool.fetch("SELECT trace_id || session_id AS id FROM scoring_jobs ORDER BY 1")
    return [row["id"] for row in rows]


@pytest.mark.parametrize("target", ["trace", "span"])
async def test_a_trace_that_is_over_waits_for_nothing(bench: Bench, target: str) -> None:
    await bench.configure("error", {}, target_type=target)
    rows = [
        Row(numbered(1), attributes_bool=TRACE_END),
        Row(numbered(2)),
        Row(numbered(3), complete=False, attributes_bool=TRACE_END),
        Row(numbered(4), attributes_bool={"tracestone.trace.end": False}),
        Row(numbered(5), attributes_bool=SESSION_END),
        Row(numbered(6), attributes_bool={"end": True}),
    ]
    await store(bench.columnar, rows)
    assert await bench.watch() == 2
    assert await _chosen(bench) == [numbered(1), numbered(3)]
    assert await bench.coverage() == {"finished": 2, "waiting": 2}


async def test_what_comes_after_the_end_is_scored_anew(bench: Bench) -> None:
    await bench.configure("error", {})
    await store(bench.columnar, [Row(numbered(1), seen_ago=50, written_ago=50, attributes_bool=TRACE_END)])
    assert await bench.watch() == 1
    await bench.score()
    late = Row(numbered(1), seen_ago=0, written_ago=0, state="ERROR", span_id="00000000000000aa")
    await store(bench.columnar, [late])
    assert await bench.watch() == 1
    await bench.score()
    [verdict] = await bench.verdicts()
    assert verdict.value is True
    assert await bench.coverage() == {"finished": 1, "scored": 1}


async def test_a_session_is_over_when_its_latest_trace_says_so(bench: Bench) -> None:
    await bench.configure("error", {}, target_type="session", idle_seconds=3000)
    rows = [
        Row(numbered(1), session_id="over", seen_ago=30),
        Row(numbered(2), session_id="over", seen_ago=20, attributes_bool=SESSION_END),
        Row(numbered(3), session_id="went on", seen_ago=20, attributes_bool=SESSION_END),
        Row(numbered(4), session_id="went on", seen_ago=10),
        Row(numbered(5), session_id="open", seen_ago=10, attributes_bool=TRACE_END),
    ]
    await store(bench.columnar, rows)
    assert await bench.watch() == 1
    assert await _chosen(bench) == ["over"]


async def test_a_deployment_names_attributes_of_its_own(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "ends.csv").write_text("target,key\ntrace,it's.done\n", encoding="utf-8")
    await bench.columnar.command(generate.ends(tables.read(tmp_path)))
    await bench.configure("error", {})
    await store(bench.columnar, [Row(numbered(1), attributes_bool={"it's.done": True}), Row(numbered(2))])
    assert await bench.watch() == 1
    assert await _chosen(bench) == [numbered(1)]
    (tmp_path / "ends.csv").write_text("target,key\nspan,x\n", encoding="utf-8")
    with pytest.raises(StartRefused, match="trace or session"):
        tables.read(tmp_path)
