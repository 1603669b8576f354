"""HTTP/2 by hand, for clients that no library would be: frames in any order, streams without end, idle pings."""

import asyncio
from collections.abc import Iterator

from support.running import EXPORT

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 8, 9
END_STREAM, END_HEADERS = 1, 4
CANCEL = (8).to_bytes(4, "big")


def frame(kind: int, payload: bytes = b"", *, stream: int = 0, flags: int = 0) -> bytes:
    """One frame."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def header_block(**more: str) -> bytes:
    """The headers of a call of Export, each as a literal that the server remembers nothing of."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": EXPORT,
        ":authority": "x",
        "te": "trailers",
        "content-type": "application/grpc",
        **more,
    }
    return b"".join(b"\0" + _text(name) + _text(value) for name, value in fields.items())


def streams() -> Iterator[int]:
    """The numbers that a client may give to its streams."""
    return iter(range(1, 2**31, 2))


async def connect(address: str, *, read: bool = True) -> asyncio.StreamWriter:
    """A connection that has said HTTP/2's first words. What comes back is thrown away, or never read."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(PREFACE + frame(SETTINGS) + frame(SETTINGS, flags=1))
    if read:
        task = asyncio.create_task(_drain(reader))
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)
    return writer


_tasks: set[asyncio.Task[None]] = set()


async def _drain(reader: asyncio.StreamReader) -> None:
    try:
        while await reader.read(65536):
            pass
    except OSError:
        pass


def _text(text: str) -> bytes:
    raw = text.encode()
    if len(raw) < 127:
        return bytes([len(raw)]) + raw
    rest, out = len(raw) - 127, bytearray([127])
    while rest >= 128:
        out.append(rest % 128 | 128)
        rest //= 128
    out.append(rest)
    return bytes(out) + raw
