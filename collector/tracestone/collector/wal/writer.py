"""Appends records and says so only when they are durable.

Requests that arrive while the disk is busy share the next frame: one write and one fdatasync for all of them,
on a thread of its own. The event loop only collects and checksums (see `frames` on why the checksum is taken
there: the thread then gives up the interpreter lock twice per frame, however many requests are in it).

**After a failed write or fdatasync** every request of the frame fails (`LogFull` if the disk is full, else
`StorageDown`) and the segment gets no more frames: after a failed fdatasync the kernel may hold pages that it
believes to be written and are not. The segment is cut back to its last durable frame if the disk lets us; if
not, the header of the next segment says where it ends. So a refused request is not in the log, with one
exception: if the process dies before that next segment is made, the refused frame may be found whole at the
next start, and counts. The sender repeats it then, and the store keeps one of the two, as after any reply
that got lost.

**Bounds.** The segments on disk and what waits for the disk together stay within `max_bytes`; what waits in
memory stays within `max_pending_bytes`; `reserve_bytes` of the disk are left free, so that the store next
door can take over what the log holds. Beyond any of these an append is refused with `LogFull` before it is
buffered; it is accepted again as soon as there is room.
"""

import asyncio
import errno
import logging
import os
import zlib
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tracestone.collector.wal import frames
from tracestone.collector.wal.filesystem import Filesystem
from tracestone.collector.wal.ledger import Ledger, Segment
from tracestone.schema import clock
from tracestone.schema.errors import LogFull, Stopping, StorageDown, TooLarge, Unavailable

log = logging.getLogger(__name__)

FRAME_TARGET_BYTES = 4 * 1024 * 1024
SMALL_BYTES = 4096  # below this, gluing the length to the record is cheaper than handing over two buffers
MAX_BUFFERS = 1024  # of one writev (IOV_MAX)
RETRY_SECONDS = 1.0


@dataclass(eq=False, slots=True)
class _Group:
    """The requests of one frame."""

    buffers: list[bytes] = field(default_factory=list)
    body_bytes: int = 0
    crc: int = frames.RESIDUE
    waiting: list[asyncio.Future[int]] = field(default_factory=list)

    def add(self, payload: bytes, waiting: asyncio.Future[int]) -> None:
        prefix = frames.varint(len(payload))
        if len(payload) < SMALL_BYTES:
            payload = prefix + payload
            self.body_bytes += len(payload)
        else:
            self.crc = zlib.crc32(prefix, self.crc)
            self.buffers.append(prefix)
            self.body_bytes += len(prefix) + len(payload)
        self.crc = zlib.crc32(payload, self.crc)
        self.buffers.append(payload)
        self.waiting.append(waiting)

    def succeed(self, position: int) -> None:
        for waiting in self.waiting:
            if not waiting.done():
                waiting.set_result(position)

    def fail(self, error: Unavailable) -> None:
        for waiting in self.waiting:
            if not waiting.done():
                waiting.set_exception(type(error)(str(error), retry_after=error.retry_after))


