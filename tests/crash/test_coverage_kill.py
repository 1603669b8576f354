"""Every finished target is accounted for (C8, C11): several scoring processes, killed at random while spans arrive.

Two collectors and the processes have clocks that differ by minutes; those of the processes jump with each start,
through the product's one clock (tests/support/shifted). At the end the view `coverage` must be what a recomputation of
the spans that were sent says: each finished target once, and one live verdict for each that was chosen, on its last
state.
"""

import asyncio
import os
import random
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.internal.encoder import _VarintBytes

from support.columnar_server import shared
from support.telemetry import export_request
from support.trace_rules import Received, Sent, current, trace_rows
from tracestone.protos.ingest.v1.traces_pb2 import Traces
from tracestone.schema import clock
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.scorers.definition import define
from tracestone.schema.scorers.online import Stratum
from tracestone.schema.stores.outbox import Outbox
from tracestone.schema.stores.scorers import ScorerStore
from tracestone.schema.stores.spans import SpanStore

TESTS = Path(__file__).parents[1]
MINUTE = 60 * 10**9
# How far the clocks of the collectors are from ClickHouse's, which is that of this process.
COLLECTORS = (4 * MINUTE, -3 * MINUTE)
# A row is readable within that time after its statement began.
LAG_SECONDS = 6.0
OUTCOMES = ("finished", "scored", "failed", "waiting", "not_chosen", "filtered")
Group = tuple[str, datetime, str]
Target = tuple[str, str, str]


@dataclass
class Feed:
    """Sends traces of sessions in two halves, each to one of the collectors, and keeps what each received."""

    columnar: Columnar
    dice: random.Random
    received: list[Received] = field(default_factory=list)
    _batches: int = 0

    async def run(self, traces: int) -> None:
        """The second half of a trace comes up to some seconds after the first, when it may be scored already."""
        late: list[list[Sent]] = []
        for first in range(1, traces + 1, 4):
            halves = [self._trace(number) for number in range(first, first + 4)]
            await self._receive([span for half, _ in halves for span in half])
            late.append([span for _, half in halves for span in half])
            if len(late) > 5:
                await self._receive(late.pop(self.dice.randrange(len(late))))
        for spans in late:
            await self._receive(spans)

    def _trace(self, number: int) -> tuple[list[Sent], list[Sent]]:
        begun = clock.now_ns()
        spans = [
            Sent(
                experiment=0, trace=number, span=span, parent=int(span > 1), start_ns=begun + span, length_ms=5,
                error=self.dice.random() < 0.1, kind="agent" if span == 1 else self.dice.choice(["llm", "tool"]),
                session=f"session {number // 3}", user=self.dice.choice(["ada", "bob"]),
            )
            for span in range(1, self.dice.randint(2, 5))
        ]  # fmt: skip
        self.dice.shuffle(spans)
        cut = self.dice.randint(1, len(spans))
        return spans[:cut], spans[cut:]

    async def _receive(self, spans: list[Sent]) -> None:
        if not spans:
            return
        self._batches += 1
        at_ns = clock.now_ns() + self.dice.choice(COLLECTORS)
        ours = Traces(experiment_ids=[0], received_at=at_ns).SerializeToString()
        record = export_request(*(span.otlp() for span in spans)).SerializeToString() + ours
        store, batch = SpanStore(self.columnar), f"feed/{self._batches}"
        await store.insert(_VarintBytes(len(record)) + record, batch)
        await store.refresh_traces([batch])
        self.received += [Received(span, at_ns) for span in spans]


@dataclass
class Worker:
    """One scoring process with a clock and a folder of its own, to be killed and started again."""

    command: list[str]
    folder: Path
    dice: random.Random
    process: Process | None = None
    _works: bool = False

    async def start(self) -> None:
        """Starts it with its clock set anew, and waits for nothing."""
        self.folder.mkdir(exist_ok=True)
        offset = self.folder / "offset"
        offset.write_text(str(self.dice.randint(-9, 9) * MINUTE))
        shifted = os.pathsep.join([str(TESTS / "support" / "shifted"), str(TESTS)])
        environment = {**os.environ, "PYTHONPATH": shifted, "SHIFTED_BY": str(offset)}
        self._works = False
        command = [*self.command, str(self.folder / "verdicts"), str(LAG_SECONDS)]
        self.process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, env=environment)

    async def ready(self) -> None:
        """Waits until it works."""
        assert self.process is not None and self.process.stdout is not None
        if not self._works:
            assert await self.process.stdout.readline() == b"working\n"
            self._works = True

    async def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGKILL)
        await self.process.communicate()


async def _configure(pool: Pool) -> None:
    scorers = ScorerStore(pool)
    for name in ("trace", "span", "session"):
        await scorers.define(define(name, "error", {}))
    same: dict[str, Any] = {"version": None, "experiment_id": None}
    bob = Stratum(name="bob", filter="user_id = 'bob'", sample_rate=0.8)
    await scorers.put_config(
        "trace", sample_rate=0.3, filter="span_count > 2", salt="", strata=[bob], **same
    )  # fmt: skip
    await scorers.put_config(
        "span", sample_rate=0.4, filter="span_type != 'agent'", salt="x", target_type="span", **same
    )
    await scorers.put_config(
        "session", sample_rate=0.7, filter="", salt="", target_type="session", idle_seconds=1.0, **same
    )


async def _coverage(pool: Pool, columnar: Columnar) -> dict[Group, dict[str, int]]:
    while await Outbox(pool, columnar).deliver(1000):
        pass
    rows = await columnar.query("SELECT * FROM coverage")
    groups: dict[Group, dict[str, int]] = {}
    for row in rows:
        group = (str(row["scorer_name"]), row["hour"].replace(tzinfo=UTC), str(row["stratum"]))
        assert group not in groups
        groups[group] = {name: int(row[name]) for name in OUTCOMES}
    return groups


