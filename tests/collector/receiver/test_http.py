"""What is particular to OTLP over HTTP: media types, encodings, limits, methods, and the answers to what is refused."""

import gzip
import sys
import zlib
from collections.abc import AsyncIterator

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

import httpx
import pytest
import pytest_asyncio
from google.rpc.status_pb2 import Status

from support.running import Running
from support.telemetry import export_request, otlp_span

PROTOBUF = "application/x-protobuf"
START = 1_790_000_000_000_000_000


@pytest_asyncio.fixture
async def http(receiver: Running) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the OTLP port."""
    base = receiver.traces_url.removesuffix("/v1/traces")
    async with httpx.AsyncClient(base_url=base, headers={"content-type": PROTOBUF}) as client:
        yield client


@pytest.fixture
def body(trace: int) -> bytes:
    """A good request of one span."""
    return export_request(otlp_span(trace, 1, start_ns=START)).SerializeToString()


def _raw_deflate(data: bytes) -> bytes:
    """What some clients call deflate: without zlib's header and checksum."""
    return zlib.compress(data, wbits=-15)


def _refusal(answer: httpx.Response, status: int) -> str:
    assert (answer.status_code, answer.headers["content-type"]) == (status, PROTOBUF), answer.content
    assert "retry-after" not in answer.headers
    message: str = Status.FromString(answer.content).message
    return message


@pytest.mark.parametrize("media_type", [PROTOBUF, "application/x-protobuf; charset=utf-8", "Application/X-Protobuf"])
async def test_spellings_of_the_media_type(http: httpx.AsyncClient, body: bytes, media_type: str) -> None:
    answer = await http.post("/v1/traces", content=body, headers={"content-type": media_type})
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize("media_type", ["text/plain", "application/protobuf-nonsense", ""])
async def test_another_media_type(http: httpx.AsyncClient, body: bytes, media_type: str) -> None:
    answer = await http.post("/v1/traces", content=body, headers={"content-type": media_type})
    assert answer.status_code == 415
    assert PROTOBUF in answer.text


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
async def test_another_method(http: httpx.AsyncClient, method: str) -> None:
    answer = await http.request(method, "/v1/traces")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert "takes POST" in Status.FromString(answer.content).message


async def test_another_path(http: httpx.AsyncClient, body: bytes) -> None:
    for path in ("/v2/traces", "/", "/prefix/v1/traces"):
        assert "OTLP is taken at /v1/traces" in _refusal(await http.post(path, content=body), 404)
    assert "OTLP is taken at" in (await http.get("/", headers={"content-type": ""})).text


async def test_a_slash_at_the_end(http: httpx.AsyncClient, body: bytes) -> None:
    assert (await http.post("/v1/traces/", content=body)).status_code == 200


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [
        ("gzip", gzip.compress),
        ("GZIP", gzip.compress),
        ("x-gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", _raw_deflate),
        ("zlib", zlib.compress),
        ("zstd", zstd.compress),
        ("identity", bytes),
        ("", bytes),
    ],
)
async def test_encodings(
    http: httpx.AsyncClient, receiver: Running, body: bytes, trace: int, encoding: str, encode: type[bytes]
) -> None:
    headers = {"content-encoding": encoding} if encoding else {}
    answer = await http.post("/v1/traces", content=encode(body), headers=headers)
    assert (answer.status_code, answer.content) == (200, b"")
    rows = await receiver.rows("SELECT span_id FROM spans WHERE trace_id = {id:String}", id=f"{trace:032x}")
    assert len(rows) == 1


async def test_an_encoding_nobody_knows(http: httpx.AsyncClient, body: bytes) -> None:
    answer = await http.post("/v1/traces", content=body, headers={"content-encoding": "br"})
    assert "use gzip" in _refusal(answer, 400)


async def test_gzip_that_is_none(http: httpx.AsyncClient, body: bytes) -> None:
    answer = await http.post("/v1/traces", content=body, headers={"content-encoding": "gzip"})
    assert "not gzip data" in _refusal(answer, 400)


async def test_gzip_cut_short(http: httpx.AsyncClient, body: bytes) -> None:
    answer = await http.post("/v1/traces", content=gzip.compress(body)[:-9], headers={"content-encoding": "gzip"})
    assert "cut short" in _refusal(answer, 400)


async def test_gzip_in_two_members(http: httpx.AsyncClient, receiver: Running, trace: int) -> None:
    """Concatenated members are one gzip file (RFC 1952, 2.2)."""
    halves = [export_request(otlp_span(trace, number, start_ns=START)).SerializeToString() for number in (1, 2)]
    content = b"".join(gzip.compress(half) for half in halves)
    answer = await http.post("/v1/traces", content=content, headers={"content-encoding": "gzip"})
    assert answer.status_code == 200
    rows = await receiver.rows("SELECT span_id FROM spans WHERE trace_id = {id:String}", id=f"{trace:032x}")
    assert len(rows) == 2


async def test_gzip_with_something_behind_it(http: httpx.AsyncClient, body: bytes) -> None:
    answer = await http.post("/v1/traces", content=gzip.compress(body) + b"more", headers={"content-encoding": "gzip"})
    assert "not gzip data" in _refusal(answer, 400)


