"""Whether an address can be listened on, and why not, in words for the operator."""

import errno
import socket

Address = tuple[socket.AddressFamily, socket.SocketKind, tuple[object, ...]]


def resolved(host: str, port: int) -> Address:
    """Family, kind and address of the first way to listen there. Raises OSError."""
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    return family, kind, address


def problem(host: str, port: int) -> str:
    """Why nobody could listen there now, "" when it seems possible. Blocking."""
    try:
        family, kind, address = resolved(host, port)
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return reason(error)
    return ""


def reason(error: OSError) -> str:
    """What an error of listening means."""
    return "the port is taken" if error.errno == errno.EADDRINUSE else error.strerror or "no such address"
