"""A relay before an HTTP port that outlives what is behind it, and tells which request was answered with what."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class _Connection:
    """What has passed, in each direction."""

    asked: bytearray = field(default_factory=bytearray)
    answered: bytearray = field(default_factory=bytearray)


class Tee:
    """Passes bytes on unchanged. When nobody listens behind it, its connections break."""

    def __init__(self, port: int, behind: int) -> None:
        self.port = port
        self._behind = behind
        self._connections: list[_Connection] = []
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Begins to listen on loopback."""
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", self.port)

    async def close(self) -> None:
        """Ends the listening."""
        assert self._server is not None
        self._server.close()

    def exchanges(self) -> Iterator[tuple[bytes, int]]:
        """The body of each request that came whole, and the status of its answer; 0 when none was seen whole."""
        for connection in self._connections:
            statuses = [int(line.split()[1]) for line, _ in _messages(connection.answered)]
            for number, (_, body) in enumerate(_messages(connection.asked)):
                yield body, statuses[number] if number < len(statuses) else 0

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection()
        self._connections.append(connection)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._behind)
        except OSError:
            writer.transport.abort()
            return
        await asyncio.gather(_pump(reader, back, connection.asked), _pump(there, writer, connection.answered))


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter, kept: bytearray) -> None:
    try:
        while data := await source.read(1 << 16):
            kept += data
            target.write(data)
            await target.drain()
    except OSError:
        pass  # one side was killed; the other learns it by the close
    finally:
        target.close()


def _messages(stream: bytearray) -> Iterator[tuple[bytes, bytes]]:
    """First line and body of each HTTP/1.1 message that is whole. Bodies must have a length."""
    start = 0
    while (end := stream.find(b"\r\n\r\n", start)) >= 0:
        line, *headers = bytes(stream[start:end]).split(b"\r\n")
        fields = dict(header.lower().split(b":", 1) for header in headers)
        assert b"transfer-encoding" not in fields, fields
        start = end + 4 + int(fields.get(b"content-length", b"0"))
        if start > len(stream):
            return
        yield line, bytes(stream[end + 4 : start])
