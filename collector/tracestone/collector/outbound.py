"""One HTTP POST to somebody else, bounded in time and in what is read of the answer; redirects are not followed.

The name is resolved here and the connection made to the address that was looked at, so a name cannot stand for another
address a moment later. Proxies of the environment are not used.
"""

import asyncio
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from ipaddress import IPv4Address, IPv6Address, ip_address
from socket import SOCK_STREAM
from urllib.parse import SplitResult, urlsplit

import h11

MOST_ANSWER_BYTES = 64 * 1024
Address = IPv4Address | IPv6Address


@dataclass(frozen=True)
class Answer:
    """What came back: header names in lower case, the first `MOST_ANSWER_BYTES` of the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def retry_after(self) -> float | None:
        """Seconds that the receiver asks to wait, if it says so in seconds."""
        text = self.headers.get("retry-after", "")
        return float(text) if text.isascii() and text.isdigit() and len(text) < 7 else None


class NotReached(Exception):
    """No answer: the message says why, and names no secret."""


class NotAllowed(Exception):
    """The address is none that may be asked."""


async def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    seconds: float,
    allowed: Callable[[Address], bool] = lambda address: True,
) -> Answer:
    """Posts to an http or https address. Raises NotReached, NotAllowed."""
    try:
        async with asyncio.timeout(seconds):
            return await _post(url, body, headers, allowed)
    except TimeoutError as error:
        raise NotReached(f"no answer within {seconds:g} seconds") from error
    except ssl.SSLError as error:
        raise NotReached(f"TLS failed: {getattr(error, 'verify_message', '') or error.reason}") from error
    except OSError as error:
        raise NotReached(error.strerror or type(error).__name__) from error
    except h11.RemoteProtocolError as error:
        raise NotReached("the answer is no HTTP") from error


async def _post(url: str, body: bytes, headers: Mapping[str, str], allowed: Callable[[Address], bool]) -> Answer:
    parts = urlsplit(url)
    host, secure = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=SOCK_STREAM)
    addresses = [str(each[4][0]) for each in found]
    good = [address for address in addresses if allowed(ip_address(address.partition("%")[0]))]
    if not good:
        raise NotAllowed(f"{host} has no address that may be asked")
    tls, name = (_tls(), host) if secure else (None, None)
    reader, writer = await asyncio.open_connection(good[0], port, ssl=tls, server_hostname=name)
    try:
        connection = h11.Connection(h11.CLIENT)
        writer.write(_request(connection, parts, body, headers))
        await writer.drain()
        return await _answer(connection, reader)
    finally:
        writer.close()


def _request(connection: h11.Connection, parts: SplitResult, body: bytes, headers: Mapping[str, str]) -> bytes:
    told = {
        "host": parts.netloc.rpartition("@")[2],
        "user-agent": f"tracestone/{version('tracestone')}",
        "content-length": str(len(body)),
        "connection": "close",
        **headers,
    }
    path = parts.path or "/"
    target = f"{path}?{parts.query}" if parts.query else path
    events = (
        h11.Request(method="POST", target=target, headers=list(told.items())),
        h11.Data(data=body),
        h11.EndOfMessage(),
    )
    return b"".join(connection.send(event) or b"" for event in events)


async def _answer(connection: h11.Connection, reader: asyncio.StreamReader) -> Answer:
    head: h11.Response | None = None
    body = b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(MOST_ANSWER_BYTES))
        elif isinstance(event, h11.Response):
            head = event
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.ConnectionClosed):
            raise NotReached("the connection was closed without an answer")
        if head is not None and (len(body) >= MOST_ANSWER_BYTES or isinstance(event, h11.EndOfMessage)):
            told = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
            return Answer(head.status_code, told, body[:MOST_ANSWER_BYTES])


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()
