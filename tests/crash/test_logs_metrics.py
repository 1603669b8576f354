"""Logs, metrics and evaluations under kills, repeats, and stores that refuse or are away: none lost, none twice."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import pytest_asyncio
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Gauge, Metric, NumberDataPoint

from support.faulty_columnar import PickyColumnar
from support.program import Program
from support.running import running
from support.signals import START, log, logs_request, metrics_request, pairs, post
from support.stored_assessments import assessments_of
from support.telemetry import export_request, otlp_span
from tracestone.collector.ingest import backoff
from tracestone.schema import clock
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.stores.assessments import AssessmentStore

KILLS = 3
PER_REQUEST = 20
METRICS = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
MARK = "the store refuses this"


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loader tries again soon."""
    monkeypatch.setattr(backoff, "_FIRST_SECONDS", 0.02)
    monkeypatch.setattr(backoff, "_LAST_SECONDS", 0.1)


class _Sender:
    """Repeats each request until it is acknowledged; `sent` counts the items that were."""

    def __init__(self, make: Callable[[int], bytes], send: Callable[[bytes], Awaitable[None]]) -> None:
        self._make = make
        self._send = send
        self._stopping = False
        self.sent = 0
        self.failures = 0
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> int:
        """Ends after the request in work; how many items were acknowledged."""
        self._stopping = True
        async with asyncio.timeout(60):
            await self._task
        return self.sent

    async def _run(self) -> None:
        while not self._stopping:
            body = self._make(self.sent)
            while True:
                try:
                    await self._send(body)
                    break
                except (grpc.aio.AioRpcError, httpx.HTTPError):
                    self.failures += 1
                    await asyncio.sleep(0.05)
            self.sent += PER_REQUEST
            await asyncio.sleep(0.01)


def _records(first: int) -> bytes:
    """Log records by number; every fifth is an evaluation of a trace that is never sent."""
    return logs_request(*(_record(number) for number in range(first, first + PER_REQUEST))).SerializeToString()


