"""Opens a log: a new one, one that was closed, or what a crash left of one.

What is decided here, once, before anything is written or read:

- The **last segment** may end in a torn frame, of a group that was never acknowledged. It is cut off.
- **Damage** anywhere else (or in the last segment, if whole frames follow) ends its segment there: what is
  before is read, then the file goes to `quarantine/` and reading goes on with the next one. Content is never
  guessed.
- A **missing or unreadable cursor** makes this a log with a new id, read from its oldest segment. The store
  then gets some batches again under other names; it keeps one row per span all the same.
- A cursor that points **inside a frame** goes back to its start; one **before the oldest** segment goes to
  its start; one **beyond the end** stays: all is consumed.
- **New segments start above** everything that may ever have been written, and that bound is in the cursor
  file, so cut positions are not used again after any number of restarts.
- Records that are **missing** (a segment was deleted or cut by hand) are noticed, because each segment states
  where the one before ended.

All segments behind the cursor are read and checked: about one second for some GB.
"""

import logging
from dataclasses import dataclass, field
from pathlib import Path

from tracestone.collector.wal import frames, scan
from tracestone.collector.wal.cursor import Cursor
from tracestone.collector.wal.filesystem import Filesystem, RealFilesystem
from tracestone.collector.wal.ledger import Damage, Ledger, Segment
from tracestone.collector.wal.reader import Reader
from tracestone.collector.wal.writer import Writer
from tracestone.schema.errors import StartRefused

log = logging.getLogger(__name__)

MIB = 1024 * 1024
LOCK_NAME = "lock"


@dataclass(slots=True)
class Recovered:
    """What opening a log had to do. Bytes include frame headers."""

    cursor_lost: bool = False
    cut_bytes: int = 0
    missing_bytes: int = 0
    damaged: list[Damage] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Stats:
    """The log's state, for /health. `last_error` is empty when the last operations worked."""

    waiting_bytes: int
    disk_bytes: int
    segments: int
    quarantined: int
    oldest: int | None
    last_error: str


@dataclass(frozen=True, slots=True)
class Log:
    """An open log. One process has it at a time."""

    log_id: str
    writer: Writer
    reader: Reader
    recovered: Recovered
    _ledger: Ledger
    _filesystem: Filesystem
    _lock: int

    def stats(self) -> Stats:
        """The state now; no I/O."""
        return Stats(
            waiting_bytes=self._ledger.bytes_after(self._ledger.acknowledged) + self.writer.pending_bytes,
            disk_bytes=self._ledger.disk_bytes,
            segments=len(self._ledger.segments),
            quarantined=self.reader.quarantined,
            oldest=self.reader.oldest,
            last_error=self.writer.last_error or self.reader.last_error,
        )

    async def close(self) -> None:
        """Refuse new records, make durable what was taken, close everything."""
        try:
            await self.writer.close()
        finally:
            await self.reader.close()
            self._filesystem.close(self._lock)


