"""The connections of one HTTP port: how many, how long each may take for what, and what the others are told.

uvicorn bounds none of this: it waits for headers as long as a client likes, and when a number of connections is reached
it refuses requests of all of them. Here a connection without a request in work is *waiting*. It has a time for its
headers, and when a port is full the one that has waited longest makes room for the next. Only when all have a request
in work is a new one told to come back. So whoever only holds connections takes none from those who send.
"""

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from tracestone.collector.open_files import connections_for
from tracestone.schema.settings import Settings

# The application itself gives up a body that is late, and answers; this is for those that do not.
_BODY_GRACE_SECONDS = 5


@dataclass(frozen=True)
class HttpLimits:
    """What clients of an HTTP port may use. The fields are settings of the same names."""

    max_connections: int = 2000
    max_header_bytes: int = 16 * 1024
    max_header_seconds: int = 10
    max_body_seconds: int = 60
    max_idle_seconds: int = 120

    @classmethod
    def of(cls, settings: Settings) -> "HttpLimits":
        """As they are set, with no more connections than this process can open."""
        given = {each.name: getattr(settings, each.name) for each in fields(cls)}
        return cls(**{**given, "max_connections": connections_for(settings.max_connections)})


class Connections:
    """All connections of one port. `refused` found it full, `dropped` made room, `timed_out` took too long."""

    def __init__(self, limits: HttpLimits) -> None:
        self.limits = limits
        self._open: set[Connection] = set()
        # In the order in which they began to wait.
        self._waiting: dict[Connection, None] = {}
        self.refused = 0
        self.dropped = 0
        self.timed_out = 0

    def __len__(self) -> int:
        """How many are open."""
        return len(self._open)

    def protocol(self, **given: Any) -> "Connection":
        """What uvicorn calls for each connection."""
        return Connection(self, **given)

    def begin(self, connection: "Connection") -> bool:
        """Takes a new connection in; False when there is no place for it."""
        if len(self._open) >= self.limits.max_connections:
            if not self._waiting:
                self.refused += 1
                return False
            self.dropped += 1
            oldest = next(iter(self._waiting))
            self.end(oldest)
            oldest.transport.abort()
        self._open.add(connection)
        self._waiting[connection] = None
        return True

    def end(self, connection: "Connection") -> None:
        """Forgets a connection. Safe to call twice."""
        self._open.discard(connection)
        self._waiting.pop(connection, None)

    def works(self, connection: "Connection") -> None:
        """It has a request in work."""
        self._waiting.pop(connection, None)

    def waits(self, connection: "Connection") -> None:
        """Its request is done."""
        if connection in self._open:
            self._waiting.setdefault(connection)


class Connection(H11Protocol):
    """One connection, with a time for headers, for a body and for taking the answer."""

    def __init__(self, connections: Connections, **given: Any) -> None:
        super().__init__(**given)
        self._all = connections
        self._limits = connections.limits
        self._headers: asyncio.TimerHandle | None = None
        self._body: asyncio.TimerHandle | None = None
        self._answer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Waits for headers, or refuses."""
        super().connection_made(transport)
        if self._all.begin(self):
            self._note(arrived=True)
        else:
            self._say("503 Service Unavailable", "retry-after: 1\r\n")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the connection."""
        self._all.end(self)
        for timer in (self._headers, self._body, self._answer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)
        # uvicorn leaves this running when the connection ended with an error.
        self._unset_keepalive_if_required()

    def data_received(self, data: bytes) -> None:
        """Some bytes of headers or of a body."""
        if not self.transport.is_closing():
            super().data_received(data)
            self._note(arrived=True)

    def on_response_complete(self) -> None:
        """Waits for the next request, or has it already, when it was sent ahead."""
        super().on_response_complete()
        self._note(arrived=False)

    def pause_writing(self) -> None:
        """The client does not take what it asked for."""
        super().pause_writing()
        self._answer = self._after(self._limits.max_body_seconds, self._too_late)

    def resume_writing(self) -> None:
        """The client goes on taking."""
        super().resume_writing()
        self._answer = _stopped(self._answer)

    def send_400_response(self, msg: str) -> None:
        """Answers what is no HTTP, and headers that are too large."""
        if getattr(sys.exc_info()[1], "error_status_hint", 400) == 431:
            self._say("431 Request Header Fields Too Large")
        else:
            super().send_400_response(msg)

    def _note(self, *, arrived: bool) -> None:
        """Sets the clocks for what the connection is at now."""
        cycle = self.cycle
        if self.transport.is_closing():
            return
        if cycle is None or cycle.response_complete:
            self._all.waits(self)
            self._body = _stopped(self._body)
            # Also for what remains of a body that was answered before its end. A connection that is merely idle
            # has uvicorn's own clock.
            if arrived and self._headers is None:
                self._headers = self._after(self._limits.max_header_seconds, self._no_headers)
            return
        self._all.works(self)
        self._headers = _stopped(self._headers)
        if not cycle.more_body:
            self._body = _stopped(self._body)
        elif self._body is None:
            self._body = self._after(self._limits.max_body_seconds + _BODY_GRACE_SECONDS, self._too_late)

    def _after(self, seconds: float, do: Callable[[], None]) -> asyncio.TimerHandle:
        return self.loop.call_later(seconds, do)

    def _no_headers(self) -> None:
        self._all.timed_out += 1
        if self.conn.trailing_data[0]:
            self._say("408 Request Timeout")
        else:
            # A client that connected ahead may be sending right now, and would take a 408 for the answer
            # to its request: an exporter drops what it is refused so, and sends again what was cut off.
            self.transport.close()

    def _too_late(self) -> None:
        self._all.timed_out += 1
        self.transport.abort()

    def _say(self, status: str, header: str = "") -> None:
        self.transport.write(f"HTTP/1.1 {status}\r\n{header}connection: close\r\ncontent-length: 0\r\n\r\n".encode())
        self.transport.close()


def _stopped(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    if timer is not None:
        timer.cancel()
    return None
