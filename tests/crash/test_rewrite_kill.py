"""kill -9 of a process that rewrites what is stored, at random moments: in the end every row is right, and once."""

import asyncio
import os
import random
import signal
import sys
from pathlib import Path

import pytest

from support.running import clean_environment
from tracestone.collector.rewrite.kinds import parameters
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.prices.price import Price
from tracestone.schema.stores.prices import PriceStore
from tracestone.schema.stores.rewrites import RewriteStore

TESTS = Path(__file__).parents[1]
KILLS = 4
SPANS = 8_000


class _Worker:
    """Starts the worker again and again."""

    def __init__(self, pool: Pool, postgres_url: str, folder: Path) -> None:
        self._rewrites = RewriteStore(pool)
        self._where = [postgres_url, f"chdb://{folder}/clickhouse", "crash", str(SPANS)]

    async def start(self, kind: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, str(TESTS / "crash" / "rewrite_worker.py"), kind, *self._where,
            env=clean_environment({"PYTHONPATH": str(TESTS)}), stdout=asyncio.subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    async def told(self, kind: str) -> list[str]:
        """What it says in the end. A second chDB in this process is not to be had, so another tells."""
        out, _ = await (await self.start(kind)).communicate()
        return out.decode().split()

    async def work_under_kills(self, kind: str, dice: random.Random) -> None:
        asked = await self._rewrites.add(kind, parameters())
        positions = []
        for kill in range(KILLS + 1):
            process = await self.start(kind)
            assert process.stdout is not None
            assert await process.stdout.readline() == b"working\n"
            if kill < KILLS:
                begun = (await self._rewrites.get(asked.rewrite_id)).spans_done
                while (await self._rewrites.get(asked.rewrite_id)).spans_done == begun:
                    await asyncio.sleep(0.01)
                await asyncio.sleep(dice.uniform(0, 0.3))
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            positions.append((await self._rewrites.get(asked.rewrite_id)).spans_done)
        assert positions == sorted(set(positions)), "it went on where it was"
        assert positions[-2] < SPANS, "the kills came too late to tell anything"
        done = await self._rewrites.get(asked.rewrite_id)
        assert (done.state, done.spans_done) == ("done", SPANS)


@pytest.fixture
def worker(pool: Pool, postgres_url: str, tmp_path: Path) -> _Worker:
    return _Worker(pool, postgres_url, tmp_path)


@pytest.mark.timeout(300)
async def test_costs_are_exact_after_kills(worker: _Worker, pool: Pool) -> None:
    await PriceStore(pool).set([Price("acme", "m", {"input": 500_000.0, "output": 0.0}, scope="deployment")])
    await worker.work_under_kills("reprice", random.Random(21))
    spans, traces = [str(SPANS), str(SPANS // 2), "5.0", "5.0"], [str(SPANS // 2), "5.0", "5.0"]
    assert await worker.told("tell") == [*spans, *traces]


@pytest.mark.timeout(300)
async def test_a_newer_map_is_applied_exactly_after_kills(worker: _Worker) -> None:
    """Every span and trace is, column by column, what it would be if the spans came in today."""
    await worker.work_under_kills("renormalise", random.Random(22))
    assert await worker.told("compare") == [str(SPANS), "0", str(SPANS // 2), "0", "1", "1"]
