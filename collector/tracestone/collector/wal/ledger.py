"""Which segments there are and how far each is written: what the writer and the reader know of each other.

Lives on the event loop. The writer adds segments and moves their ends, the reader takes segments away. No
I/O.
"""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tracestone.collector.wal.frames import SEGMENT_HEADER_BYTES
from tracestone.schema import clock


@dataclass(frozen=True, slots=True)
class Damage:
    """Why a segment cannot be trusted from `position` on; `is_gone` says that there is no file to keep."""

    position: int
    reason: str
    is_gone: bool = False


@dataclass(eq=False, slots=True)
class Segment:
    """One file. `end` is the position after its last durable frame; `closed` says that it gets no more.

    A damaged one `is_aside` once its file is in the quarantine.
    """

    path: Path
    first: int
    end: int
    closed: bool = False
    damage: Damage | None = None
    is_aside: bool = False

    @property
    def start(self) -> int:
        """Position of the first frame."""
        return self.first + SEGMENT_HEADER_BYTES

    @property
    def limit(self) -> int:
        """Up to where it can be read."""
        return self.end if self.damage is None else self.damage.position

    @property
    def lost_bytes(self) -> int:
        """What was durable, cannot be read and was not set aside."""
        return self.end - self.damage.position if self.damage is not None and self.damage.is_gone else 0

    @property
    def finished(self) -> bool:
        """No frame will be read from behind `limit`."""
        return self.closed or self.damage is not None


class WriterLedger(Protocol):
    """What the writer asks and tells: `Ledger` if the reader is in the same process, else see `remote`."""

    @property
    def synced(self) -> int:
        """The last durable position."""

    @property
    def disk_bytes(self) -> int:
        """How much the segments hold."""

    @property
    def newest_is_over(self) -> bool:
        """Whether the newest segment must get no more frames."""

    def extend(self, segment: Segment, end: int) -> None:
        """`segment` is durable up to `end`; it may be new. Called before anybody is told."""

    def close_last(self) -> None:
        """The newest segment gets no more frames."""


@dataclass(eq=False)
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

    @property
    def newest_is_over(self) -> bool:
        """Whether the newest segment must get no more frames."""
        return bool(self.segments) and self.segments[-1].finished

    @property
    def previous_end(self) -> int:
        """Where the log ends, for the header of a next segment."""
        return self.segments[-1].end if self.segments else self.acknowledged

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

    def adopt(self, tail: list[Segment]) -> None:
        """Take over what was found from the newest segment on when its writer had ended."""
        for found in tail:
            newest = self.segments[-1] if self.segments else None
            if newest is None or found.first > newest.first:
                self.extend(found, found.end)
                continue
            if found.end > newest.end:
                self.extend(newest, found.end)
            if found.damage is not None and newest.damage is None:
                self.damaged(newest, found.damage)
        self.close_last()

    def damaged(self, segment: Segment, damage: Damage) -> None:
        """`segment` cannot be read from there on, and gets no more frames."""
        segment.damage = damage

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
