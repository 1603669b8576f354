"""Which segments there are and how far each is written: what the writer and the reader know of each other.

Lives on the event loop. The writer adds segments and moves their ends, the reader takes segments away. No
I/O.
"""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from tracestone.collector.wal.frames import SEGMENT_HEADER_BYTES
from tracestone.schema import clock


@dataclass(frozen=True, slots=True)
class Damage:
    """Why a segment cannot be trusted from `position` on."""

    position: int
    reason: str


@dataclass(eq=False, slots=True)
class Segment:
    """One file. `end` is the position after its last durable frame; `closed` says that it gets no more."""

    path: Path
    first: int
    end: int
    closed: bool = False
    damage: Damage | None = None

    @property
    def start(self) -> int:
        """Position of the first frame."""
        return self.first + SEGMENT_HEADER_BYTES

    @property
    def limit(self) -> int:
        """Up to where it can be read."""
        return self.end if self.damage is None else self.damage.position

    @property
    def finished(self) -> bool:
        """No frame will be read from behind `limit`."""
        return self.closed or self.damage is not None


@dataclass(eq=False, slots=True)
class Ledger:
    """All segments, oldest first; `synced` is the last durable position, `acknowledged` the last consumed
    one."""

    segments: list[Segment] = field(default_factory=list)
    synced: int = 0
    acknowledged: int = 0
    disk_bytes: int = 0
    unread_since: float | None = None
    _goal: int = 0
    _reached: asyncio.Event = field(default_factory=asyncio.Event)

    def bytes_after(self, position: int, enough: int | None = None) -> int:
        """Readable bytes behind `position`; stops counting at `enough`."""
        total = 0
        for segment in self.segments:
            total += max(0, segment.limit - max(segment.start, position))
            if enough is not None and total >= enough:
                break
        return total

    def extend(self, segment: Segment, end: int) -> None:
        """The writer made `segment` durable up to `end`; it may be new."""
        if not self.segments or self.segments[-1] is not segment:
            self.close_last()
            self.segments.append(segment)
            self.disk_bytes += segment.end - segment.first
        self.disk_bytes += end - segment.end
        segment.end = self.synced = end
        if self.unread_since is None:
            self.unread_since = clock.monotonic()
        if end >= self._goal:
            self._reached.set()

    def close_last(self) -> None:
        """The newest segment gets no more frames."""
        if self.segments:
            self.segments[-1].closed = True

    def consumed(self, acknowledged: int) -> tuple[list[Segment], int]:
        """The segments that are no longer needed once all before `acknowledged` is consumed, and how far that
        goes."""
        done: list[Segment] = []
        for segment in self.segments:
            if not segment.closed or segment.limit > max(segment.start, acknowledged):
                break
            acknowledged = max(acknowledged, segment.end)
            done.append(segment)
        return done, acknowledged

    def drop(self, segment: Segment) -> None:
        """The file of `segment` is gone."""
        self.segments.remove(segment)
        self.disk_bytes -= segment.end - segment.first

    async def reached(self, position: int, seconds: float) -> None:
        """Return when `synced` is at least `position`, or after `seconds`. For one waiter at a
        time."""
        self._goal = position
        if self.synced >= position:
            return
        self._reached.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._reached.wait()
        except TimeoutError:
            return
