"""The receiver's contract: an answer of success follows the log's fsync, and trouble is answered as retryable."""

import asyncio
import errno
import gzip
import re
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import pytest
import pytest_asyncio
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from support.api_keys import open_gate
from support.asgi_server import serving
from support.disk import SimulatedDisk
from support.running import grpc_export
from support.telemetry import export_request, otlp_span
from support.wal import drain, opened
from tracestone.collector.receiver.arrivals import Arrivals
from tracestone.collector.receiver.budget import Budget
from tracestone.collector.receiver.export import Exporter, Work
from tracestone.collector.receiver.grpc import GrpcReceiver
from tracestone.collector.receiver.grpc_limits import GrpcLimits
from tracestone.collector.receiver.http import HttpReceiver
from tracestone.collector.receiver.pieces import Limits
from tracestone.collector.signals.traces import TRACES
from tracestone.collector.wal.log import Log
from tracestone.collector.wal.receipt import ReceiptClock
from tracestone.collector.web import otlp_app
from tracestone.protos.ingest.v1.traces_pb2 import Traces
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.errors import LogFull
from tracestone.schema.stores.experiments import ExperimentStore

START = 1_790_000_000_000_000_000
LIMIT = 4 * 1024 * 1024
BUDGET = 5 * 1024 * 1024
MAX_WAL = 256 * 1024


@dataclass
class Setup:
    """Both transports over a log on a simulated disk; nothing reads the log."""

    disk: SimulatedDisk
    log: Log
    exporter: Exporter
    grpc_address: str
    traces_url: str


@pytest_asyncio.fixture
async def setup(pool: Pool) -> AsyncIterator[Setup]:
    disk = SimulatedDisk()
    log = opened(disk, max_bytes=MAX_WAL, segment_bytes=64 * 1024)
    exporter = Exporter(
        TRACES,
        log.writer,
        ExperimentStore(pool, 100),
        ReceiptClock.alone(),
        limits=Limits(),
        work=Work(Arrivals(Budget(BUDGET), seconds=1)),
    )
    limits = GrpcLimits(max_request_bytes=LIMIT)
    receiver = GrpcReceiver([exporter], gate=open_gate(), host="127.0.0.1", port=0, limits=limits)
    await receiver.start()
    try:
        async with serving(otlp_app(HttpReceiver([exporter], max_request_bytes=LIMIT))) as url:
            yield Setup(disk, log, exporter, f"127.0.0.1:{receiver.port}", f"{url}/v1/traces")
    finally:
        await receiver.stop(0)
        await log.close()


def _body(number: int = 1, size: int = 0) -> bytes:
    attributes = {"text": "x" * size} if size else {}
    return export_request(otlp_span(1, number, start_ns=START, attributes=attributes)).SerializeToString()


async def _over_grpc(setup: Setup, body: bytes) -> None:
    async with grpc_export(setup.grpc_address) as export:
        await export(body)


async def _over_http(setup: Setup, body: bytes) -> httpx.Response:
    async with httpx.AsyncClient() as http:
        return await http.post(setup.traces_url, content=body, headers={"content-type": "application/x-protobuf"})


@pytest.mark.parametrize("send", [_over_grpc, _over_http])
async def test_the_answer_waits_for_fsync(setup: Setup, send: object) -> None:
    held, reached = threading.Event(), threading.Event()

    def hold(path: Path) -> None:
        reached.set()
        held.wait(20)

    await setup.exporter.export(_body(), None)  # the experiment is known and the segment open
    setup.disk.before_sync = hold
    answer = asyncio.create_task(send(setup, _body(2)))  # type: ignore[operator]
    try:
        assert await asyncio.to_thread(reached.wait, 20)
        # The bytes are written and everything else could go on; only the fsync is missing.
        await asyncio.sleep(0.2)
        assert not answer.done()
    finally:
        held.set()
    await answer
    assert len(await drain(setup.log)) == 2


