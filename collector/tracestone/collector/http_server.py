"""One HTTP server of the process: uvicorn on a socket that we bind, without its hold on signals."""

import asyncio
import contextlib
import functools
import socket
import ssl
from collections.abc import Callable, Iterator

import uvicorn
from starlette.types import ASGIApp

from tracestone.collector import addresses
from tracestone.collector.connections import Connections, HttpLimits
from tracestone.schema.errors import StartRefused

_GRACE_SECONDS = 3


class HttpServer:
    """Serves an ASGI application on one address between `start` and `stop`."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        host: str,
        port: int,
        name: str,
        limits: HttpLimits | None = None,
        shared: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`shared`: other processes may listen there too (see `processes.ports`)."""
        limits = limits or HttpLimits()
        self.connections = Connections(limits)
        self.name = name
        self._host = host
        self._shared = shared
        self.port = port
        self._server = _Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="off",
                timeout_keep_alive=limits.max_idle_seconds,
                timeout_graceful_shutdown=_GRACE_SECONDS,
                http=self.connections.protocol,  # type: ignore[arg-type]
                ws="none",
                h11_max_incomplete_event_size=limits.max_header_bytes,
                backlog=1024,
                ssl_context_factory=None if tls is None else lambda config, default: tls,
            ),
            limits.max_header_seconds,
        )
        self._task: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        """Whether requests are served."""
        return self._task is not None and not self._task.done() and self._server.started

    async def start(self) -> None:
        """Binds and serves. Raises StartRefused when the port is taken."""
        listener = self._bind()
        self.port = listener.getsockname()[1]
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]), name=f"http {self.name}")
        # uvicorn tells that it serves by an attribute alone.
        while not self._server.started and not self._task.done():  # noqa: ASYNC110
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        """Refuses new connections, lets running requests finish for a few seconds. Safe to call twice."""
        self._server.should_exit = True
        if self._task is not None:
            await asyncio.wait([self._task], timeout=_GRACE_SECONDS + 1)

    def _bind(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self._shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            listener.bind((self._host, self.port))
        except OSError as error:
            listener.close()
            why = addresses.reason(error)
            raise StartRefused(f"{self.name} cannot listen on {self._host}:{self.port}: {why}.") from error
        return listener


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, handshake_seconds: float) -> None:
        super().__init__(config)
        self._handshake_seconds = handshake_seconds

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listens as uvicorn does, and gives TLS's handshake a time of ours."""
        loop = asyncio.get_running_loop()
        made: Callable[..., asyncio.Protocol] = self.config.http_protocol_class
        protocol = functools.partial(made, config=self.config, server_state=self.server_state, app_state={})
        seconds = None if self.config.ssl is None else self._handshake_seconds
        self.servers = [
            await loop.create_server(
                protocol, sock=each, ssl=self.config.ssl, ssl_handshake_timeout=seconds, backlog=self.config.backlog
            )
            for each in sockets or ()
        ]
        self.started = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to the command line."""
        yield
