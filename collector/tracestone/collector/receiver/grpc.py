"""OTLP over gRPC. Bytes, metadata, reply; nothing that the HTTP transport lacks."""

import logging
from typing import Any

import grpc

from tracestone.collector.receiver import status
from tracestone.collector.receiver.export import Exporter
from tracestone.schema.errors import StartRefused, TracestoneError

logger = logging.getLogger(__name__)

EXPERIMENT_HEADER = "x-mlflow-experiment-id"
_SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"
_OPTIONS = (
    # Exporters and Collectors keep connections open with pings that grpc's defaults punish.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.so_reuseport", 0),
)


class GrpcReceiver:
    """The gRPC server. Its messages stay bytes, so that a bad one is answered by us and not by grpc's own error."""

    def __init__(self, exporter: Exporter, *, host: str, port: int, max_request_bytes: int) -> None:
        self._exporter = exporter
        self._address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._server = grpc.aio.server(
            options=[*_OPTIONS, ("grpc.max_receive_message_length", max_request_bytes)],
            compression=grpc.Compression.NoCompression,
        )
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(self._export)
        self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(_SERVICE, {"Export": handler})])
        self.port = port

    async def start(self) -> None:
        """Binds and serves. Raises StartRefused when the port is taken."""
        try:
            self.port = self._server.add_insecure_port(self._address)
        except RuntimeError as error:
            raise StartRefused(f"OTLP/gRPC cannot listen on {self._address}: the port is taken.") from error
        await self._server.start()

    async def stop(self, grace: float) -> None:
        """Refuses new requests, lets running ones finish for `grace` seconds. Safe to call twice."""
        await self._server.stop(grace)

    async def _export(self, data: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        try:
            return status.response(await self._exporter.export(data, _experiment(context)))
        except TracestoneError as error:
            outcome = status.failure(error)
        except Exception as error:
            logger.exception("a trace request failed", extra={"action": "export"})
            outcome = status.failure(error)
        await context.abort(outcome.code, outcome.status.message, status.trailing_metadata(outcome))


def _experiment(context: grpc.aio.ServicerContext[Any, Any]) -> str | None:
    for key, value in context.invocation_metadata() or ():
        if key == EXPERIMENT_HEADER:
            return value if isinstance(value, str) else value.decode("ascii", "replace")
    return None
