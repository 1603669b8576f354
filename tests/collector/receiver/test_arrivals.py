"""Bodies that come slowly, or not at all, cost their own senders alone; on gRPC it is we who read and decompress."""

import asyncio
import gc
import gzip
import types
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import psutil
import pytest
import pytest_asyncio

from support.api_keys import open_gate
from support.asgi_server import serving
from support.disk import SimulatedDisk
from support.running import EXPORT, grpc_export
from support.telemetry import export_request, otlp_span
from support.wal import drain, opened
from tracestone.collector.receiver.arrivals import Arrivals
from tracestone.collector.receiver.budget import Budget
from tracestone.collector.receiver.encoding import decompress_message
from tracestone.collector.receiver.export import Exporter, Work
from tracestone.collector.receiver.grpc import GrpcReceiver
from tracestone.collector.receiver.grpc_limits import GrpcLimits
from tracestone.collector.receiver.http import HttpReceiver
from tracestone.collector.receiver.pieces import Limits
from tracestone.collector.signals.traces import TRACES
from tracestone.collector.wal.receipt import ReceiptClock
from tracestone.collector.web import otlp_app
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.errors import TooLarge, Unavailable
from tracestone.schema.stores.experiments import ExperimentStore

START = 1_790_000_000_000_000_000
MIB = 1024 * 1024
LIMIT = 4 * MIB
SLOW = 3
PATIENCE = 0.3
HEADERS = {"content-type": "application/x-protobuf", "x-mlflow-experiment-id": "0"}
BODY = export_request(otlp_span(1, 1, start_ns=START)).SerializeToString()


@dataclass
class Setup:
    arrivals: Arrivals
    budget: Budget
    grpc: str
    url: str


@pytest_asyncio.fixture
async def setup(pool: Pool, request: pytest.FixtureRequest) -> AsyncIterator[Setup]:
    log = opened(SimulatedDisk(), max_bytes=64 * MIB, segment_bytes=MIB)
    arrivals = Arrivals(Budget(8 * MIB), seconds=30, slow=SLOW, patience=PATIENCE)
    exporter = Exporter(
        TRACES, log.writer, ExperimentStore(pool, 100), ReceiptClock.alone(), limits=Limits(), work=Work(arrivals)
    )
    limits = GrpcLimits(max_request_bytes=LIMIT, **getattr(request, "param", {}))
    receiver = GrpcReceiver([exporter], gate=open_gate(), host="127.0.0.1", port=0, limits=limits)
    await receiver.start()
    try:
        async with serving(otlp_app(HttpReceiver([exporter], max_request_bytes=LIMIT))) as url:
            yield Setup(arrivals, exporter.budget, f"127.0.0.1:{receiver.port}", f"{url}/v1/traces")
    finally:
        await drain(log)
        await receiver.stop(0)
        await log.close()


async def _until(true: object) -> None:
    async with asyncio.timeout(10):
        while not true():  # type: ignore[operator]
            await asyncio.sleep(0.02)


async def _trickle(size: int) -> AsyncIterator[bytes]:
    yield bytes(size)
    await asyncio.sleep(60)


async def _post(http: httpx.AsyncClient, setup: Setup, size: int) -> httpx.Response:
    return await http.post(setup.url, content=_trickle(size), headers=HEADERS)


async def test_of_slow_bodies_the_oldest_go(setup: Setup) -> None:
    async with (
        httpx.AsyncClient(timeout=60) as http,
        grpc.aio.insecure_channel(setup.grpc) as channel,
    ):
        calls = [channel.stream_unary(EXPORT)() for _ in range(SLOW)]
        await asyncio.sleep(0.1)
        posts = [asyncio.create_task(_post(http, setup, 10)) for _ in range(SLOW)]
        for call in calls:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            assert any(key == "google.rpc.retryinfo-bin" for key, _ in refused.value.trailing_metadata() or ())
        assert setup.arrivals.given_up == SLOW
        await asyncio.sleep(2 * PATIENCE)
        assert not any(post.done() for post in posts)
        for post in posts:
            post.cancel()
        await asyncio.wait(posts)
    await _until(lambda: setup.budget.bytes == 0)


async def test_slow_bodies_give_their_bytes_to_whoever_comes(setup: Setup) -> None:
    async with httpx.AsyncClient(timeout=60) as http:
        slow = [asyncio.create_task(_post(http, setup, 1_300_000)) for _ in range(3)]
        await _until(lambda: setup.arrivals.bytes == 3_900_000)
        large = export_request(otlp_span(1, 2, start_ns=START, attributes={"text": "x" * 2 * MIB})).SerializeToString()
        early = await http.post(setup.url, content=large, headers=HEADERS)
        # None of them was slow yet.
        assert (early.status_code, early.headers["retry-after"]) == (503, "2")
        await asyncio.sleep(2 * PATIENCE)
        assert setup.arrivals.given_up == 0
        assert (await http.post(setup.url, content=large, headers=HEADERS)).status_code == 200
        await _until(lambda: setup.arrivals.given_up == 2)
        assert setup.arrivals.bytes == setup.budget.bytes == 1_300_000
        for each in slow:
            each.cancel()
        await asyncio.wait(slow)
    await _until(lambda: setup.budget.bytes == 0)


async def test_a_quick_sender_is_served_beside_many_slow_ones(setup: Setup) -> None:
    async with (
        httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=None)) as http,
        grpc.aio.insecure_channel(setup.grpc) as channel,
        grpc_export(setup.grpc) as export,
    ):
        calls = [channel.stream_unary(EXPORT)() for _ in range(90)]
        posts = [asyncio.create_task(_post(http, setup, 10)) for _ in range(90)]
        for _ in range(10):
            assert await export(BODY, metadata=(("x-mlflow-experiment-id", "0"),), timeout=5) == b""
            assert (await http.post(setup.url, content=BODY, headers=HEADERS, timeout=5)).status_code == 200
            await asyncio.sleep(0.1)
        assert setup.arrivals.given_up == 180 - SLOW
        for each in (*calls, *posts):
            each.cancel()
        await asyncio.wait(posts)


