"""OTLP over gRPC. Bytes, metadata, reply; nothing that the HTTP transport lacks."""

import asyncio
import logging
from collections.abc import Iterable
from functools import partial
from typing import Any

import grpc

from tracestone.collector import addresses
from tracestone.collector.auth.gate import Gate
from tracestone.collector.receiver import encoding, status
from tracestone.collector.receiver.budget import Held
from tracestone.collector.receiver.export import Exporter
from tracestone.collector.receiver.grpc_limits import GrpcLimits
from tracestone.collector.receiver.refusal import GuardedService
from tracestone.schema.errors import Invalid, StartRefused, TracestoneError, Unavailable

logger = logging.getLogger(__name__)

_TRANSPORT = "grpc"
EXPERIMENT_HEADER = "x-mlflow-experiment-id"
# The last resort against many calls at once; the budget of bytes refuses before.
_MAX_CALLS = 2000


class GrpcReceiver:
    """The gRPC server. Its messages stay bytes, so that a bad one is answered by us and not by grpc's own error."""

    def __init__(
        self,
        exporters: Iterable[Exporter],
        *,
        gate: Gate,
        host: str,
        port: int,
        limits: GrpcLimits,
        credentials: grpc.ServerCredentials | None = None,
        shared: bool = False,
    ) -> None:
        """`shared`: other processes may listen there too (see `processes.ports`)."""
        self._credentials = credentials
        self._shared = shared
        self._max_request_bytes = limits.max_request_bytes
        self._host = host
        self._address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        options = (*limits.options(), ("grpc.so_reuseport", int(shared)))
        self._server = grpc.aio.server(options=options, compression=grpc.Compression.NoCompression)
        services = [GuardedService(self._service(exporter), gate) for exporter in exporters]
        self._server.add_generic_rpc_handlers(services)
        self.port = port
        self.running = False
        self.calls = 0

    async def start(self) -> None:
        """Binds and serves. Raises StartRefused when the address cannot be had."""
        problem = "" if self._shared else await asyncio.to_thread(addresses.problem, self._host, self.port)
        try:
            if not problem:
                self.port = self._listen()
        except RuntimeError:
            problem = "the address cannot be used"
        if problem:
            raise StartRefused(f"OTLP/gRPC cannot listen on {self._address}: {problem}.")
        await self._server.start()
        self.running = True

    def _listen(self) -> int:
        if self._credentials is None:
            return self._server.add_insecure_port(self._address)
        return self._server.add_secure_port(self._address, self._credentials)

    async def stop(self, grace: float) -> None:
        """Refuses new requests, lets running ones finish for `grace` seconds. Safe to call twice."""
        self.running = False
        await self._server.stop(grace)

    def _service(self, exporter: Exporter) -> grpc.GenericRpcHandler:
        # A stream, of which one message is read: so it is we who read it, and give it a time.
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_unary_rpc_method_handler(
            partial(self._export, exporter)
        )
        return grpc.method_handlers_generic_handler(exporter.signal.service, {"Export": handler})

    async def _export(self, exporter: Exporter, _: object, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        outcome = await self._outcome(exporter, context)
        if isinstance(outcome, bytes):
            return outcome
        # grpc keeps what abort raises in a circle of references, and with it all that this function holds: nothing.
        await context.abort(outcome.code, outcome.status.message, status.trailing_metadata(outcome))

    async def _outcome(self, exporter: Exporter, context: grpc.aio.ServicerContext[Any, Any]) -> bytes | status.Failure:
        """What the answer says, or why there is none."""
        self.calls += 1
        try:
            if self.calls > _MAX_CALLS:
                raise Unavailable("Too many requests at once; try again.")
            with exporter.budget.request() as held:
                data = await self._message(exporter, context, held)
                exporter.counts.sender(_metadata(context, "user-agent") or "")
                accepted = await exporter.export(data, _metadata(context, EXPERIMENT_HEADER))
                exporter.counts.took(_TRANSPORT, exporter.signal.name, len(data), accepted.items, accepted.rejected)
            answer: bytes = status.response(exporter.signal, accepted).SerializeToString()
            return answer
        except TracestoneError as error:
            return _failure(exporter, error)
        except Exception as error:
            logger.exception("a request failed", extra={"action": "export", "signal": exporter.signal.name})
            return _failure(exporter, error)
        finally:
            self.calls -= 1

    async def _message(self, exporter: Exporter, context: grpc.aio.ServicerContext[Any, Any], held: Held) -> bytes:
        async with exporter.arrivals.body(held):
            data = await context.read()
        if data is grpc.aio.EOF:
            raise Invalid("", "The call ended without a request.")
        held.take(len(data))
        return await encoding.decompress_message(data, self._max_request_bytes, held)


def _failure(exporter: Exporter, error: Exception) -> status.Failure:
    exporter.counts.refused(_TRANSPORT, exporter.signal.name, error)
    return status.failure(error)


def _metadata(context: grpc.aio.ServicerContext[Any, Any], name: str) -> str | None:
    for key, value in context.invocation_metadata() or ():
        if key == name:
            return value if isinstance(value, str) else value.decode("ascii", "replace")
    return None
