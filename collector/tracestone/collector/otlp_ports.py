"""The two OTLP ports of one process: gRPC and HTTP over the same receivers."""

import asyncio

from tracestone.collector import web
from tracestone.collector.connections import HttpLimits
from tracestone.collector.doors import Doors
from tracestone.collector.http_server import HttpServer
from tracestone.collector.receiver.receivers import Receivers
from tracestone.schema.settings import Settings

_GRPC_GRACE_SECONDS = 2.0


class OtlpPorts:
    """Listens between `start` and `stop`; with `shared`, beside other processes on the same ports."""

    def __init__(self, settings: Settings, receivers: Receivers, doors: Doors, *, shared: bool = False) -> None:
        self._grpc = receivers.grpc
        self._http = HttpServer(
            doors.otlp(web.otlp_app(receivers.http)),
            host=settings.host,
            port=settings.otlp_http_port,
            name="otlp",
            limits=HttpLimits.of(settings),
            shared=shared,
            tls=doors.context(),
        )

    @property
    def grpc_port(self) -> int:
        """Where gRPC listens."""
        return self._grpc.port

    @property
    def http_port(self) -> int:
        """Where HTTP listens."""
        return self._http.port

    async def start(self) -> None:
        """Listens. Raises StartRefused when a port is taken; call `stop` then too."""
        await self._grpc.start()
        await self._http.start()

    def end_soon(self) -> None:
        """Nothing: who is in the same process as the other ports is stopped when its turn comes."""

    async def stop(self) -> None:
        """Refuses new requests, lets running ones finish for some seconds. Safe to call twice."""
        await asyncio.gather(self._grpc.stop(_GRPC_GRACE_SECONDS), self._http.stop())

    def problems(self) -> dict[str, str]:
        """For each port what is wrong with it, "" when it serves."""
        return {
            "grpc_otlp": "" if self._grpc.running else "does not serve",
            "http_otlp": "" if self._http.running else "does not serve",
        }
