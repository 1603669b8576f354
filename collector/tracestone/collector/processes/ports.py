"""Ports that several processes of ours listen on: the kernel spreads connections over them."""

import errno
import socket
from types import TracebackType

from tracestone.schema.errors import StartRefused


class SharedPort:
    """Keeps a port for our processes, whichever of them listen at the moment. Takes no connection itself."""

    def __init__(self, name: str, host: str, port: int) -> None:
        """Raises StartRefused when the address cannot be had."""
        try:
            family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            # Sockets that share a port never find it taken, so one that does not share looks first.
            with socket.socket(family, kind) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        except OSError as error:
            raise _refusal(name, host, port, error) from error
        self._socket = socket.socket(family, kind)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            self._socket.bind(address)
        except OSError as error:
            self._socket.close()
            raise _refusal(name, host, port, error) from error
        self.number: int = self._socket.getsockname()[1]

    def __enter__(self) -> "SharedPort":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()


def _refusal(name: str, host: str, port: int, error: OSError) -> StartRefused:
    why = "the port is taken" if error.errno == errno.EADDRINUSE else error.strerror or "no such address"
    return StartRefused(f"{name} cannot listen on {host}:{port}: {why}.")
