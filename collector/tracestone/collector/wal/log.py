"""A log, open: in one process whole (`open_log`), or the half that reads while another process writes (`open_half`)."""

import time
from dataclasses import dataclass
from pathlib import Path

from tracestone.collector.wal.cursor import Cursor
from tracestone.collector.wal.filesystem import Filesystem, RealFilesystem
from tracestone.collector.wal.ledger import Ledger, Segment, WriterLedger
from tracestone.collector.wal.reader import Reader
from tracestone.collector.wal.receipt import ReceiptClock
from tracestone.collector.wal.recovery import Recovered, Recovery
from tracestone.collector.wal.remote import Beginning, FollowedLedger, Words
from tracestone.collector.wal.writer import Writer
from tracestone.schema import clock
from tracestone.schema.errors import StartRefused

MIB = 1024 * 1024
LOCK_NAME = "lock"
_LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Stats:
    """The log's state, for /health. `last_error` is empty when the last operations worked.

    `missing_bytes` were acknowledged and are lost: the start or the reader since found them missing.
    """

    waiting_bytes: int
    disk_bytes: int
    segments: int
    quarantined: int
    missing_bytes: int
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
        return _stats(self._ledger, self.reader, self.recovered, self.writer.pending_bytes, self.writer.last_error)

    async def close(self) -> None:
        """Refuse new records, make durable what was taken, close everything."""
        try:
            await self.writer.close()
        finally:
            try:
                await self.reader.close()
            finally:
                self._filesystem.close(self._lock)


@dataclass(frozen=True, slots=True)
class HalfLog:
    """The reading half of a log: its reader, and what a writer in another process must be told and tells.

    A writer's process inherits `lock`, so that nobody opens the log before both have ended.
    """

    log_id: str
    reader: Reader
    recovered: Recovered
    ledger: FollowedLedger
    lock: int
    _folder: Path
    _filesystem: Filesystem
    _cursor: Cursor

    def begin(self) -> Beginning:
        """Where the next writer goes on. Only while there is none."""
        self.ledger.words.reset(self.ledger.synced)
        state = self._cursor.state
        # A segment that somebody removed is in no file, and its positions must not be used again all the same.
        first = max(state.floor, self.ledger.synced)
        return Beginning(state.log_id, first, self.ledger.previous_end, self.ledger.synced, self.ledger.disk_bytes)

    async def writer_ended(self) -> None:
        """Take over what a writer left that has ended in whatever way, after its last report was heard.

        What it made durable and did not report counts, a torn frame at the end is cut off. Raises StorageDown;
        call again then.
        """
        newest = self.ledger.segments[-1] if self.ledger.segments else None
        self.ledger.adopt(await self.reader.exclusively(self._look_at_tail, newest))

    def _look_at_tail(self, newest: Segment | None) -> list[Segment]:
        return Recovery(self._filesystem, self._folder, self._cursor).tail(newest)

    def stats(self) -> Stats:
        """The state now, without what the writer only has in memory; no I/O."""
        return _stats(self.ledger, self.reader, self.recovered, 0, "")

    async def close(self) -> None:
        """Stop reading. What is not consumed comes again with the next start."""
        try:
            await self.reader.close()
        finally:
            self._filesystem.close(self.lock)


def open_log(
    folder: Path,
    receipt: ReceiptClock,
    *,
    max_bytes: int,
    segment_bytes: int,
    filesystem: Filesystem | None = None,
    reserve_bytes: int = 8 * MIB,
    max_pending_bytes: int = 128 * MIB,
) -> Log:
    """Open the log in `folder`, which is made if need be. Blocking; raises StartRefused.

    `max_bytes` bounds the segments on disk (a segment is at most a quarter of it), `max_pending_bytes` what
    waits in memory for the disk, `reserve_bytes` is what stays free on the disk. `receipt` learns of the times in it.
    """
    files = RealFilesystem() if filesystem is None else filesystem
    lock, cursor, recovered, ledger = _open(files, folder, 0)
    receipt.at_least(recovered.newest)
    writer = open_writer(
        folder,
        _beginning(cursor, ledger),
        ledger,
        receipt,
        max_bytes=max_bytes,
        segment_bytes=segment_bytes,
        filesystem=files,
        reserve_bytes=reserve_bytes,
        max_pending_bytes=max_pending_bytes,
    )
    reader = Reader(files, folder, ledger, cursor, quarantined=recovered.quarantined)
    return Log(cursor.state.log_id.hex(), writer, reader, recovered, ledger, files, lock)