class Truth:
    """What must have become of each target, from what was received and the hash."""

    def __init__(self, received: list[Received], buckets: dict[tuple[str, str], float]) -> None:
        self.coverage: dict[Group, Counter[str]] = defaultdict(Counter)
        self.verdicts: dict[Target, bool] = {}
        self._buckets = buckets
        spans = current(received)
        traces = trace_rows(received)
        for (_, trace), row in traces.items():
            stratum, rate = ("bob", 0.8) if row["user_id"] == "bob" else ("", 0.3)
            errors = row["error_count"] > 0
            self._decide(("trace", _trace(trace), ""), "", row, errors, stratum, rate, row["span_count"] > 2)
        for span in spans:
            row, sent = traces[span.sent.id[:2]], span.sent
            target = ("span", _trace(sent.trace), f"{sent.span:016x}")
            self._decide(target, "x", row, sent.error, "", 0.4, sent.kind != "agent")
        sessions: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in traces.values():
            sessions[row["session_id"]].append(row)
        for session, rows in sessions.items():
            seen = max(rows, key=lambda row: int(row["last_seen_ns"]))
            errors = any(row["error_count"] for row in rows)
            self._decide(("session", session, ""), "", seen, errors, "", 0.7, True)

    def _decide(
        self, target: Target, salt: str, row: dict[str, Any], verdict: bool, stratum: str, rate: float, kept: bool
    ) -> None:
        hour = datetime.fromtimestamp(row["last_seen_ns"] // 10**9, UTC).replace(minute=0, second=0)
        outcome = "filtered"
        if kept:
            chosen = self._buckets[hashed(salt, target)] < rate
            outcome = "scored" if chosen else "not_chosen"
            if chosen:
                self.verdicts[target] = verdict
        self.coverage[target[0], hour, stratum].update(["finished", outcome])


def hashed(salt: str, target: Target) -> tuple[str, str]:
    """What is hashed of a target."""
    return salt, target[1] + target[2]


def _trace(number: int) -> str:
    return f"{number:032x}"


async def _buckets(columnar: Columnar, received: Iterable[Received]) -> dict[tuple[str, str], float]:
    """Where in [0, 1) the hash puts everything that may be a target."""
    found = set()
    for each in received:
        sent = each.sent
        found.add(hashed("", ("trace", _trace(sent.trace), "")))
        found.add(hashed("x", ("span", _trace(sent.trace), f"{sent.span:016x}")))
        found.add(hashed("", ("session", sent.session, "")))
    texts = sorted(found)
    rows = await columnar.query(
        "SELECT text.1 AS salt, text.2 AS key, bitShiftRight(sipHash64(concat(salt, char(0), key)), 11) AS bucket"
        " FROM (SELECT arrayJoin(arrayZip({salts:Array(String)}, {keys:Array(String)})) AS text)",
        {"salts": [salt for salt, _ in texts], "keys": [key for _, key in texts]},
    )
    return {(str(row["salt"]), str(row["key"])): int(row["bucket"]) / 2**53 for row in rows}


async def _check(pool: Pool, columnar: Columnar, received: list[Received]) -> None:
    truth = Truth(received, await _buckets(columnar, received))
    wanted = {group: {name: counts[name] for name in OUTCOMES} for group, counts in truth.coverage.items()}
    end = clock.monotonic() + 300
    while (found := await _coverage(pool, columnar)) != wanted and clock.monotonic() < end:
        await asyncio.sleep(0.5)
    assert found == wanted
    rows = await pool.fetch(
        "SELECT target_type, trace_id || session_id AS id, span_id, scorer_version, value, error_code FROM assessments"
    )
    verdicts = {(row["target_type"], row["id"], row["span_id"]): row["value"] for row in rows}
    assert len(verdicts) == len(rows), "a target has two verdicts"
    assert {(row["scorer_version"], row["error_code"]) for row in rows} == {(1, "")}
    assert verdicts == truth.verdicts


async def _kill_while_spans_arrive(
    pool: Pool, columnar: Columnar, postgres_url: str, folder: Path, *, seed: int, traces: int, kills: int, workers: int
) -> None:
    dice = random.Random(seed)
    await _configure(pool)
    async with shared(columnar) as url:
        script = [sys.executable, str(TESTS / "crash" / "scoring_worker.py"), postgres_url, url, columnar.database]
        running = [Worker(script, folder / f"worker {number}", dice) for number in range(workers)]
        try:
            await asyncio.gather(*(worker.start() for worker in running))
            feed = Feed(columnar, random.Random(seed))
            feeding = asyncio.create_task(feed.run(traces))
            await running[0].ready()
            for kill in range(kills):
                victim = dice.choice(running)
                if kill % 3:
                    await victim.ready()
                await asyncio.sleep(dice.uniform(0.0, 1.0))
                await victim.kill()
                await victim.start()
            await feeding
            await _check(pool, columnar, feed.received)
        finally:
            await asyncio.gather(*(worker.kill() for worker in running))


@pytest.mark.timeout(500)
async def test_coverage_is_exact_after_kills(pool: Pool, columnar: Columnar, postgres_url: str, tmp_path: Path) -> None:
    await _kill_while_spans_arrive(pool, columnar, postgres_url, tmp_path, seed=5, traces=60, kills=6, workers=3)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(3))
async def test_coverage_is_exact_after_many_kills(
    pool: Pool, columnar: Columnar, postgres_url: str, tmp_path: Path, seed: int
) -> None:
    await _kill_while_spans_arrive(pool, columnar, postgres_url, tmp_path, seed=seed, traces=1500, kills=80, workers=4)
