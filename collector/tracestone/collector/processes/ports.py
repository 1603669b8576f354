"""Ports that several processes of ours listen on: the kernel spreads connections over them."""

import socket
from types import TracebackType

from tracestone.collector import addresses
from tracestone.schema.errors import StartRefused


class SharedPort:
    """Keeps a port for our processes, whichever of them listen at the moment. Takes no connection itself."""

    def __init__(self, name: str, host: str, port: int) -> None:
        """Raises StartRefused when the address cannot be had."""
        # Sockets that share a port never find it taken, so one that does not share looks first.
        problem = addresses.problem(host, port)
        if problem:
            raise StartRefused(f"{name} cannot listen on {host}:{port}: {problem}.")
        family, kind, address = addresses.resolved(host, port)
        self._socket = socket.socket(family, kind)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            self._socket.bind(address)
        except OSError as error:
            self._socket.close()
            raise StartRefused(f"{name} cannot listen on {host}:{port}: {addresses.reason(error)}.") from error
        self.number: int = self._socket.getsockname()[1]

    def __enter__(self) -> "SharedPort":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
