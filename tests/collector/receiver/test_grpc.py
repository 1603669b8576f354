"""What is particular to OTLP over gRPC: limits, compression, unknown services."""

import asyncio

import grpc
import pytest

from support import http2
from support.api_keys import open_gate
from support.running import EXPORT, Running, grpc_export
from support.telemetry import export_request, otlp_span
from tracestone.collector.receiver.arrivals import Arrivals
from tracestone.collector.receiver.budget import Budget
from tracestone.collector.receiver.export import Exporter, Work
from tracestone.collector.receiver.grpc import GrpcReceiver
from tracestone.collector.receiver.grpc_limits import GrpcLimits
from tracestone.collector.receiver.pieces import Limits
from tracestone.collector.signals.traces import TRACES
from tracestone.collector.wal.receipt import ReceiptClock
from tracestone.schema.errors import StartRefused

START = 1_790_000_000_000_000_000


async def _refused(
    address: str, body: bytes, compression: grpc.Compression = grpc.Compression.NoCompression
) -> grpc.aio.AioRpcError:
    async with grpc_export(address, compression) as export:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await export(body)
    return refused.value


def _retried(error: grpc.aio.AioRpcError) -> bool:
    return any("retryinfo" in str(key).lower() for key, _ in error.trailing_metadata() or ())


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
async def test_a_message_over_the_limit(receiver: Running, compression: grpc.Compression) -> None:
    limit = receiver.collector._settings.max_request_bytes
    error = await _refused(receiver.grpc_address, bytes(limit + 1), compression)
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert not _retried(error)


async def test_a_gzip_bomb(receiver: Running) -> None:
    error = await _refused(receiver.grpc_address, bytes(64 * 1024 * 1024), grpc.Compression.Gzip)
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert not _retried(error)


@pytest.mark.parametrize("name", ["zstd", "snappy", "lz4"])
async def test_what_grpc_s_core_says_of_other_compressions(receiver: Running, name: str) -> None:
    # Not what gRPC's rules say, and not ours to change; docs/otlp.md tells what to do.
    reader, writer = await asyncio.open_connection(*receiver.grpc_address.split(":"))
    call = http2.frame(http2.HEADERS, http2.header_block(**{"grpc-encoding": name}), stream=1, flags=http2.END_HEADERS)
    message = http2.frame(http2.DATA, b"\1\0\0\0\4abcd", stream=1, flags=http2.END_STREAM)
    writer.write(http2.PREFACE + http2.frame(http2.SETTINGS) + call + message)
    said = b""
    async with asyncio.timeout(10):
        while b"grpc-message" not in said:
            said += await reader.read(65536)
    writer.close()
    assert b"grpc-status\x0213" in said
    assert b"Error parsing 'grpc-encoding' metadata" in said
    assert b"grpc-accept-encoding" not in said


@pytest.mark.parametrize(
    "path",
    [
        "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export",
        "/opentelemetry.proto.collector.logs.v1.LogsService/Import",
        EXPORT + "s",
    ],
)
async def test_what_is_not_served_is_unimplemented(receiver: Running, path: str) -> None:
    async with grpc.aio.insecure_channel(receiver.grpc_address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_unary(path)(b"")
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("host", "reason"), [("no-such-host.invalid", "ot known"), ("192.0.2.1", "assign requested address")]
)
async def test_an_address_that_is_not_ours_is_not_called_taken(receiver: Running, host: str, reason: str) -> None:
    exporter = Exporter(TRACES, None, None, ReceiptClock.alone(), limits=Limits(), work=Work(Arrivals(Budget(1))))  # type: ignore[arg-type]
    server = GrpcReceiver([exporter], gate=open_gate(), host=host, port=0, limits=GrpcLimits())
    with pytest.raises(StartRefused, match=f"cannot listen on {host}:0: .*{reason}"):
        await server.start()
    assert not server.running


async def test_metadata_is_bounded(receiver: Running) -> None:
    async with grpc_export(receiver.grpc_address) as export:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await export(b"", metadata=(("x-long", "x" * 40_000),))
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_many_requests_on_one_connection(receiver: Running, trace: int) -> None:
    async with grpc_export(receiver.grpc_address) as export:
        calls = [
            export(export_request(otlp_span(trace, number, start_ns=START)).SerializeToString())
            for number in range(1, 101)
        ]
        assert [await call for call in calls] == [b""] * 100
    (row,) = await receiver.rows("SELECT count() AS n FROM spans WHERE trace_id = {id:String}", id=f"{trace:032x}")
    assert row["n"] == 100
