"""kill -9 of a process that watches and scores, at random moments: every trace ends with exactly one verdict of
each scorer, also of one that comes after another."""

import asyncio
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.stored_traces import numbered
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.scorers.definition import define
from tracestone.schema.stores.scorers import ScorerStore

TESTS = Path(__file__).parents[1]
KILLS = 8
EACH = 10
MIGRATE = """\
import asyncio, sys
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import open_pool
from tracestone.schema.migrate import migrate

async def main():
    columnar = Columnar(sys.argv[2], database=sys.argv[3], clients=1)
    await columnar.open()
    pool = await open_pool(sys.argv[1])
    await migrate(pool, columnar)
    await pool.close()
    await columnar.close()

asyncio.run(main())
"""


@pytest.mark.timeout(300)
async def test_every_trace_has_one_verdict_after_kills(
    pool: Pool, columnar: Columnar, postgres_url: str, tmp_path: Path
) -> None:
    where = [postgres_url, f"chdb://{tmp_path}/clickhouse", "crash"]
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", MIGRATE, *where], check=True, env=environment)
    scorers = ScorerStore(pool)
    for name in ("way", "failed"):
        kind, parameters = ("regex_match", {"pattern": "on its way"}) if name == "way" else ("error", {})
        await scorers.define(define(name, kind, parameters))
        await scorers.put_config(name, version=None, experiment_id=None, sample_rate=1.0, filter="", salt="")
    await scorers.define(define("after", "error", {}))
    await scorers.put_config(
        "after", version=None, experiment_id=None, sample_rate=1.0, filter="verdict = 'true'", salt="", after="way"
    )
    randomness = random.Random(20)
    for kill in range(KILLS + 1):
        first = kill * EACH + 1
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(TESTS / "crash" / "scoring_worker.py"),
            *where,
            str(tmp_path / "verdicts"),
            "0",
            str(first),
            str(first + EACH - 1),
            stdout=asyncio.subprocess.PIPE,
            env=environment,
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"working\n"
        if kill < KILLS:
            await asyncio.sleep(randomness.uniform(0, 1))
        else:
            await _until_all_are_scored(pool)
        process.send_signal(signal.SIGKILL)
        await process.communicate()
    rows = await pool.fetch(
        "SELECT scorer_name, trace_id, count(*) AS verdicts FROM assessments GROUP BY 1, 2 ORDER BY 1, 2"
    )
    expected = [numbered(number) for number in range(1, (KILLS + 1) * EACH + 1)]
    for name in ("way", "failed", "after"):
        assert [row["trace_id"] for row in rows if row["scorer_name"] == name] == expected
    assert {row["verdicts"] for row in rows} == {1}
    assert await pool.fetchval("SELECT count(*) FROM assessments WHERE error_code <> ''") == 0


async def _until_all_are_scored(pool: Pool) -> None:
    wanted = 3 * (KILLS + 1) * EACH
    async with asyncio.timeout(200):
        while await pool.fetchval("SELECT count(*) FROM assessments") < wanted:
            await asyncio.sleep(0.1)