def _record(number: int) -> LogRecord:
    if number % 5:
        return log(number, at=START + number * 10**7)
    named = {"gen_ai.evaluation.name": "score", "gen_ai.evaluation.score.value": number}
    return log(number, number // 500 + 1, 1, at=START, event_name="gen_ai.evaluation.result", attributes=named)


def _points(first: int) -> bytes:
    points = [
        NumberDataPoint(time_unix_nano=START + number, as_int=number, attributes=pairs({"part": str(number % 3)}))
        for number in range(first, first + PER_REQUEST)
    ]
    return metrics_request(Metric(name="m", gauge=Gauge(data_points=points))).SerializeToString()


@pytest.mark.timeout(300)
async def test_kills_lose_and_double_no_record_point_or_evaluation(program: Program) -> None:
    dice = random.Random(5)
    await program.start()
    options = [("grpc.max_reconnect_backoff_ms", 200), ("grpc.initial_reconnect_backoff_ms", 50)]
    async with (
        httpx.AsyncClient(timeout=20) as http,
        grpc.aio.insecure_channel(program.grpc, options=options) as channel,
    ):

        async def send_logs(body: bytes) -> None:
            url = f"{program.http_root}/v1/logs"
            answer = await http.post(url, content=body, headers={"content-type": "application/x-protobuf"})
            answer.raise_for_status()
            assert answer.content == b""

        async def send_metrics(body: bytes) -> None:
            assert await channel.unary_unary(METRICS)(body, timeout=20) == b""

        senders = [_Sender(_records, send_logs), _Sender(_points, send_metrics)]
        for kill in range(KILLS):
            if kill:
                await program.ready()
            await asyncio.sleep(dice.uniform(0.2, 1.5))
            await program.kill()
            await program.launch()
        await program.ready()
        records, points = [await sender.stop() for sender in senders]
    assert min(sender.failures for sender in senders) >= 1
    assert min(records, points) > KILLS * PER_REQUEST
    wanted = "toInt64(count()), uniqExact({0}), toInt64(min({0})), toInt64(max({0}))"
    for table, number, count in (("logs", "toInt64(body)", records), ("metrics", "value_int", points)):
        found = await _until_counted(program, f"SELECT {wanted.format(number)} FROM {table}", count)
        assert found == [count, count, 0, count - 1], table
    question = f"SELECT {wanted.format('value_number')} FROM assessments WHERE source_type = 'CODE'"
    evaluations = len(range(0, records, 5))
    assert await _until_counted(program, question, evaluations) == [
        evaluations,
        evaluations,
        0,
        records - records % 5 - 5,
    ]
    assert await program.terminate() == 0


async def test_a_request_sent_again_after_a_restart_changes_no_count(
    pool: Pool, columnar: Columnar, tmp_path: Path
) -> None:
    for _ in range(2):
        async with running(pool, columnar, tmp_path) as here:
            await post(here, "logs", _records(0))
            await post(here, "metrics", _points(0))
            assert await here.rows("SELECT count() AS n FROM logs") == [{"n": PER_REQUEST}]
            assert await here.rows("SELECT count() AS n FROM metrics") == [{"n": PER_REQUEST}]
            assert len(await assessments_of(here.collector.assessments, f"{1:032x}")) == 4


@pytest_asyncio.fixture
async def picky(columnar: Columnar) -> AsyncIterator[PickyColumnar]:
    """A store that can be told to refuse something."""
    store = PickyColumnar(columnar.url, database=columnar.database)
    await store.open()
    yield store
    await store.close()


async def test_what_the_store_refuses_becomes_a_dead_letter_and_its_neighbours_are_stored(
    pool: Pool, picky: PickyColumnar, tmp_path: Path, short_pauses: None
) -> None:
    picky.refuses_insert = lambda payload: 27 if MARK.encode() in payload else None
    async with running(pool, picky, tmp_path) as here:
        records = [log(f"good {number}") for number in range(5)] + [log(MARK)]
        await post(here, "logs", logs_request(*records).SerializeToString())
        metrics = [
            Metric(name=name, gauge=Gauge(data_points=[NumberDataPoint(time_unix_nano=START)]))
            for name in ("a", "b", MARK, "c")
        ]
        await post(here, "metrics", metrics_request(*metrics).SerializeToString())
        stored = await here.rows("SELECT body FROM logs ORDER BY body")
        assert [row["body"] for row in stored] == [f"good {number}" for number in range(5)]
        assert [row["name"] for row in await here.rows("SELECT name FROM metrics ORDER BY name")] == ["a", "b", "c"]
    letters = [json.loads(file.read_text()) for file in (tmp_path / "deadletter").glob("*.json")]
    assert sorted((letter["signal"], letter["items"]) for letter in letters) == [("logs", 1), ("metrics", 1)]
    assert all("Code: 27" in letter["reasons"][0] for letter in letters)


async def test_metrics_that_cannot_be_stored_hold_up_neither_spans_nor_logs(
    pool: Pool, picky: PickyColumnar, tmp_path: Path, short_pauses: None
) -> None:
    # A missing column, say: waited for, however long it lasts.
    picky.refuses_insert = lambda payload: 16 if b"the metric" in payload else None
    async with running(pool, picky, tmp_path) as here:
        for number in range(20):
            point = NumberDataPoint(time_unix_nano=START + number)
            metric = Metric(name="the metric", gauge=Gauge(data_points=[point]))
            await post(here, "metrics", metrics_request(metric).SerializeToString())
        async with asyncio.timeout(10):
            await post(here, "traces", export_request(otlp_span(1, 1, start_ns=START)).SerializeToString())
            await post(here, "logs", logs_request(log("x")).SerializeToString())
            await here.collector.barrier()
        assert await here.columnar.query("SELECT count() AS n FROM spans") == [{"n": 1}]
        assert await here.columnar.query("SELECT count() AS n FROM logs") == [{"n": 1}]
        assert "metrics: " in (await here.collector.health())["loader"]
        picky.refuses_insert = lambda payload: None
        assert await here.rows("SELECT count() AS n FROM metrics") == [{"n": 20}]


async def test_evaluations_wait_for_a_postgres_that_is_away(
    pool: Pool, columnar: Columnar, tmp_path: Path, short_pauses: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    observe = AssessmentStore.observe
    tries: list[Any] = []

    async def away(self: AssessmentStore, assessments: Any) -> int:
        tries.append(assessments)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self, "_pool", _Gone())
            return await observe(self, assessments)

    monkeypatch.setattr(AssessmentStore, "observe", away)
    async with running(pool, columnar, tmp_path) as here:
        await post(here, "logs", _records(0))
        async with asyncio.timeout(10):
            while len(tries) < 3:
                await asyncio.sleep(0.02)
        assert "logs: " in (await here.collector.health())["loader"]
        # What is stored can be read meanwhile; only the log keeps its records until the assessments are there.
        assert await here.columnar.query("SELECT count() AS n FROM logs") == [{"n": PER_REQUEST}]
        monkeypatch.setattr(AssessmentStore, "observe", observe)
        await here.collector.barrier(("logs",))
        assert len(await assessments_of(here.collector.assessments, f"{1:032x}")) == 4


class _Gone:
    """A pool whose server is away."""

    async def fetch(self, *arguments: Any) -> Any:
        """Fails as a connection does."""
        raise ConnectionRefusedError


async def _until_counted(program: Program, question: str, count: int) -> list[int]:
    end = clock.monotonic() + 60
    while True:
        found = [int(value or 0) for value in (await program.sql(question))[0]]
        if found[0] >= count or clock.monotonic() > end:
            return found
        await asyncio.sleep(0.2)
