"""kill -9 of a process that reprices, at random moments: in the end every span and every trace has its cost, once."""

import asyncio
import os
import random
import signal
import sys
from pathlib import Path

import pytest

from support.running import clean_environment
from tracestone.collector.rewrite.kinds import parameters
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.prices.price import Price
from tracestone.schema.stores.prices import PriceStore
from tracestone.schema.stores.rewrites import RewriteStore

TESTS = Path(__file__).parents[1]
KILLS = 6
SPANS = 8_000


@pytest.mark.timeout(300)
async def test_history_is_exact_after_kills(pool: Pool, postgres_url: str, tmp_path: Path) -> None:
    where = [postgres_url, f"chdb://{tmp_path}/clickhouse", "crash", str(SPANS)]
    environment = clean_environment({"PYTHONPATH": str(TESTS)})
    await PriceStore(pool).set([Price("acme", "m", {"input": 500_000.0, "output": 0.0}, scope="deployment")])
    rewrites = RewriteStore(pool)
    asked = await rewrites.add("reprice", parameters())
    randomness, positions = random.Random(21), []
    for kill in range(KILLS + 1):
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(TESTS / "crash" / "reprice_worker.py"), *where, env=environment,
            stdout=asyncio.subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        assert process.stdout is not None
        assert await process.stdout.readline() == b"working\n"
        if kill < KILLS:
            begun = (await rewrites.get(asked.rewrite_id)).spans_done
            while (await rewrites.get(asked.rewrite_id)).spans_done == begun:
                await asyncio.sleep(0.01)
            await asyncio.sleep(randomness.uniform(0, 0.1))
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        positions.append((await rewrites.get(asked.rewrite_id)).spans_done)
    assert positions == sorted(set(positions)), "it went on where it was"
    assert positions[-2] < SPANS, "the kills came too late to tell anything"
    done = await rewrites.get(asked.rewrite_id)
    assert (done.state, done.spans_done) == ("done", SPANS)

    columnar = Columnar(where[1], database=where[2])
    # A second chDB in this process is not to be had, so another tells.
    told = await asyncio.create_subprocess_exec(
        sys.executable, "-c", TELL, columnar.url, columnar.database, env=environment, stdout=asyncio.subprocess.PIPE
    )  # fmt: skip
    out, _ = await told.communicate()
    assert out.decode().split() == [str(SPANS), str(SPANS // 2), "5.0", "5.0", str(SPANS // 2), "5.0", "5.0"]


TELL = """\
import asyncio, sys
from tracestone.schema.engines.columnar import Columnar

async def main():
    columnar = Columnar(sys.argv[1], database=sys.argv[2], clients=1)
    await columnar.open()
    for statement in (
        "SELECT count(), countIf(cost_source = 'computed'), min(cost_total), max(cost_total) FROM span_rows FINAL",
        "SELECT count(), min(cost_total), max(cost_total) FROM traces",
    ):
        (row,) = await columnar.query(statement)
        print(*row.values())
    await columnar.close()

asyncio.run(main())
"""
