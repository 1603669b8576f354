"""A log whose writer and reader are two processes: what each must know of the other, and how it learns it.

The records themselves pass through the files alone. Beside them:

- a few numbers in **memory that both share** (`Words`), each written by one side. The writer sets `synced` before it
  answers anybody, so the reader's side always finds there what was acknowledged at any moment before. The reader's
  side counts in `removed` the bytes of segments it has let go of, which is how the writer keeps the bound of the disk.
- **reports** of the writer, for which the reader need not search the folder: a segment is durable up to there, or
  closed. They may come late, and only the last one of a segment counts.

When the writer's process ends, however it ends, `HalfLog.writer_ended` finds in the files what it did not report.
"""

import mmap
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tracestone.collector.wal import frames
from tracestone.collector.wal.ledger import Damage, Ledger, Segment
from tracestone.collector.wal.receipt import ReceiptClock

_WORDS = 3
_SYNCED, _REMOVED, _OVER = range(_WORDS)
MAX_LOGS = mmap.PAGESIZE // (_WORDS * 8)


@dataclass(frozen=True, slots=True)
class Beginning:
    """Where a writer goes on in a log: its next segment, where the one before ends, what is there already."""

    log_id: bytes
    first: int
    previous_end: int
    synced: int
    disk_bytes: int


@dataclass(frozen=True, slots=True)
class Report:
    """The segment that starts at `first` is durable up to `end`; it gets no more frames if `closed`."""

    first: int
    end: int
    closed: bool


class SharedPage:
    """One page of memory that processes share: the words of some logs, or the times of receipt."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._memory = mmap.mmap(descriptor, mmap.PAGESIZE)
        # Whole words are stored and loaded at once: a half-written number is never seen.
        self._words = memoryview(self._memory).cast("Q")

    @classmethod
    def new(cls) -> "SharedPage":
        """A page of zeros; the other process makes its own from the inherited descriptor."""
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("tracestone-receiver")
        else:
            file, name = tempfile.mkstemp(prefix="tracestone-receiver-")
            descriptor = file
            os.unlink(name)
        os.write(descriptor, bytes(mmap.PAGESIZE))
        return cls(descriptor)

    def words(self, number: int) -> "Words":
        """The words of a log, which are numbered from 0."""
        if not 0 <= number < MAX_LOGS:
            raise ValueError(f"there is no room for log {number}")
        return Words(self._words[number * _WORDS : (number + 1) * _WORDS])

    def receipt_clock(self, place: int, processes: int) -> ReceiptClock:
        """The clock of the process at `place`. Nothing else may be in this page."""
        return ReceiptClock(self._words[:processes], place)

    def close(self) -> None:
        """Let go of the descriptor; the memory goes with the last of its words."""
        os.close(self.descriptor)


class Words:
    """What writer and reader share of one log."""

    def __init__(self, words: memoryview) -> None:
        self._words = words

    def reset(self, synced: int) -> None:
        """Make ready for a new writer. Only while there is none."""
        self._words[_SYNCED], self._words[_REMOVED], self._words[_OVER] = synced, 0, 0

    @property
    def synced(self) -> int:
        """All before this position is durable. Set by the writer."""
        return int(self._words[_SYNCED])

    @synced.setter
    def synced(self, position: int) -> None:
        self._words[_SYNCED] = position

    @property
    def removed(self) -> int:
        """Bytes of segments that are gone since the writer began. Set by the reader's side."""
        return int(self._words[_REMOVED])

    @removed.setter
    def removed(self, count: int) -> None:
        self._words[_REMOVED] = count

    @property
    def over(self) -> int:
        """Segments that start before this position must get no more frames. Set by the reader's side."""
        return int(self._words[_OVER])

    @over.setter
    def over(self, position: int) -> None:
        self._words[_OVER] = position


class ReportingLedger:
    """The writer's side: the `WriterLedger` of a process without the reader."""

    def __init__(self, beginning: Beginning, words: Words, report: Callable[[Report], None]) -> None:
        self.synced = beginning.synced
        self._words = words
        self._report = report
        self._bytes = beginning.disk_bytes
        self._newest: Segment | None = None

    @property
    def disk_bytes(self) -> int:
        """How much the segments hold."""
        return self._bytes - self._words.removed

    @property
    def newest_is_over(self) -> bool:
        """Whether the newest segment must get no more frames."""
        return self._newest is not None and (self._newest.closed or self._newest.first < self._words.over)

    def extend(self, segment: Segment, end: int) -> None:
        """`segment` is durable up to `end`; it may be new. Called before anybody is told."""
        if segment is not self._newest:
            self.close_last()
            self._newest = segment
            self._bytes += segment.end - segment.first
        self._bytes += end - segment.end
        segment.end = self.synced = self._words.synced = end
        self._report(Report(segment.first, end, closed=False))

    def close_last(self) -> None:
        """The newest segment gets no more frames."""
        newest = self._newest
        if newest is not None and not newest.closed:
            newest.closed = True
            self._report(Report(newest.first, newest.end, closed=True))


@dataclass(eq=False)
class FollowedLedger(Ledger):
    """The reader's side: a ledger that learns of the writer by its reports."""

    folder: Path = field(kw_only=True)
    words: Words = field(kw_only=True)

    @classmethod
    def of(cls, found: Ledger, folder: Path, words: Words) -> "FollowedLedger":
        """The ledger `found` by a recovery, from now on followed."""
        return cls(
            found.segments,
            found.synced,
            found.acknowledged,
            found.disk_bytes,
            found.unread_since,
            folder=folder,
            words=words,
        )

    def hear(self, report: Report) -> None:
        """Take in a report; an old one changes nothing."""
        newest = self.segments[-1] if self.segments else None
        if report.end > self.synced:
            if newest is None or newest.first < report.first:
                path = self.folder / frames.segment_name(report.first)
                newest = Segment(path, report.first, report.first + frames.SEGMENT_HEADER_BYTES)
            self.extend(newest, report.end)
        if report.closed and newest is not None and newest.first == report.first:
            newest.closed = True

    def damaged(self, segment: Segment, damage: Damage) -> None:
        """`segment` cannot be read from there on, and gets no more frames."""
        super().damaged(segment, damage)
        self.words.over = segment.first + 1

    def drop(self, segment: Segment) -> None:
        """The file of `segment` is gone."""
        super().drop(segment)
        self.words.removed += segment.end - segment.first
