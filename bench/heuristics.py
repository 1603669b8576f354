"""What heuristics take: traces a second and core, over traces already read, with reading them, and in a worker.

    python bench/heuristics.py                            two minutes
    python bench/heuristics.py --only latency,regex_match --traces 5000

Traces are those of bench/scoring.py, of one span with a question of 500 and an answer of 1,000 characters. `scored`
calls a heuristic on traces that were read before. `read` reads them from chDB in batches of 512 and makes their
subjects; `both` does one and the other. `worker` enqueues a job for every trace and lets one worker end them: claimed,
read, scored, and their verdicts written to a private Postgres. CPU is this process's and, told apart, that of Postgres;
a core is one second of it.
"""

import argparse
import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import ingest
import uvloop
from scorers import REQUIRED, TEXT

from scoring import traces
from tracestone.collector import allinone
from tracestone.collector.wal.frames import varint
from tracestone.protos.ingest.v1.traces_pb2 import Traces
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.migrate import migrate
from tracestone.schema.scorers.definition import define
from tracestone.schema.settings import Settings
from tracestone.schema.stores.assessments import AssessmentStore
from tracestone.schema.stores.jobs import Cursor, JobStore, Target
from tracestone.schema.stores.scorers import ScorerStore
from tracestone.schema.stores.spans import SpanStore
from tracestone.schema.traces import Trace
from tracestone.scoring.kept import KeptVerdicts
from tracestone.scoring.llm import LiteLLM
from tracestone.scoring.run import Runner
from tracestone.scoring.scorers.protocol import AttemptFailed
from tracestone.scoring.scorers.registry import HEURISTICS
from tracestone.scoring.scorers.subject import subject_of
from tracestone.scoring.subjects import Subjects, digest
from tracestone.scoring.worker import Worker

BATCH = 512
EXPECTED = {"expected_response": TEXT[:700], "expected_facts": ["thirty days"]}
FOREVER_NS = 2**62


class Spent:
    """CPU seconds within a block: `own` of this process, `postgres` of the private server."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.own = self.postgres = 0.0

    def __enter__(self) -> "Spent":
        self.own, self.postgres = -time.process_time(), -self._server()
        return self

    def __exit__(self, *_: object) -> None:
        self.own += time.process_time()
        self.postgres += self._server()

    def _server(self) -> float:
        return sum(map(ingest.cpu_total, ingest.postgres(self._folder)))


@asynccontextmanager
async def stored(folder: Path, count: int) -> AsyncIterator[tuple[Pool, Columnar]]:
    """The stores with so many traces in experiment 0."""
    async with allinone.stores(Settings(data_dir=folder)) as (pool, columnar):
        await migrate(pool, columnar)
        store = SpanStore(columnar)
        for first in range(0, count, BATCH):
            request = traces(first, min(BATCH, count - first))
            request += Traces(experiment_ids=[0], received_at=time.time_ns()).SerializeToString()
            await store.insert(varint(len(request)) + request, f"bench-{first}")
            await store.refresh_traces([f"bench-{first}"])
        yield pool, columnar


def told(name: str, count: int, own: float, postgres: float = 0.0) -> None:
    """One line."""
    rest = f", and {postgres / count * 1e6:.0f} of Postgres" if postgres else ""
    print(f"{name:36} {count / (own + postgres):10,.0f} traces/s and core {own / count * 1e6:8.1f} µs a trace{rest}")


async def run(arguments: argparse.Namespace, folder: Path) -> None:
    """All parts."""
    wanted = arguments.only.split(",") if arguments.only else list(HEURISTICS)
    async with stored(folder, arguments.traces) as (pool, columnar):
        rows = await columnar.query("SELECT trace_id FROM traces WHERE experiment_id = 0")
        ids = [str(row["trace_id"]) for row in rows]
        store, spent = SpanStore(columnar), Spent(folder)
        await store.traces(0, ids[:BATCH])
        found: dict[str, Trace] = {}
        with spent:
            for first in range(0, len(ids), BATCH):
                found |= await store.traces(0, ids[first : first + BATCH])
            subjects = [subject_of(trace, EXPECTED) for trace in found.values()]
            for subject in subjects:
                digest(subject)
        reading = spent.own
        told("read", len(ids), reading)
        for kind in wanted:
            parameters = define("bench", kind, REQUIRED.get(kind, {})).parameters
            with spent:
                for subject in subjects:
                    with suppress(AttemptFailed):  # one that has no tokens to count, say
                        HEURISTICS[kind](parameters, subject)
            told(f"scored, {kind}", len(ids), spent.own)
            told(f"both, {kind}", len(ids), spent.own + reading)
        for kind in wanted:
            if kind in arguments.worker.split(","):
                await work(kind, ids, pool, columnar, folder)


async def work(kind: str, ids: list[str], pool: Pool, columnar: Columnar, folder: Path) -> None:
    """One worker over all traces."""
    scorers, jobs = ScorerStore(pool), JobStore(pool)
    scorer = await scorers.define(define(kind, kind, REQUIRED.get(kind, {})))
    config = await scorers.put_config(kind, version=None, experiment_id=None, sample_rate=1.0, filter="", salt="")
    async with jobs.look(config.config_id, "prompt") as look:
        assert look is not None
        await look.advance(Cursor(FOREVER_NS), kind, scorer.version, [Target(0, trace_id) for trace_id in ids])
    runner = Runner(pool, jobs, scorers, Subjects(SpanStore(columnar)), AssessmentStore(pool), LiteLLM())
    worker = Worker(runner, jobs, asyncio.Event(), KeptVerdicts(folder / "verdicts"), concurrency=64)
    stopping = asyncio.Event()
    spent, began = Spent(folder), time.perf_counter()
    with spent:
        working = asyncio.create_task(worker.run(stopping))
        while await jobs.waiting(1):
            await asyncio.sleep(0.1)
        seconds = time.perf_counter() - began
        stopping.set()
        await working
    told(f"worker, {kind}, {len(ids) / seconds:,.0f} a second", len(ids), spent.own, spent.postgres)


def main() -> None:
    """Runs them in a folder of their own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=int, default=4096)
    parser.add_argument("--only", help="these heuristics, by name")
    parser.add_argument("--worker", default="latency,regex_match,pii_detection", help="those that a worker runs too")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="tracestone-bench-"))
    folder.chmod(0o755)
    try:
        uvloop.run(run(arguments, folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
