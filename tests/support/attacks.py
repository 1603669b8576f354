"""What hostile clients do to a running Tracestone, in any number; each returns when it is over.

Nothing here checks anything: `watched` does, while it goes on. Attackers expect to be cut off.
"""

import asyncio
import contextlib
import gzip
import itertools
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

import grpc
import httpx
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from support import http2
from support.load import EXPORT
from support.program import Program
from support.telemetry import export_request, otlp_span
from tracestone.collector.receiver.fields import delimited

START = 1_790_000_000_000_000_000
MIB = 1024 * 1024
PROTOBUF = {"content-type": "application/x-protobuf"}
# A number says how much of it: connections, requests, streams.
Attack = Callable[[Program, int], Awaitable[None]]
_AT_ONCE = 200
_HEAD = b"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\ncontent-length: %d\r\n\r\n"


async def idle_connections(program: Program, count: int) -> None:
    """Connections to every port that say nothing, or one word of HTTP/2."""
    for port in (program.http_port, program.port, program.sql_port):
        async with _open(f"127.0.0.1:{port}", count // 4):
            await asyncio.sleep(1)
    async with _open(program.grpc, count // 8), _open(program.grpc, count // 8, http2.PREFACE):
        await asyncio.sleep(1)


async def slow_headers(program: Program, count: int) -> None:
    """Headers that come byte by byte."""
    async with _open(f"127.0.0.1:{program.http_port}", count, b"POST /v1/traces HTTP/1.1\r\nhost: x\r\n") as writers:
        await _trickle(writers, b"x-a: b\r\n", 4)


async def slow_bodies(program: Program, count: int) -> None:
    """Bodies that come byte by byte, over both transports."""
    head = _HEAD % 9_999_999
    call = http2.frame(http2.HEADERS, http2.header_block(), stream=1, flags=http2.END_HEADERS)
    message = http2.frame(http2.DATA, b"\0" + (9_999_999).to_bytes(4, "big"), stream=1)
    async with (
        _open(f"127.0.0.1:{program.http_port}", count // 2, head) as over_http,
        _open(program.grpc, count // 2, http2.PREFACE + http2.frame(http2.SETTINGS) + call + message) as over_grpc,
    ):
        await asyncio.gather(
            _trickle(over_http, b"x", 4), _trickle(over_grpc, http2.frame(http2.DATA, b"x", stream=1), 4)
        )


async def large_bodies_without_end(program: Program, count: int) -> None:
    """Bodies of 30 MiB, of which all but the last byte comes, over both transports."""
    size = 30 * MIB
    async with (
        grpc.aio.insecure_channel(program.grpc, options=[("grpc.max_send_message_length", -1)]) as channel,
        _open(f"127.0.0.1:{program.http_port}", count, _HEAD % size) as writers,
    ):
        whole = [channel.unary_unary(EXPORT)(bytes(size), timeout=8) for _ in range(count // 4)]
        await asyncio.gather(*(_write(writer, bytes(size - 1)) for writer in writers))
        await asyncio.gather(*whole, return_exceptions=True)
        await asyncio.sleep(3)


async def bombs_over_http(program: Program, count: int) -> None:
    """Small bodies that become as large as the limit lets them, or larger."""
    bodies = [
        (encoding, await asyncio.to_thread(pack, bytes(size)))
        for encoding, pack in (("gzip", gzip.compress), ("deflate", zlib.compress))
        for size in (60 * MIB, 200 * MIB)
    ]
    async with httpx.AsyncClient(timeout=60) as client:

        async def send(number: int) -> None:
            encoding, body = bodies[number % len(bodies)]
            await client.post(program.http, content=body, headers={**PROTOBUF, "content-encoding": encoding})

        await _many(send, count)


async def bombs_over_grpc(program: Program, count: int) -> None:
    """The same in gRPC's own compression, each on a connection of its own."""
    packed = await asyncio.to_thread(gzip.compress, bytes(60 * MIB))
    message = b"\1" + len(packed).to_bytes(4, "big") + packed
    block = http2.header_block(**{"grpc-encoding": "gzip"})
    call = http2.frame(http2.HEADERS, block, stream=1, flags=http2.END_HEADERS)
    parts = [http2.frame(http2.DATA, message[at : at + 16000], stream=1) for at in range(0, len(message), 16000)]
    assert len(message) < 65535  # more would have to wait for the other side
    first = http2.PREFACE + http2.frame(http2.SETTINGS) + call + b"".join(parts)
    async with _open(program.grpc, count, first):
        await asyncio.sleep(count / 10)


async def tiny_requests(program: Program, count: int) -> None:
    """Requests of one small span, as fast as they go, over both transports."""
    body = export_request(otlp_span(77, 1, start_ns=START)).SerializeToString()
    async with (
        grpc.aio.insecure_channel(program.grpc) as channel,
        httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=20)) as client,
    ):
        call = channel.unary_unary(EXPORT)
        await asyncio.gather(
            _many(lambda _: call(body, timeout=60), count * 9 // 10),
            _many(lambda _: client.post(program.http, content=body, headers=PROTOBUF), count // 10, at_once=20),
        )


async def open_streams(program: Program, count: int) -> None:
    """Calls without end on a few connections, more than each may have, and nothing after their headers."""
    writers = [await http2.connect(program.grpc) for _ in range(4)]
    for stream in itertools.islice(http2.streams(), count // 4):
        call = http2.frame(http2.HEADERS, http2.header_block(), stream=stream, flags=http2.END_HEADERS)
        for writer in writers:
            await _write(writer, call)
    await asyncio.sleep(2)
    for writer in writers:
        writer.close()


async def rapid_reset(program: Program, count: int) -> None:
    """Calls that are cancelled as soon as they are begun (CVE-2023-44487)."""
    writer = await http2.connect(program.grpc)
    block = http2.header_block()
    for stream in itertools.islice(http2.streams(), count):
        call = http2.frame(http2.HEADERS, block, stream=stream, flags=http2.END_HEADERS)
        if not await _write(writer, call + http2.frame(http2.RST_STREAM, http2.CANCEL, stream=stream)):
            writer = await http2.connect(program.grpc)
        await asyncio.sleep(0)
    writer.close()


async def frame_floods(program: Program, count: int) -> None:
    """Pings, settings and empty headers without end, by clients that read nothing of the answers."""
    block = http2.header_block()
    floods = [
        http2.frame(http2.PING, bytes(8)),
        http2.frame(http2.SETTINGS, b"\0\4\0\1\0\0"),
        http2.frame(http2.WINDOW_UPDATE, b"\0\0\0\1"),
    ]
    for flood in floods:
        writer = await http2.connect(program.grpc, read=False)
        for _ in range(count // 1000):
            if not await _write(writer, flood * 1000):
                break
        writer.close()
    # Headers that never end.
    writer = await http2.connect(program.grpc, read=False)
    await _write(writer, http2.frame(http2.HEADERS, block, stream=1))
    for _ in range(count // 10):
        if not await _write(writer, http2.frame(http2.CONTINUATION, b"\0\1a\1b" * 100, stream=1)):
            break
    writer.close()


async def large_headers(program: Program, count: int) -> None:
    """Headers and metadata of a megabyte."""
    async with grpc.aio.insecure_channel(program.grpc) as channel, httpx.AsyncClient(timeout=20) as client:
        call = channel.unary_unary(EXPORT)
        await _many(lambda _: call(b"", metadata=(("x-long", "x" * MIB),), timeout=20), count // 2)
        await _many(
            lambda _: client.post(program.http, content=b"", headers={**PROTOBUF, "x-long": "x" * MIB}), count // 2
        )


async def heavy_spans(program: Program, count: int) -> None:
    """A million attributes, 100,000 spans, values nested too deep, values of 30 MB; by turns."""
    bodies = await asyncio.to_thread(_heavy_bodies)
    options = [("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(program.grpc, options=options) as channel:
        call = channel.unary_unary(EXPORT)
        await _many(lambda number: call(bodies[number % len(bodies)], timeout=60), count, at_once=4)


def _heavy_bodies() -> list[bytes]:
    span = otlp_span(78, 1, start_ns=START).SerializeToString()
    attributes = b"".join(delimited(9, b"\x0a\x06%06d\x12\x02\x18\x01" % number) for number in range(1_000_000))
    deep = AnyValue(string_value="deep").SerializeToString()
    for _ in range(20_000):
        deep = delimited(5, delimited(1, deep))
    long = delimited(9, delimited(1, b"long") + delimited(2, delimited(1, b"x" * 30_000_000)))
    return [
        _request([span + attributes]),
        _request([otlp_span(79, number, start_ns=START).SerializeToString() for number in range(1, 100_001)]),
        _request([span + delimited(9, delimited(1, b"deep") + delimited(2, deep))]),
        _request([span + long]),
        _request([span + b"\x5a\x00" * 10_000_000]),
    ]


def _request(spans: Iterable[bytes]) -> bytes:
    return delimited(1, delimited(2, b"".join(delimited(2, span) for span in spans)))


async def _many(send: Callable[[int], Awaitable[object]], count: int, at_once: int = _AT_ONCE) -> None:
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            with contextlib.suppress(grpc.aio.AioRpcError, httpx.HTTPError):
                await send(number)

    await asyncio.gather(*(work() for _ in range(at_once)))


@contextlib.asynccontextmanager
async def _open(address: str, count: int, first: bytes = b"") -> AsyncIterator[list[asyncio.StreamWriter]]:
    host, _, port = address.rpartition(":")
    writers: list[asyncio.StreamWriter] = []

    async def one(_: int) -> None:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(first)
            writers.append(writer)

    await _many(one, count)
    try:
        yield writers
    finally:
        for writer in writers:
            writer.transport.abort()


async def _trickle(writers: list[asyncio.StreamWriter], piece: bytes, seconds: int) -> None:
    for _ in range(seconds * 2):
        for writer in writers:
            if not writer.is_closing():
                writer.write(piece)
        await asyncio.sleep(0.5)


async def _write(writer: asyncio.StreamWriter, data: bytes) -> bool:
    """Whether the other side still listens."""
    try:
        writer.write(data)
        async with asyncio.timeout(5):
            await writer.drain()
    except (OSError, TimeoutError):
        return False
    return not writer.is_closing()
