"""What the main process and a receiver process say to each other: lines of JSON over a pair of sockets.

A message has a key; while it waits to be sent, a later one with the same key takes its place. So what waits stays small
however slow the other side is, and nobody ever waits to say something.

To the receiver process: `start` (see `Order`), `stop`. From it: `serving`, `refused` (why it cannot start, one
sentence), `state` (every second), `report <log> <first>` (a segment's `Report`).
"""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

# Settings may hold long lists; nothing else comes near.
_MAX_LINE = 64 * 1024 * 1024


class Channel:
    """One end; the other is in another process."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._waiting: dict[str, Any] = {}
        self._work = asyncio.Event()
        self._closing = False
        self._sending = asyncio.create_task(self._send(), name="channel")

    @classmethod
    async def over(cls, end: socket.socket) -> "Channel":
        """A channel over one end of a socket pair, which it closes at its end."""
        end.setblocking(False)
        return cls(*await asyncio.open_unix_connection(sock=end, limit=_MAX_LINE))

    def say(self, key: str, content: Any = None) -> None:
        """Sends a message, soon. After the other side has gone nothing happens."""
        self._waiting[key] = content
        self._work.set()

    async def messages(self) -> AsyncIterator[tuple[str, Any]]:
        """Key and content of each message, until the other side has gone."""
        while True:
            try:
                line = await self._reader.readline()
            except ConnectionError:
                return
            if not line.endswith(b"\n"):
                return
            key, content = json.loads(line)
            yield key, content

    async def close(self, within: float = 1.0) -> None:
        """Sends what waits, for some seconds, and hangs up."""
        self._closing = True
        self._work.set()
        await asyncio.wait([self._sending], timeout=within)
        self._sending.cancel()
        await asyncio.wait([self._sending])
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def _send(self) -> None:
        with contextlib.suppress(OSError):
            while self._waiting or not self._closing:
                await self._work.wait()
                self._work.clear()
                lines = b"".join(json.dumps(message).encode() + b"\n" for message in self._waiting.items())
                self._waiting.clear()
                self._writer.write(lines)
                await self._writer.drain()