def open_log(
    folder: Path,
    *,
    max_bytes: int,
    segment_bytes: int,
    filesystem: Filesystem | None = None,
    reserve_bytes: int = 8 * MIB,
    max_pending_bytes: int = 128 * MIB,
) -> Log:
    """Open the log in `folder`, which is made if need be. Blocking; raises StartRefused.

    `max_bytes` bounds the segments on disk (a segment is at most a quarter of it), `max_pending_bytes` what
    waits in memory for the disk, `reserve_bytes` is what stays free on the disk.
    """
    files = RealFilesystem() if filesystem is None else filesystem
    try:
        files.make_folder(folder)
        lock = files.lock(folder / LOCK_NAME)
    except BlockingIOError as error:
        raise StartRefused(f"The write-ahead log in {folder} is in use by another process.") from error
    except OSError as error:
        raise StartRefused(f"The write-ahead log in {folder} cannot be opened: {error.strerror}.") from error
    cursor = None
    try:
        cursor = Cursor(files, folder)
        recovery = _Recovery(files, folder, cursor)
        ledger = recovery.run()
    except OSError as error:
        if cursor is not None:
            cursor.close()
        files.close(lock)
        raise StartRefused(f"The write-ahead log in {folder} cannot be opened: {error.strerror}.") from error
    writer = Writer(
        files,
        folder,
        ledger,
        log_id=cursor.state.log_id,
        first=cursor.state.floor,
        previous_end=recovery.previous_end,
        max_bytes=max_bytes,
        segment_bytes=min(segment_bytes, max_bytes // 4),
        reserve_bytes=reserve_bytes,
        max_pending_bytes=max_pending_bytes,
    )
    reader = Reader(files, folder, ledger, cursor)
    return Log(cursor.state.log_id.hex(), writer, reader, recovery.recovered, ledger, files, lock)


@dataclass(frozen=True, slots=True)
class _Found:
    """A segment's file as it is: its size, and its header or why it has none."""

    first: int
    size: int
    header: frames.SegmentHeader | str

    @property
    def start(self) -> int:
        return self.first + frames.SEGMENT_HEADER_BYTES

    @property
    def end(self) -> int:
        return self.first + self.size


class _Recovery:
    def __init__(self, filesystem: Filesystem, folder: Path, cursor: Cursor) -> None:
        self._filesystem = filesystem
        self._folder = folder
        self._cursor = cursor
        self._acknowledged = cursor.state.acknowledged
        self.recovered = Recovered()
        self.previous_end = 0

    def run(self) -> Ledger:
        """Look at every segment, put the cursor right, and say what there is to read."""
        found = [self._look(first) for first in sorted(self._firsts())]
        self.recovered.cursor_lost = self._cursor.fresh and bool(found)
        self._save(max((file.end for file in found), default=0))  # before anything is cut
        found = self._without_unborn(found)
        self._place_cursor(found)
        segments = []
        for number, file in enumerate(found):
            segment = self._judge(file, found[number + 1] if number + 1 < len(found) else None)
            if segment.limit > segment.start or segment.damage is not None:
                segments.append(segment)
            else:
                self._filesystem.remove(segment.path)
        if segments:
            self._acknowledged = max(self._acknowledged, segments[0].first)
        self._filesystem.sync_folder(self._folder)
        self._save(0)
        self.previous_end = segments[-1].end if segments else self._acknowledged
        self._report()
        return self._ledger(segments)

    def _ledger(self, segments: list[Segment]) -> Ledger:
        ledger = Ledger(
            segments,
            synced=max(self.previous_end, self._acknowledged),
            acknowledged=self._acknowledged,
            disk_bytes=sum(segment.end - segment.first for segment in segments),
        )
        ledger.unread_since = 0.0 if ledger.bytes_after(self._acknowledged, 1) else None
        return ledger

    def _save(self, end: int) -> None:
        state = self._cursor.state
        self._cursor.save(
            acknowledged=self._acknowledged,
            floor=max(state.floor, self._acknowledged, *state.batch_ends, end),
            batch_ends=tuple(end for end in state.batch_ends if end > self._acknowledged),
        )

    def _firsts(self) -> list[int]:
        firsts = (frames.first_of_name(name) for name in self._filesystem.names(self._folder))
        return [first for first in firsts if first is not None]

    def _path(self, file: _Found) -> Path:
        return self._folder / frames.segment_name(file.first)

    def _look(self, first: int) -> _Found:
        descriptor = self._filesystem.open(self._folder / frames.segment_name(first))
        try:
            data = self._filesystem.read_at(descriptor, frames.SEGMENT_HEADER_BYTES, 0)
            return _Found(first, self._filesystem.size(descriptor), frames.decode_segment_header(data, first))
        finally:
            self._filesystem.close(descriptor)

    def _without_unborn(self, found: list[_Found]) -> list[_Found]:
        """Remove the files that end within a header that is not whole: no frame can ever have been in them."""
        born = []
        for file in found:
            if isinstance(file.header, str) and file.size <= frames.SEGMENT_HEADER_BYTES:
                self._filesystem.remove(self._path(file))
            else:
                born.append(file)
        return born

    def _place_cursor(self, found: list[_Found]) -> None:
        if not found or self._acknowledged >= found[0].first:
            return
        oldest = found[0]
        if not self._cursor.fresh and isinstance(oldest.header, frames.SegmentHeader):
            self.recovered.missing_bytes += max(0, oldest.header.previous_end - self._acknowledged)
        self._acknowledged = oldest.first

    def _judge(self, file: _Found, successor: _Found | None) -> Segment:
        """What can be read of this file."""
        segment = Segment(self._path(file), file.first, file.end, closed=True)
        stated = None
        if successor is not None and isinstance(successor.header, frames.SegmentHeader):
            stated = max(successor.header.previous_end, file.start)
            # A consumed segment may come back after a power cut, one deleted after it not: nothing is missing.
            self.recovered.missing_bytes += max(0, stated - max(file.end, self._acknowledged))
            segment.end = min(stated, file.end)
        if isinstance(file.header, str) and stated != file.start:
            return self._damaged(segment, Damage(file.first, file.header))
        if segment.end <= self._acknowledged:
            return segment
        descriptor = self._filesystem.open(segment.path)
        try:
            self._check(segment, descriptor, is_last=successor is None)
            if segment.end < file.end:
                self._filesystem.truncate(descriptor, segment.end - segment.first)
            if segment.end < file.end or successor is None:  # a killed process may have left its last frame unsynced
                self._filesystem.sync(descriptor)
        finally:
            self._filesystem.close(descriptor)
        return segment

    def _check(self, segment: Segment, descriptor: int, *, is_last: bool) -> None:
        if segment.start < self._acknowledged:
            self._acknowledged = scan.frame_start(self._filesystem, segment, descriptor, self._acknowledged)
        position, fault = scan.intact_end(self._filesystem, segment, descriptor, max(segment.start, self._acknowledged))
        if not fault:
            return
        if is_last and not scan.frame_follows(self._filesystem, segment, descriptor, position + 1):
            self.recovered.cut_bytes += segment.end - position
            segment.end = position
        else:
            self._damaged(segment, Damage(position, fault))

    def _damaged(self, segment: Segment, damage: Damage) -> Segment:
        segment.damage = damage
        self.recovered.damaged.append(damage)
        return segment

    def _report(self) -> None:
        found = self.recovered
        if found.cursor_lost:
            log.warning("The log's cursor is lost; reading from the oldest segment", extra={"action": "wal_open"})
        if found.cut_bytes:
            log.warning("A torn tail is cut off the log", extra={"action": "wal_open", "bytes": found.cut_bytes})
        if found.missing_bytes:
            log.error("Part of the log is missing", extra={"action": "wal_open", "bytes": found.missing_bytes})
        for damage in found.damaged:
            log.error(
                "A log segment is damaged; what is before the damage is read, the file is set aside",
                extra={"action": "wal_open", "position": damage.position, "reason": damage.reason},
            )