async def test_a_gzip_bomb_in_members(http: httpx.AsyncClient, receiver: Running) -> None:
    limit = receiver.collector._settings.max_request_bytes
    bomb = gzip.compress(bytes(limit // 2 + 1)) * 2
    assert "after decompression" in _refusal(
        await http.post("/v1/traces", content=bomb, headers={"content-encoding": "gzip"}), 413
    )


async def test_too_many_gzip_members(http: httpx.AsyncClient) -> None:
    content = gzip.compress(b"") * 10_000
    answer = await http.post("/v1/traces", content=content, headers={"content-encoding": "gzip"})
    assert "more than 2000 members" in _refusal(answer, 400)


async def test_zstd_in_two_frames(http: httpx.AsyncClient, receiver: Running, trace: int) -> None:
    """Concatenated frames, skippable ones among them, are one content (RFC 8878, 3.1)."""
    halves = [export_request(otlp_span(trace, number, start_ns=START)).SerializeToString() for number in (1, 2)]
    skippable = b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc"
    content = zstd.compress(halves[0]) + skippable + zstd.compress(halves[1])
    answer = await http.post("/v1/traces", content=content, headers={"content-encoding": "zstd"})
    assert answer.status_code == 200
    rows = await receiver.rows("SELECT span_id FROM spans WHERE trace_id = {id:String}", id=f"{trace:032x}")
    assert len(rows) == 2


@pytest.mark.parametrize("encoding", ["zstd", "deflate", "zlib"])
async def test_other_encodings_that_are_not_what_they_say(http: httpx.AsyncClient, body: bytes, encoding: str) -> None:
    good = zstd.compress(body) if encoding == "zstd" else zlib.compress(body)
    headers = {"content-encoding": encoding}
    assert f"not {encoding} data" in _refusal(await http.post("/v1/traces", content=body, headers=headers), 400)
    assert "cut short" in _refusal(await http.post("/v1/traces", content=good[:-3], headers=headers), 400)
    behind = await http.post("/v1/traces", content=good + b"more", headers=headers)
    assert f"not {encoding} data" in _refusal(behind, 400) or "cut short" in Status.FromString(behind.content).message


@pytest.mark.parametrize("encoding", ["zstd", "deflate"])
async def test_other_bombs(http: httpx.AsyncClient, receiver: Running, encoding: str) -> None:
    limit = receiver.collector._settings.max_request_bytes
    compress = zstd.compress if encoding == "zstd" else _raw_deflate
    for bomb in (compress(bytes(64 * limit)), compress(bytes(limit // 2 + 1)) * 2):
        answer = await http.post("/v1/traces", content=bomb, headers={"content-encoding": encoding})
        assert "after decompression" in _refusal(answer, 413)


async def test_a_zstd_window_larger_than_any_request(http: httpx.AsyncClient) -> None:
    """The frame's header alone asks for the memory; nothing of it is given."""
    frame = b"\x28\xb5\x2f\xfd\x00" + bytes([(30 - 10) << 3]) + b"\x01\x00\x00"
    answer = await http.post("/v1/traces", content=frame, headers={"content-encoding": "zstd"})
    assert "too much memory" in _refusal(answer, 400)


async def test_a_zero_byte_body_said_to_be_gzip(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/traces", content=b"", headers={"content-encoding": "gzip"})
    assert (answer.status_code, answer.content) == (200, b"")


async def test_a_body_over_the_limit(http: httpx.AsyncClient, receiver: Running) -> None:
    limit = receiver.collector._settings.max_request_bytes
    assert str(limit) in _refusal(await http.post("/v1/traces", content=bytes(limit + 1)), 413)


async def test_a_body_over_the_limit_in_pieces_without_a_length(http: httpx.AsyncClient, receiver: Running) -> None:
    limit = receiver.collector._settings.max_request_bytes

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(limit // 65536 + 2):
            yield bytes(65536)

    assert str(limit) in _refusal(await http.post("/v1/traces", content=pieces()), 413)


async def test_a_gzip_bomb(http: httpx.AsyncClient, receiver: Running) -> None:
    bomb = gzip.compress(bytes(64 * 1024 * 1024))
    assert len(bomb) < receiver.collector._settings.max_request_bytes // 10
    answer = await http.post("/v1/traces", content=bomb, headers={"content-encoding": "gzip"})
    assert "after decompression" in _refusal(answer, 413)


async def test_a_body_of_exactly_the_limit(http: httpx.AsyncClient, receiver: Running, trace: int) -> None:
    limit = receiver.collector._settings.max_request_bytes
    span = otlp_span(trace, 1, start_ns=START, attributes={"text": ""})
    room = limit - export_request(span).ByteSize() - 30
    span.attributes[0].value.string_value = "x" * room
    while (missing := limit - export_request(span).ByteSize()) != 0:
        span.attributes[0].value.string_value += "x" * missing
    answer = await http.post("/v1/traces", content=export_request(span).SerializeToString())
    assert answer.status_code == 200
    (row,) = await receiver.rows(
        "SELECT length(attributes['text']) AS n FROM spans WHERE trace_id = {id:String}", id=f"{trace:032x}"
    )
    assert row["n"] == len(span.attributes[0].value.string_value)


async def test_the_main_port_takes_traces_too(receiver: Running, body: bytes, trace: int) -> None:
    async with httpx.AsyncClient() as http:
        answer = await http.post(f"{receiver.url}/v1/traces", content=body, headers={"content-type": PROTOBUF})
    assert answer.status_code == 200
    rows = await receiver.rows("SELECT span_id FROM spans WHERE trace_id = {id:String}", id=f"{trace:032x}")
    assert len(rows) == 1


async def test_a_connection_is_used_again(http: httpx.AsyncClient, body: bytes) -> None:
    for _ in range(3):
        answer = await http.post("/v1/traces", content=body)
        assert answer.status_code == 200
        assert answer.headers.get("connection", "keep-alive") == "keep-alive"
