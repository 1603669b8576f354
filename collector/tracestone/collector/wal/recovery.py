"""Puts in order what is on the disk of a log: nothing, one that was closed, or what a crash left of one.

What is decided here, once, before anything is written or read:

- The **last segment** may end in a torn frame, of a group that was never acknowledged. It is cut off.
- **Damage** anywhere else (or in the last segment, if whole frames follow) ends its segment there: what is
  before is read, then the file goes to `quarantine/` and reading goes on with the next one. Content is never
  guessed.
- What the disk **cannot read** counts as damage at a start: the file is kept, and the rest of the log is read.
- A **missing or unreadable cursor** makes this a log with a new id, read from its oldest segment. The store
  then gets some batches again under other names; it keeps one row per span all the same.
- A cursor that points **inside a frame** goes back to its start; one **before the oldest** segment goes to
  its start; one **beyond the end** stays: all is consumed.
- **New segments start above** everything that may ever have been written, and that bound is in the cursor
  file, so cut positions are not used again after any number of restarts.
- Records that are **missing** (a segment was deleted or cut by hand) are noticed, because each segment states
  where the one before ended.

All segments behind the cursor are read and checked: about one second for some GB. When a writer in another process
has died (see `remote`) the same is done for the newest segments alone, while the reader goes on.
"""

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tracestone.collector.wal import frames, quarantine, scan
from tracestone.collector.wal.cursor import Cursor
from tracestone.collector.wal.filesystem import Filesystem, read_whole
from tracestone.collector.wal.ledger import Damage, Ledger, Segment

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Recovered:
    """What opening a log had to do, and how many segments were set aside before. Bytes include frame headers.

    `newest` is the highest time of receipt that it knows of.
    """

    cursor_lost: bool = False
    cut_bytes: int = 0
    missing_bytes: int = 0
    quarantined: int = 0
    newest: int = 0
    damaged: list[Damage] = field(default_factory=list)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Errors of the block say which file they are about."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


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


class Recovery:
    """Looks at what is in the folder of a log and puts it in order. Blocking; raises OSError."""

    def __init__(self, filesystem: Filesystem, folder: Path, cursor: Cursor) -> None:
        self._filesystem = filesystem
        self._folder = folder
        self._cursor = cursor
        self._acknowledged = cursor.state.acknowledged
        self._known_end = 0
        self._can_wait = False
        self.recovered = Recovered(newest=cursor.state.newest)

    def run(self) -> Ledger:
        """Look at every segment, put the cursor right, and say what there is to read."""
        found = [self._look(each) for each in sorted(self._firsts())]
        self.recovered.cursor_lost = self._cursor.fresh and bool(found)
        self._save(max((file.end for file in found), default=0))  # before anything is cut
        found = self._without_unborn(found)
        self._place_cursor(found)
        segments = self._judged(found)
        if segments:
            self._acknowledged = max(self._acknowledged, segments[0].first)
        self._filesystem.sync_folder(self._folder)
        self._save(0)
        self._report()
        self.recovered.quarantined = quarantine.count(self._filesystem, self._folder)
        ledger = Ledger(segments, acknowledged=self._acknowledged)
        ledger.synced = max(ledger.previous_end, self._acknowledged)
        ledger.disk_bytes = sum(segment.end - segment.first for segment in segments)
        ledger.unread_since = 0.0 if ledger.bytes_after(self._acknowledged, 1) else None
        return ledger

    def tail(self, newest: Segment | None) -> list[Segment]:
        """What there is from segment `newest` on, the last that is known, after its writer has ended.

        What is known of it stays true; only what came after can be torn. The cursor is moved by nobody meanwhile.
        """
        first = 0 if newest is None else newest.first
        self._known_end = 0 if newest is None else newest.end
        self._can_wait = True
        found = [self._look(each) for each in sorted(self._firsts()) if each >= first]
        self._save(max((file.end for file in found), default=0))
        segments = self._judged(self._without_unborn(found))
        self._filesystem.sync_folder(self._folder)
        self._report()
        return segments

    def _judged(self, found: list[_Found]) -> list[Segment]:
        segments = []
        for number, file in enumerate(found):
            with _naming(self._path(file)):
                segment = self._judge(file, found[number + 1] if number + 1 < len(found) else None)
            if segment.limit > segment.start or segment.damage is not None:
                segments.append(segment)
            else:
                self._filesystem.remove(segment.path)
        return segments

    def _save(self, end: int) -> None:
        state = self._cursor.state
        self._cursor.save(
            acknowledged=self._acknowledged,
            floor=max(state.floor, self._acknowledged, *state.batch_ends, end),
            batch_ends=tuple(end for end in state.batch_ends if end > self._acknowledged),
            newest=self.recovered.newest,
        )

    def _firsts(self) -> list[int]:
        firsts = (frames.first_of_name(name) for name in self._filesystem.names(self._folder))
        return [first for first in firsts if first is not None]

    def _path(self, file: _Found) -> Path:
        return self._folder / frames.segment_name(file.first)

    def _look(self, first: int) -> _Found:
        path = self._folder / frames.segment_name(first)
        with _naming(path):
            descriptor = self._filesystem.open(path)
            try:
                size = self._filesystem.size(descriptor)
                return _Found(first, size, self._header(descriptor, first))
            finally:
                self._filesystem.close(descriptor)

    def _header(self, descriptor: int, first: int) -> frames.SegmentHeader | str:
        try:
            data = read_whole(self._filesystem, descriptor, frames.SEGMENT_HEADER_BYTES, 0)
        except OSError as error:
            if error.errno != errno.EIO or self._can_wait:
                raise
            return scan.UNREADABLE
        return frames.decode_segment_header(data, first)

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
            if segment.end < file.end or successor is None:
                self._filesystem.sync(descriptor)
        finally:
            self._filesystem.close(descriptor)
        return segment

    def _check(self, segment: Segment, descriptor: int, *, is_last: bool) -> None:
        if segment.start < self._acknowledged:
            self._acknowledged = scan.frame_start(self._filesystem, segment, descriptor, self._acknowledged)
        found = scan.intact(self._filesystem, segment, descriptor, max(segment.start, self._acknowledged))
        self.recovered.newest = max(self.recovered.newest, found.newest)
        if found.fault == scan.UNREADABLE and self._can_wait:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if not found.fault:
            self._make_durable(segment, descriptor, found, is_last=is_last)
            return
        torn = is_last and found.end >= self._known_end and found.fault != scan.UNREADABLE
        if torn and not scan.frame_follows(self._filesystem, segment, descriptor, found.end + 1):
            self.recovered.cut_bytes += segment.end - found.end
            segment.end = found.end
            self._make_durable(segment, descriptor, found, is_last=True)
        else:
            self._damaged(segment, Damage(found.end, found.fault))

    def _make_durable(self, segment: Segment, descriptor: int, found: scan.Intact, *, is_last: bool) -> None:
        """Write the last frame of the log once more, for `_judge` to sync.

        The process that wrote it may have been killed before its sync, or have seen it fail: the system then takes
        for written what is not on the disk, and a sync alone changes nothing.
        """
        if is_last and found.last < found.end:
            offset = found.last - segment.first
            data = read_whole(self._filesystem, descriptor, found.end - found.last, offset)
            self._filesystem.write_at(descriptor, data, offset)

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