def open_half(
    folder: Path,
    receipt: ReceiptClock,
    words: Words,
    *,
    filesystem: Filesystem | None = None,
    lock_seconds: float = 0.0,
) -> HalfLog:
    """Open the log in `folder` for reading alone; `words` are shared with the writer to come.

    Waits `lock_seconds` for the writer of a process that was killed to end. Blocking; raises StartRefused.
    """
    files = RealFilesystem() if filesystem is None else filesystem
    lock, cursor, recovered, found = _open(files, folder, lock_seconds)
    receipt.at_least(recovered.newest)
    ledger = FollowedLedger.of(found, folder, words)
    words.reset(ledger.synced)
    reader = Reader(files, folder, ledger, cursor, quarantined=recovered.quarantined)
    return HalfLog(cursor.state.log_id.hex(), reader, recovered, ledger, lock, folder, files, cursor)


def open_writer(
    folder: Path,
    beginning: Beginning,
    ledger: WriterLedger,
    receipt: ReceiptClock,
    *,
    max_bytes: int,
    segment_bytes: int,
    filesystem: Filesystem | None = None,
    reserve_bytes: int = 8 * MIB,
    max_pending_bytes: int = 128 * MIB,
) -> Writer:
    """The writing half of a log that is open; for the bounds see `open_log`. No I/O."""
    return Writer(
        RealFilesystem() if filesystem is None else filesystem,
        folder,
        ledger,
        receipt,
        log_id=beginning.log_id,
        first=beginning.first,
        previous_end=beginning.previous_end,
        max_bytes=max_bytes,
        segment_bytes=min(segment_bytes, max_bytes // 4),
        reserve_bytes=reserve_bytes,
        max_pending_bytes=max_pending_bytes,
    )


def _open(files: Filesystem, folder: Path, lock_seconds: float) -> tuple[int, Cursor, Recovered, Ledger]:
    try:
        files.make_folder(folder)
        lock = _lock(files, folder / LOCK_NAME, lock_seconds)
    except BlockingIOError as error:
        raise StartRefused(f"The write-ahead log in {folder} is in use by another process.") from error
    except OSError as error:
        raise StartRefused(f"The write-ahead log in {folder} cannot be opened: {error.strerror}.") from error
    cursor = None
    try:
        cursor = Cursor(files, folder)
        recovery = Recovery(files, folder, cursor)
        return lock, cursor, recovery.recovered, recovery.run()
    except OSError as error:
        if cursor is not None:
            cursor.close()
        files.close(lock)
        where = f" ({error.filename})" if error.filename else ""
        raise StartRefused(f"The write-ahead log in {folder} cannot be opened: {error.strerror}{where}.") from error


def _lock(files: Filesystem, path: Path, seconds: float) -> int:
    end = clock.monotonic() + seconds
    while True:
        try:
            return files.lock(path)
        except BlockingIOError:
            if clock.monotonic() >= end:
                raise
        time.sleep(_LOOK_SECONDS)


def _beginning(cursor: Cursor, ledger: Ledger) -> Beginning:
    state = cursor.state
    return Beginning(state.log_id, state.floor, ledger.previous_end, ledger.synced, ledger.disk_bytes)


def _stats(ledger: Ledger, reader: Reader, recovered: Recovered, pending_bytes: int, writer_error: str) -> Stats:
    return Stats(
        waiting_bytes=ledger.bytes_after(ledger.acknowledged) - reader.ahead_bytes + pending_bytes,
        disk_bytes=ledger.disk_bytes,
        segments=len(ledger.segments),
        quarantined=reader.quarantined,
        missing_bytes=recovered.missing_bytes + reader.missing_bytes,
        oldest=reader.oldest,
        last_error=writer_error or reader.last_error,
    )
