"""Puts frames into segment files: opens, writes, syncs and closes them, and gives a failed one up. Blocking.

What happens on a failure is told in `writer`.
"""

import errno
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from isal import isal_zlib

from tracestone.collector.wal import frames
from tracestone.collector.wal.filesystem import Filesystem
from tracestone.collector.wal.ledger import Segment
from tracestone.schema import clock

SMALL_BYTES = 4096  # below this, gluing the length to the record is cheaper than handing over two buffers
MAX_BUFFERS = 1024  # of one writev (IOV_MAX)


@dataclass(eq=False, slots=True)
class Body:
    """The body of a frame, growing: `size` in bytes, `crc` of all of it."""

    buffers: list[bytes] = field(default_factory=list)
    records: int = 0
    size: int = 0
    crc: int = frames.RESIDUE

    def add(self, record: bytes) -> None:
        """One more record; large ones are not copied."""
        prefix = frames.varint(len(record))
        if len(record) < SMALL_BYTES:
            record = prefix + record
        else:
            self.crc = isal_zlib.crc32(prefix, self.crc)
            self.buffers.append(prefix)
            self.size += len(prefix)
        self.crc = isal_zlib.crc32(record, self.crc)
        self.buffers.append(record)
        self.size += len(record)
        self.records += 1


class SegmentFiles:
    """Which file is written, and up to where. Used by one thread at a time."""

    def __init__(
        self,
        filesystem: Filesystem,
        folder: Path,
        log_id: bytes,
        first: int,
        previous_end: int,
        segment_bytes: int,
        reserve_bytes: int,
    ) -> None:
        self._filesystem = filesystem
        self._folder = folder
        self._log_id = log_id
        self._next_first = first
        self._previous_end = previous_end
        self._segment_bytes = segment_bytes
        self._reserve_bytes = reserve_bytes
        self._unchecked_bytes = reserve_bytes
        self._segment: Segment | None = None
        self._descriptor = -1
        self._end = 0
        self.sync_seconds = 0.0

    def write(self, body: Body, written: int, new_segment: bool) -> tuple[Segment, int]:
        """Make `body` durable as one frame, in a new segment if told so or if the current one is full.

        `written` is the frame's time. The segment it is in and the position behind it. On OSError it is not in the log.
        """
        size = frames.FRAME_OVERHEAD_BYTES + body.size
        self._check_reserve(size)
        segment = self._segment
        if segment is not None and (new_segment or self._is_full(segment, size)):
            self.close()
            segment = None
        if segment is None:
            segment = self._open_segment(written)
        start = self._end
        header = frames.encode_frame_header(start, body.records, written, body.size)
        try:
            self._write_all([header, *body.buffers, frames.encode_frame_end(body.crc)], size)
            began = clock.monotonic()
            self._filesystem.sync(self._descriptor)
            self.sync_seconds = clock.monotonic() - began
            if not self._filesystem.is_at(self._descriptor, segment.path):  # what has no name is gone after a restart
                raise FileNotFoundError(errno.ENOENT, "the segment was removed while it was written")
        except OSError:
            self._abandon(segment, size)
            raise
        self._end = self._previous_end = self._next_first = start + size
        self._unchecked_bytes += size
        if self._end - segment.first >= self._segment_bytes:
            self.close()  # now, not with the next frame: an open segment cannot be deleted
        return segment, self._end

    @property
    def is_open(self) -> bool:
        """Whether the next group may go into the same segment as the last one."""
        return self._segment is not None

    def close(self) -> None:
        """Close the segment; all its frames are durable already."""
        if self._segment is not None:
            self._segment = None
            with suppress(OSError):
                self._filesystem.close(self._descriptor)

    def _is_full(self, segment: Segment, size: int) -> bool:
        return self._end > segment.start and self._end + size - segment.first > self._segment_bytes

    def _check_reserve(self, size: int) -> None:
        if self._unchecked_bytes + size < self._reserve_bytes // 2 or not self._reserve_bytes:
            return
        if self._filesystem.free_bytes(self._folder) < self._reserve_bytes + size:
            self._unchecked_bytes = self._reserve_bytes  # look again each time until there is room
            self.close()  # an open segment cannot be deleted, and its space may be what is missing
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._unchecked_bytes = 0

    def _open_segment(self, created: int) -> Segment:
        first = self._next_first
        self._next_first += frames.SEGMENT_HEADER_BYTES  # whatever happens below, this name is used up
        path = self._folder / frames.segment_name(first)
        header = frames.SegmentHeader(self._log_id, first, self._previous_end, created)
        descriptor = self._filesystem.create(path)
        self._descriptor = descriptor
        try:
            self._write_all([frames.encode_segment_header(header)], frames.SEGMENT_HEADER_BYTES)
            self._filesystem.sync(descriptor)
            self._filesystem.sync_folder(self._folder)
        except OSError:
            self._discard(path)
            raise
        self._end = self._next_first
        self._segment = Segment(path, first, self._end)
        return self._segment

    def _abandon(self, segment: Segment, attempted: int) -> None:
        self._next_first = self._end + attempted
        self._segment = None
        if self._end == segment.start:
            self._discard(segment.path)
            return
        with suppress(OSError):
            self._filesystem.truncate(self._descriptor, self._end - segment.first)
            self._filesystem.sync(self._descriptor)
        with suppress(OSError):
            self._filesystem.close(self._descriptor)

    def _discard(self, path: Path) -> None:
        """Forget a segment without a durable frame; if its file stays, the next start removes it."""
        with suppress(OSError):
            self._filesystem.close(self._descriptor)
        with suppress(OSError):
            self._filesystem.remove(path)

    def _write_all(self, buffers: Sequence[bytes | memoryview], size: int) -> None:
        written = 0
        for start in range(0, len(buffers), MAX_BUFFERS):
            rest = list(buffers[start : start + MAX_BUFFERS])
            while rest:
                count = self._filesystem.write(self._descriptor, rest)
                if count == 0:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                written += count
                rest = _after(rest, count)
        if written != size:
            raise OSError(errno.EIO, f"wrote {written} bytes of {size}")


def _after(buffers: list[bytes | memoryview], count: int) -> list[bytes | memoryview]:
    """The buffers without their first `count` bytes."""
    for number, buffer in enumerate(buffers):
        if count < len(buffer):
            return [memoryview(buffer)[count:], *buffers[number + 1 :]]
        count -= len(buffer)
    return []
