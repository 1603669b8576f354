"""OTLP over gRPC. Bytes, metadata, reply; nothing that the HTTP transport lacks."""

import asyncio
import errno
import logging
import socket
from collections.abc import Iterable
from functools import partial
from typing import Any

import grpc

from tracestone.collector.receiver import status
from tracestone.collector.receiver.export import Exporter
from tracestone.schema.errors import StartRefused, TracestoneError

logger = logging.getLogger(__name__)

EXPERIMENT_HEADER = "x-mlflow-experiment-id"
_OPTIONS = (
    # Exporters and Collectors keep connections open with pings that grpc's defaults punish.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.so_reuseport", 0),
    # A client's further calls wait on its side, where grpc's refusal would not tell it to try again.
    ("grpc.max_concurrent_streams", 100),
    ("grpc.max_metadata_size", 16 * 1024),
)
# The last resort against many connections; the budget of bytes refuses before, and as retryable.
_MAX_CALLS = 2000


class GrpcReceiver:
    """The gRPC server. Its messages stay bytes, so that a bad one is answered by us and not by grpc's own error."""

    def __init__(self, exporters: Iterable[Exporter], *, host: str, port: int, max_request_bytes: int) -> None:
        self._host = host
        self._address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._server = grpc.aio.server(
            options=[*_OPTIONS, ("grpc.max_receive_message_length", max_request_bytes)],
            compression=grpc.Compression.NoCompression,
            maximum_concurrent_rpcs=_MAX_CALLS,
        )
        self._server.add_generic_rpc_handlers([_service(exporter) for exporter in exporters])
        self.port = port
        self.running = False

    async def start(self) -> None:
        """Binds and serves. Raises StartRefused when the address cannot be had."""
        problem = await asyncio.to_thread(_problem, self._host, self.port)
        try:
            if not problem:
                self.port = self._server.add_insecure_port(self._address)
        except RuntimeError:
            problem = "the address cannot be used"
        if problem:
            raise StartRefused(f"OTLP/gRPC cannot listen on {self._address}: {problem}.")
        await self._server.start()
        self.running = True

    async def stop(self, grace: float) -> None:
        """Refuses new requests, lets running ones finish for `grace` seconds. Safe to call twice."""
        self.running = False
        await self._server.stop(grace)


def _service(exporter: Exporter) -> grpc.GenericRpcHandler:
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(partial(_export, exporter))
    return grpc.method_handlers_generic_handler(exporter.signal.service, {"Export": handler})


async def _export(exporter: Exporter, data: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
    try:
        with exporter.budget.request() as held:
            held.take(len(data))
            return status.response(exporter.signal, await exporter.export(data, _experiment(context)))
    except TracestoneError as error:
        outcome = status.failure(error)
    except Exception as error:
        logger.exception("a request failed", extra={"action": "export", "signal": exporter.signal.name})
        outcome = status.failure(error)
    await context.abort(outcome.code, outcome.status.message, status.trailing_metadata(outcome))


def _problem(host: str, port: int) -> str:
    """Why nobody could listen there, "" when it seems possible; grpc itself tells only that it could not."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return "the port is taken" if error.errno == errno.EADDRINUSE else error.strerror or "no such address"
    return ""


def _experiment(context: grpc.aio.ServicerContext[Any, Any]) -> str | None:
    for key, value in context.invocation_metadata() or ():
        if key == EXPERIMENT_HEADER:
            return value if isinstance(value, str) else value.decode("ascii", "replace")
    return None