async def _assert_refused_until(setup: Setup, body: bytes) -> float:
    """Both transports refuse the request as retryable, and tell when; the delay in seconds."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await _over_grpc(setup, body)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    trailers = {str(key): bytes(value) for key, value in refused.value.trailing_metadata() or () if "bin" in key}
    alone = RetryInfo.FromString(trailers["google.rpc.retryinfo-bin"])
    within = RetryInfo()
    assert Status.FromString(trailers["grpc-status-details-bin"]).details[0].Unpack(within)
    assert within == alone
    answer = await _over_http(setup, body)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert Status.FromString(answer.content).code == grpc.StatusCode.UNAVAILABLE.value[0]
    return alone.retry_delay.seconds + alone.retry_delay.nanos / 1e9


async def test_a_full_log_tells_when_to_try_again(setup: Setup) -> None:
    with pytest.raises(LogFull):
        for number in range(1, 100):
            await setup.exporter.export(_body(number, 10_000), None)
    taken = setup.exporter.items_accepted
    assert await _assert_refused_until(setup, _body(200, 10_000)) == 1.0
    assert len(await drain(setup.log)) == taken
    assert (await _over_http(setup, _body(200, 10_000))).status_code == 200


@pytest.mark.parametrize(("operation", "number"), [("sync", errno.EIO), ("write", errno.ENOSPC)])
async def test_a_failing_disk_is_retryable_and_acknowledges_nothing(setup: Setup, operation: str, number: int) -> None:
    await setup.exporter.export(_body(1), None)
    setup.disk.fail[operation] = number
    assert await _assert_refused_until(setup, _body(2)) > 0
    assert setup.exporter.items_accepted == 1
    setup.disk.fail.clear()
    assert (await _over_http(setup, _body(3))).status_code == 200
    spans = [_span_id(record) for record in await drain(setup.log)]
    assert spans == [1, 3]


async def test_an_absent_postgres_is_retryable_for_a_new_service(setup: Setup, pool: Pool) -> None:
    pool.terminate()
    await _assert_refused_until(setup, _body())
    assert await drain(setup.log) == []


async def test_what_nobody_foresaw_is_retryable(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    await setup.exporter.export(_body(), None)

    async def broken(payload: bytes) -> int:
        raise RuntimeError("a secret of the inside")

    monkeypatch.setattr(type(setup.log.writer), "append", lambda self, payload: broken(payload))
    assert await _assert_refused_until(setup, _body(2)) > 0
    assert "secret" not in (await _over_http(setup, _body(2))).text


async def test_received_at_never_goes_back_and_is_never_the_same(setup: Setup) -> None:
    for number in range(1, 60):
        await setup.exporter.export(_body(number), None)
    times = [Traces.FromString(record).received_at for record in await drain(setup.log)]
    assert times == sorted(set(times))
    assert len(times) == 59


async def test_a_plain_request_is_stored_byte_for_byte(setup: Setup) -> None:
    body = _body(7, 3000)
    await setup.exporter.export(body, None)
    (record,) = await drain(setup.log)
    assert record.startswith(body)


async def test_an_empty_request_writes_nothing(setup: Setup) -> None:
    assert (await _over_http(setup, b"")).status_code == 200
    assert await drain(setup.log) == []


async def test_more_bytes_at_once_than_the_budget_are_retryable(setup: Setup) -> None:
    budget = setup.exporter.budget
    with budget.request() as held:
        held.take(BUDGET - 100)
        assert await _assert_refused_until(setup, _body(2, 1000)) == 1.0
    assert (await _over_http(setup, _body(3, 1000))).status_code == 200
    assert budget.bytes == 0


async def test_what_is_decompressed_counts_and_is_given_back(setup: Setup) -> None:
    headers = {"content-type": "application/x-protobuf", "content-encoding": "gzip"}
    body = gzip.compress(bytes(3 * 1024 * 1024))
    with setup.exporter.budget.request() as held:
        held.take(3 * 1024 * 1024)
        async with httpx.AsyncClient() as http:
            answer = await http.post(setup.traces_url, content=body, headers=headers)
        assert answer.status_code == 503
        assert setup.exporter.budget.bytes == 3 * 1024 * 1024
    async with httpx.AsyncClient() as http:
        answer = await http.post(setup.traces_url, content=body, headers=headers)
    assert answer.status_code == 400
    assert setup.exporter.budget.bytes == 0


async def test_a_body_that_does_not_come_is_given_up(setup: Setup) -> None:
    budget = setup.exporter.budget

    async def slow() -> AsyncIterator[bytes]:
        yield _body()
        for given_up in (False, True):
            while (budget.bytes == 0) is not given_up:
                await asyncio.sleep(0.02)

    async with httpx.AsyncClient(timeout=20) as http:
        headers = {"content-type": "application/x-protobuf"}
        answer = await http.post(setup.traces_url, content=slow(), headers=headers)
    assert answer.status_code == 503
    assert re.search(r"did not arrive within \d+\.\d s", Status.FromString(answer.content).message)
    assert budget.bytes == 0


def _span_id(record: bytes) -> int:
    return int.from_bytes(Traces.FromString(record).resource_spans[0].scope_spans[0].spans[0].span_id, "big")