class Writer:
    """The only writer of a log. Call everything from one event loop."""

    def __init__(
        self,
        filesystem: Filesystem,
        folder: Path,
        ledger: Ledger,
        *,
        log_id: bytes,
        first: int,
        previous_end: int,
        max_bytes: int,
        segment_bytes: int,
        reserve_bytes: int,
        max_pending_bytes: int,
    ) -> None:
        self._files = _Files(filesystem, folder, log_id, first, previous_end, segment_bytes, reserve_bytes)
        self._ledger = ledger
        self._max_bytes = max_bytes
        self._max_pending_bytes = max_pending_bytes
        self._groups: deque[_Group] = deque()
        self._pending_bytes = 0
        self._work = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="wal-writer")
        self.last_error = ""
        self.largest_record = min(max_bytes // 2, max_pending_bytes, frames.MAX_BODY_BYTES - 16)

    @property
    def synced(self) -> int:
        """The position after the last durable record."""
        return self._ledger.synced

    @property
    def pending_bytes(self) -> int:
        """Bytes taken and not yet durable."""
        return self._pending_bytes

    async def append(self, payload: bytes) -> int:
        """Return the position behind `payload` once it is durable; it is read again with everything up to
        there.

        Raises LogFull (no room; later there may be), StorageDown (the disk failed), Stopping, or TooLarge
        (never fits). A cancelled append may or may not be in the log.
        """
        self._admit(len(payload))
        waiting: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        group = self._groups[-1] if self._groups else None
        if group is None or group.body_bytes + len(payload) > FRAME_TARGET_BYTES:
            group = _Group()
            self._groups.append(group)
        before = group.body_bytes
        group.add(payload, waiting)
        self._pending_bytes += group.body_bytes - before
        if self._task is None:
            self._task = asyncio.create_task(self._write_groups(), name="wal-writer")
        self._work.set()
        return await waiting

    async def close(self) -> None:
        """Refuse new records, make durable what was taken, and stop."""
        self._stopping = True
        self._work.set()
        if self._task is not None:
            await self._task
        self._thread.shutdown()
        self._files.close()

    def _admit(self, size: int) -> None:
        if self._stopping:
            raise Stopping("The collector is shutting down.")
        if size > self.largest_record:
            raise TooLarge(
                f"A request of {size} bytes can never fit in the log; the limit is {self.largest_record}."
            )
        if self._pending_bytes + size > self._max_pending_bytes:
            raise LogFull(
                "Too much is waiting for the disk of the write-ahead log.", retry_after=RETRY_SECONDS
            )
        if self._ledger.disk_bytes + self._pending_bytes + size > self._max_bytes:
            raise LogFull("The write-ahead log is full.", retry_after=RETRY_SECONDS)

    async def _write_groups(self) -> None:
        loop = asyncio.get_running_loop()
        group: _Group | None = None
        try:
            while True:
                while not self._groups:
                    if self._stopping:
                        return
                    self._work.clear()
                    await self._work.wait()
                group = self._groups.popleft()
                avoid = self._ledger.segments[-1].finished if self._ledger.segments else False
                try:
                    segment, end = await loop.run_in_executor(self._thread, self._files.write, group, avoid)
                except OSError as error:
                    self._pending_bytes -= group.body_bytes
                    if not self._files.is_open:
                        self._ledger.close_last()
                    group.fail(self._refusal(error))
                else:
                    self._pending_bytes -= group.body_bytes
                    self._ledger.extend(segment, end)
                    self._recovered()
                    group.succeed(end)
        finally:  # also on a defect: nobody waits forever, and nobody comes after
            self._stopping = True
            for abandoned in (group, *self._groups):
                if abandoned is not None:
                    abandoned.fail(Stopping("The write-ahead log has stopped."))
            self._groups.clear()

    def _refusal(self, error: OSError) -> Unavailable:
        if not self.last_error:
            log.error(
                "The write-ahead log cannot be written",
                extra={"action": "wal_write", "reason": error.strerror},
            )
        self.last_error = error.strerror or type(error).__name__
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return LogFull("The disk of the write-ahead log is full.", retry_after=RETRY_SECONDS)
        return StorageDown(
            f"The write-ahead log cannot be written: {self.last_error}.", retry_after=RETRY_SECONDS
        )

    def _recovered(self) -> None:
        if self.last_error:
            log.info("The write-ahead log can be written again", extra={"action": "wal_write"})
            self.last_error = ""


class _Files:
    """The blocking half, used by the writer's thread only: which file is written, and up to where."""

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

    def write(self, group: _Group, avoid_current: bool) -> tuple[Segment, int]:
        """Make the group durable; the segment it is in and the position behind it."""
        size = frames.FRAME_OVERHEAD_BYTES + group.body_bytes
        self._check_reserve(size)
        segment = self._segment
        if segment is not None and (avoid_current or self._is_full(segment, size)):
            self.close()
            segment = None
        if segment is None:
            segment = self._open_segment()
        start = self._end
        header = frames.encode_frame_header(start, len(group.waiting), clock.now_ns(), group.body_bytes)
        try:
            self._write_all([header, *group.buffers, frames.encode_frame_end(group.crc)], size)
            self._filesystem.sync(self._descriptor)
        except OSError:
            self._abandon(segment, size)
            raise
        self._end = self._previous_end = self._next_first = start + size
        self._unchecked_bytes += size
        return segment, self._end

    @property
    def is_open(self) -> bool:
        """Whether the next group may go into the same segment as the last one."""
        return self._segment is not None

    def close(self) -> None:
        """Close the segment; all its frames are durable already."""
        if self._segment is not None:
            self._filesystem.close(self._descriptor)
            self._segment = None

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

    def _open_segment(self) -> Segment:
        first = self._next_first
        self._next_first += frames.SEGMENT_HEADER_BYTES  # whatever happens below, this name is used up
        path = self._folder / frames.segment_name(first)
        header = frames.SegmentHeader(self._log_id, first, self._previous_end, clock.now_ns())
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
        """A segment that holds no durable frame; if it cannot be removed it is empty at the next start,
        too."""
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
