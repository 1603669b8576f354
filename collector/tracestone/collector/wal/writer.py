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
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tracestone.collector.metrics.durations import Durations
from tracestone.collector.wal import frames
from tracestone.collector.wal.filesystem import Filesystem
from tracestone.collector.wal.ledger import WriterLedger
from tracestone.collector.wal.receipt import ReceiptClock
from tracestone.collector.wal.segments import Body, SegmentFiles
from tracestone.schema.errors import LogFull, Stopping, StorageDown, TooLarge, Unavailable

log = logging.getLogger(__name__)

FRAME_TARGET_BYTES = 4 * 1024 * 1024
HEADER_ROOM_BYTES = 1024  # the headers of a segment and of the frames that wait
RETRY_SECONDS = 1.0


@dataclass(eq=False, slots=True)
class _Group:
    """The requests of one frame."""

    body: Body = field(default_factory=Body)
    waiting: list[asyncio.Future[int]] = field(default_factory=list)

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
        ledger: WriterLedger,
        receipt: ReceiptClock,
        *,
        log_id: bytes,
        first: int,
        previous_end: int,
        max_bytes: int,
        segment_bytes: int,
        reserve_bytes: int,
        max_pending_bytes: int,
    ) -> None:
        self._files = SegmentFiles(filesystem, folder, log_id, first, previous_end, segment_bytes, reserve_bytes)
        self._ledger = ledger
        self._receipt = receipt
        self._max_bytes = max_bytes
        self._max_pending_bytes = max_pending_bytes
        self._groups: deque[_Group] = deque()
        self._pending_bytes = 0
        self._work = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="wal-writer")
        self.syncs = Durations()
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
        """Return the position behind `payload` once it is durable.

        It is consumed when the reader's `acknowledged` is at least that position. Raises LogFull (no room;
        later there may be), StorageDown (the disk failed), Stopping, or TooLarge (never fits). A cancelled
        append may or may not be in the log.
        """
        self._admit(len(payload))
        waiting: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        group = self._groups[-1] if self._groups else None
        if group is None or group.body.size + len(payload) > FRAME_TARGET_BYTES:
            group = _Group()
            self._groups.append(group)
        before = group.body.size
        group.body.add(payload)
        group.waiting.append(waiting)
        self._pending_bytes += group.body.size - before
        if self._task is None:
            self._task = asyncio.create_task(self._write_groups(), name="wal-writer")
        self._work.set()
        return await waiting

    async def close(self) -> None:
        """Refuse new records, make durable what was taken, and stop."""
        self._stopping = True
        self._work.set()
        try:
            if self._task is not None:
                await self._task
        finally:
            self._thread.shutdown()
            self._files.close()

    def _admit(self, size: int) -> None:
        if self._stopping:
            raise Stopping("The collector is shutting down.")
        if size > self.largest_record:
            raise TooLarge(f"A request of {size} bytes can never fit in the log; the limit is {self.largest_record}.")
        if self._pending_bytes + size > self._max_pending_bytes:
            raise LogFull("Too much is waiting for the disk of the write-ahead log.", retry_after=RETRY_SECONDS)
        if self._ledger.disk_bytes + self._pending_bytes + size + HEADER_ROOM_BYTES > self._max_bytes:
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
                is_over = self._ledger.newest_is_over
                written = self._receipt.newest()
                try:
                    segment, end = await loop.run_in_executor(
                        self._thread, self._files.write, group.body, written, is_over
                    )
                except OSError as error:
                    group.fail(self._refusal(error))
                else:
                    self._ledger.extend(segment, end)
                    self.syncs.add(self._files.sync_seconds)
                    self._recovered()
                    group.succeed(end)
                self._pending_bytes -= group.body.size
                if not self._files.is_open:
                    self._ledger.close_last()
        except BaseException:
            self.last_error = "the writer has stopped"
            raise
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
        return StorageDown(f"The write-ahead log cannot be written: {self.last_error}.", retry_after=RETRY_SECONDS)

    def _recovered(self) -> None:
        if self.last_error:
            log.info("The write-ahead log can be written again", extra={"action": "wal_write"})
            self.last_error = ""
