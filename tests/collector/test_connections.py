"""One HTTP port and clients that mean it ill: whoever sends requests is served, and what is held is bounded."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from support.certificates import Authority
from tracestone.collector.connections import HttpLimits
from tracestone.collector.http_server import HttpServer

PLACES = 8
LIMITS = HttpLimits(
    max_connections=PLACES, max_header_bytes=4096, max_header_seconds=1, max_body_seconds=1, max_idle_seconds=2
)
GET = b"GET /quick HTTP/1.1\r\nhost: x\r\n\r\n"
Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _quick(_: Request) -> Response:
    return PlainTextResponse("done")


async def _waits(request: Request) -> Response:
    await asyncio.sleep(float(request.query_params["seconds"]))
    return PlainTextResponse("waited")


async def _reads(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


async def _refuses(_: Request) -> Response:
    return PlainTextResponse("too large", status_code=413)


async def _large(_: Request) -> Response:
    return Response(bytes(64 * 1024 * 1024))


@pytest_asyncio.fixture
async def server() -> AsyncIterator[HttpServer]:
    app = Starlette(
        routes=[
            Route("/quick", _quick),
            Route("/waits", _waits),
            Route("/reads", _reads, methods=["POST"]),
            Route("/refuses", _refuses, methods=["POST"]),
            Route("/large", _large),
        ]
    )
    started = HttpServer(app, host="127.0.0.1", port=0, name="test", limits=LIMITS)
    await started.start()
    yield started
    await started.stop()
    assert len(started.connections) == 0


@asynccontextmanager
async def _connections(server: HttpServer, count: int, first: bytes = b"") -> AsyncIterator[list[Pair]]:
    """Connections that have sent `first` and nothing else."""
    pairs = []
    for _ in range(count):
        pairs.append(await asyncio.open_connection("127.0.0.1", server.port))
        pairs[-1][1].write(first)
    try:
        yield pairs
    finally:
        for _, writer in pairs:
            writer.close()


async def _rest(pair: Pair, seconds: float = 5) -> bytes:
    """All that the server says until it closes."""
    async with asyncio.timeout(seconds):
        try:
            return await pair[0].read()
        except ConnectionResetError:
            return b""


async def _served(server: HttpServer) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=5) as client:
        assert (await client.get("/quick")).text == "done"


@pytest.mark.parametrize("said", [b"", b"GET /quick HTTP/1.1\r\nhost:"], ids=["nothing", "half a header"])
@pytest.mark.parametrize("served", [0, 1])
async def test_headers_have_a_time(server: HttpServer, said: bytes, served: int) -> None:
    async with _connections(server, 1, served * GET) as (pair,):
        if served:
            await pair[0].readuntil(b"done")
        pair[1].write(said)
        answer = await _rest(pair, 2.5)
    if served and not said:
        assert (answer, server.connections.timed_out) == (b"", 0)  # it was idle
    elif not said:
        assert (answer, server.connections.timed_out) == (b"", 1)
    else:
        assert answer == b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        assert server.connections.timed_out == 1


async def test_headers_that_trickle_have_the_same_time(server: HttpServer) -> None:
    async with _connections(server, 1) as ((reader, writer),):
        begun = asyncio.get_running_loop().time()
        with pytest.raises(ConnectionError):
            for byte in b"GET /quick HTTP/1.1\r\n" + b"x: y\r\n" * 100:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.05)
        assert asyncio.get_running_loop().time() - begun < 4
        del reader


async def test_a_body_that_nobody_gives_up_is_cut_off(server: HttpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracestone.collector.connections._BODY_GRACE_SECONDS", 0)
    head = b"POST /reads HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nabc"
    async with _connections(server, 1, head) as (pair,):
        assert await _rest(pair, 3) == b""
    assert server.connections.timed_out == 1


async def test_a_body_after_its_answer_is_not_read_for_ever(server: HttpServer) -> None:
    head = b"POST /refuses HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    async with _connections(server, 1, head) as ((reader, writer),):
        assert b"413" in await reader.readuntil(b"too large")
        with pytest.raises(ConnectionError):
            for _ in range(100):
                writer.write(b"1\r\nx\r\n")
                await writer.drain()
                await asyncio.sleep(0.05)


async def test_an_answer_that_is_not_taken_is_dropped(server: HttpServer) -> None:
    async with _connections(server, 1, b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n"):
        async with asyncio.timeout(5):
            while not server.connections.timed_out:
                await asyncio.sleep(0.05)
            while len(server.connections):
                await asyncio.sleep(0.05)


async def test_large_headers_are_refused(server: HttpServer) -> None:
    head = b"GET /quick HTTP/1.1\r\nhost: x\r\nlong: " + b"x" * 70_000
    async with _connections(server, 1, head) as (pair,):
        assert b"431 Request Header Fields Too Large" in await _rest(pair)
    many = b"GET /quick HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 2000
    async with _connections(server, 1, many) as (pair,):
        assert b"431" in await _rest(pair)


async def test_what_is_not_http_is_refused(server: HttpServer) -> None:
    async with _connections(server, 1, b"\x16\x03\x01 hello\r\n\r\n") as (pair,):
        assert b"400 Bad Request" in await _rest(pair)


async def test_waiting_connections_make_room(server: HttpServer) -> None:
    async with _connections(server, 40 * PLACES, b"GET /quick HTTP/1.1\r\n") as pairs:
        await asyncio.sleep(0.1)
        assert len(server.connections) == PLACES
        assert server.connections.dropped == 39 * PLACES
        await _served(server)
        assert await _rest(pairs[0]) == b""


async def test_connections_with_a_request_in_work_keep_their_place(server: HttpServer) -> None:
    head = b"GET /waits?seconds=1.5 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    async with _connections(server, PLACES, head) as served:
        await asyncio.sleep(0.2)
        async with _connections(server, 2, GET) as others:
            for each in others:
                answer = await _rest(each)
                assert b"503 Service Unavailable\r\nretry-after: 1\r\n" in answer or answer == b""
        assert server.connections.refused == 2
        for each in served:
            assert (await _rest(each)).endswith(b"waited")
    await _served(server)


async def test_a_handshake_has_a_time(tmp_path: Path) -> None:
    chain, key = Authority("test").issue().write(tmp_path, "server")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(chain, key)
    app = Starlette(routes=[Route("/quick", _quick)])
    server = HttpServer(app, host="127.0.0.1", port=0, name="test", limits=LIMITS, tls=context)
    await server.start()
    try:
        async with _connections(server, 1) as (pair,):
            assert await _rest(pair, 3) == b""
        async with httpx.AsyncClient(base_url=f"https://127.0.0.1:{server.port}", verify=False) as client:
            assert (await client.get("/quick")).text == "done"
    finally:
        await server.stop()


async def test_requests_sent_ahead_are_answered_in_order(server: HttpServer) -> None:
    """And are in work while they are, so that they do not count as waiting."""
    ahead = GET * 3 + b"GET /waits?seconds=1.5 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    async with _connections(server, 1, ahead) as (pair,):
        await asyncio.sleep(0.2)
        async with _connections(server, 3 * PLACES):
            answer = await _rest(pair)
    assert (answer.count(b"done"), answer.count(b"waited")) == (3, 1)


async def test_a_connection_goes_on_after_its_times(server: HttpServer) -> None:
    """No clock of one request runs into the next."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=5) as client:
        for _ in range(4):
            assert (await client.get("/quick")).status_code == 200
            assert (await client.post("/reads", content=b"12345")).text == "5"
            await asyncio.sleep(0.6)
        assert (await client.get("/waits?seconds=2.2")).text == "waited"
    assert server.connections.timed_out == server.connections.dropped == 0