@pytest.mark.parametrize("compression", grpc.Compression)
async def test_messages_are_decompressed(setup: Setup, compression: grpc.Compression) -> None:
    body = export_request(otlp_span(1, 1, start_ns=START, attributes={"text": "word " * 500})).SerializeToString()
    async with grpc_export(setup.grpc, compression) as export:
        assert await export(body, metadata=(("x-mlflow-experiment-id", "0"),)) == b""


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_bombs_are_counted_while_they_grow(setup: Setup, compression: grpc.Compression) -> None:
    async with grpc_export(setup.grpc, compression) as export:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await export(bytes(100 * MIB))
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "after decompression" in (refused.value.details() or "")
        # Each of these is within the limit of a request; together they are over that of all.
        several = await asyncio.gather(*(export(bytes(LIMIT)) for _ in range(20)), return_exceptions=True)
    codes = {error.code() for error in several if isinstance(error, grpc.aio.AioRpcError)}
    assert codes <= {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNAVAILABLE}
    assert setup.budget.bytes == 0


@pytest.mark.parametrize("transport", ["grpc", "http"])
async def test_a_refused_message_is_forgotten_at_once(setup: Setup, transport: str) -> None:
    """Not when Python next looks for circles of references: by then there may be hundreds."""
    gc.collect()
    gc.disable()
    try:
        refused = b"\x0a" + b"\x7f" * (LIMIT - 1)
        async with grpc_export(setup.grpc, grpc.Compression.Gzip) as export, httpx.AsyncClient(timeout=20) as http:
            for _ in range(5):
                if transport == "grpc":
                    with pytest.raises(grpc.aio.AioRpcError):
                        await export(refused)
                else:
                    headers = {**HEADERS, "content-encoding": "gzip"}
                    answer = await http.post(setup.url, content=gzip.compress(refused), headers=headers)
                    assert answer.status_code == 400
        del refused
        await asyncio.sleep(0.1)
        frames = [each for each in gc.get_objects() if isinstance(each, types.FrameType)]
        assert [
            frame
            for frame in frames
            for held in gc.get_referents(frame)
            if isinstance(held, bytes) and len(held) == LIMIT
        ] == []
    finally:
        gc.enable()


async def test_what_only_looks_like_zlib_is_left_alone() -> None:
    # Field 15 of a later OTLP, a number; its first two bytes are those of zlib.
    plain = b"\x78\x01" + BODY
    budget = Budget(MIB)
    with budget.request() as held:
        assert await decompress_message(plain, MIB, held) == plain
        assert await decompress_message(zlib.compress(plain), MIB, held) == plain
        with pytest.raises(TooLarge):
            await decompress_message(zlib.compress(bytes(2 * MIB)), MIB, held)


async def test_a_call_without_a_message_is_answered(setup: Setup) -> None:
    async with grpc.aio.insecure_channel(setup.grpc) as channel:
        call = channel.stream_unary(EXPORT)()
        await call.done_writing()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("setup", [{"max_header_seconds": 1, "max_connections": 20}], indirect=True)
async def test_silent_connections_make_room(setup: Setup) -> None:
    host, port = setup.grpc.split(":")
    silent = [await asyncio.open_connection(host, int(port)) for _ in range(20)]
    async with grpc_export(setup.grpc) as export:
        with pytest.raises(grpc.aio.AioRpcError):
            await export(BODY, timeout=0.5)
        for reader, _ in silent:
            async with asyncio.timeout(5):
                await reader.read()
        metadata = (("x-mlflow-experiment-id", "0"),)
        assert await export(BODY, metadata=metadata, timeout=10, wait_for_ready=True) == b""
    for _, writer in silent:
        writer.close()


def _local_ports(address: str) -> set[int]:
    """The ports from which this process is connected to an address of its own."""
    port = int(address.rpartition(":")[2])
    connections = psutil.Process().net_connections("tcp")
    return {each.laddr.port for each in connections if each.raddr and each.raddr.port == port}


@pytest.mark.parametrize("setup", [{"max_connection_age_seconds": 1}], indirect=True)
async def test_an_old_connection_ends_without_a_failed_call(setup: Setup) -> None:
    async with grpc_export(setup.grpc) as export:
        peers: set[int] = set()
        async with asyncio.timeout(10):
            while len(peers) < 3:
                call = export(BODY, metadata=(("x-mlflow-experiment-id", "0"),))
                assert await call == b""
                peers |= _local_ports(setup.grpc)
                await asyncio.sleep(0.015)


async def test_no_room_for_a_body_is_retryable() -> None:
    budget = Budget(2 * MIB)
    arrivals = Arrivals(budget, seconds=30, slow=SLOW)
    with budget.request() as first, budget.request() as second:
        async with arrivals.body(first) as one, arrivals.body(second) as two:
            one.take(MIB)
            with pytest.raises(Unavailable):
                two.take(1)
        assert (arrivals.bytes, budget.bytes) == (0, MIB)


def test_grpc_knows_the_names_of_our_limits() -> None:
    """It takes any name and says nothing."""
    (library,) = Path(grpc.__file__).parent.glob("_cython/cygrpc*.so")
    known = library.read_bytes()
    assert [name for name, _ in GrpcLimits().options() if name.encode() + b"\0" not in known] == []
