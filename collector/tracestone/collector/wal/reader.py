"""Hands out what is durable, in order, as batches ready for ClickHouse, and lets go of what is consumed.

A batch lies within one segment and is named by the positions of its first and last byte, which together with
the log's id never stand for other content. Its end is kept in the cursor file before it is handed out: after
a crash the same batches come again, with the same names.

`next` may be called again before `acknowledge`, up to MAX_OPEN_BATCHES times; `acknowledge` is in order. The
store's insert comes before `acknowledge`, which makes the cursor durable before it deletes a segment.

Damage found while reading (the disk changed what recovery had found intact) ends the segment there: it is set
aside once what is before is consumed, and reading goes on with the next one. The same holds for a frame that
the disk fails to read UNREADABLE_TRIES times, and for a segment whose file somebody removed; what is lost
with that one is counted in `missing_bytes`. When the whole folder is away, nothing is given up.

**Behind.** When much waits and has waited long, say after an hour without the store, what arrives from then on need
not wait for all of it: every second batch is one of what is new, until the old has caught up (see `lanes`). Batches
come in order within the old and within the new; the cursor file knows of the old alone, so that after a crash what was
new comes again, and replaces itself in the store.
"""

import asyncio
import contextlib
import errno
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar, TypeVarTuple

from tracestone.collector.wal import frames, quarantine, scan
from tracestone.collector.wal.cursor import MAX_OPEN_BATCHES, Cursor
from tracestone.collector.wal.filesystem import Filesystem, read_whole
from tracestone.collector.wal.lanes import Ahead
from tracestone.collector.wal.ledger import Damage, Ledger, Segment
from tracestone.schema import clock
from tracestone.schema.errors import StorageDown

log = logging.getLogger(__name__)

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")

READ_SLACK_BYTES = 64 * 1024  # frame headers among the bodies
UNREADABLE_TRIES = 8  # with the pauses of the loader, about half a minute


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive records. `payload` is each record's length as a varint, then the record, and so on.

    `name` never stands for other content; `first` and `end` are positions; `oldest` is when the first record was
    written, wall clock, ns. `parts` are the names of the batches of single logs that it is joined of, else its own.
    """

    name: str
    first: int
    end: int
    payload: bytes
    records: int
    oldest: int
    parts: tuple[str, ...]


class Reader:
    """The only reader of a log. Call everything from one event loop, `next` from one task."""

    def __init__(
        self, filesystem: Filesystem, folder: Path, ledger: Ledger, cursor: Cursor, *, quarantined: int = 0
    ) -> None:
        self._filesystem = filesystem
        self._folder = folder
        self._ledger = ledger
        self._cursor = cursor
        self._log_id = cursor.state.log_id.hex()
        self._position = ledger.acknowledged
        self._ahead = Ahead(ledger)
        self._repeat = list(cursor.state.batch_ends)  # of batches that were out when the last process ended
        self._open: list[Batch] = []
        self._descriptor: tuple[Segment, int] | None = None
        # `next` and `acknowledge` run in different tasks; what they write to the cursor must not interleave.
        self._moving = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="wal-reader")
        self._careful_until = 0  # before this position, frames are read one by one
        self._unreadable = (0, 0)  # a position, and how often reading failed there
        self._missing_bytes = 0
        self._newest = cursor.state.newest  # the highest time in any frame that was read
        self.quarantined = quarantined
        self.last_error = ""

    @property
    def acknowledged(self) -> int:
        """All before this position is consumed, and durably so."""
        return self._ledger.acknowledged

    @property
    def oldest(self) -> int | None:
        """When the oldest record that is handed out and not acknowledged was written, wall clock, ns."""
        return min((batch.oldest for batch in self._open), default=None)

    @property
    def ahead_bytes(self) -> int:
        """What is consumed although what is before it is not."""
        return self._ahead.done_bytes

    @property
    def missing_bytes(self) -> int:
        """What was durable and is lost, because somebody removed its file."""
        return self._missing_bytes + sum(segment.lost_bytes for segment in self._ledger.segments)

    async def next(self, max_bytes: int, timeout: float, max_age: float = 0.0) -> Batch | None:  # noqa: ASYNC109
        """The next batch, or None if nothing is durable within `timeout` seconds.

        Waits until `max_bytes` are there or the oldest has waited `max_age` seconds. A batch's payload is at
        most `max_bytes`, except that what was committed together (at most 4 MiB, or one larger record) stays
        together. Raises StorageDown if the disk cannot be read or the cursor not be written; nothing is
        skipped then.
        """
        if len(self._open) >= MAX_OPEN_BATCHES:
            raise RuntimeError(f"{len(self._open)} batches are out; acknowledge one first")
        async with self._moving:
            await self._catch_up()
            await self._release(self._ledger.acknowledged)
        await self.wait(max_bytes, timeout, max_age)
        if self._ahead.is_due(max_bytes) and (batch := await self._next_ahead(max_bytes)) is not None:
            return batch
        while (segment := self._next_segment()) is not None:
            start = max(segment.start, self._position)
            batch = await self._again(segment, start)
            damage = None
            if batch is None:
                limit = self._ahead.bounded(segment.limit)
                batch, damage = await self._in_thread(self._read, segment, start, limit, max_bytes)
            if batch is not None:
                async with self._moving:
                    await self._hand_out(batch)
                if not self._repeat:
                    self._ahead.consider(batch.end, batch.oldest, max_bytes)
                return batch
            if damage is not None:
                self._damaged(segment, damage)
        if (batch := await self._next_ahead(max_bytes)) is not None:
            return batch
        async with self._moving:
            await self._release(self._ledger.acknowledged)
        return None

    async def _next_ahead(self, max_bytes: int) -> Batch | None:
        """The next batch of what is new while the old is behind; None if there is none."""
        while self._ahead.is_open and (segment := self._ahead.segment()) is not None:
            start = max(segment.start, self._ahead.position)
            batch, damage = await self._in_thread(self._read, segment, start, segment.limit, max_bytes)
            if batch is not None:
                self._open.append(replace(batch, payload=b""))
                self._ahead.handed_out(batch.end)
                return batch
            if damage is not None:
                self._damaged(segment, damage)
        return None

    async def _catch_up(self) -> None:
        """When all that was old is consumed, what is new is all there is."""
        old = [batch for batch in self._open if not self._ahead.has(batch.end)]
        if not self._ahead.is_open or old or self._next_segment() is not None:
            return
        await self._release(max(self._ledger.acknowledged, self._ahead.done), tuple(each.end for each in self._open))
        self._position = self._ahead.close()
        self._ledger.unread_since = clock.monotonic() if self._unread(1) else None

    async def wait(self, max_bytes: int, seconds: float, max_age: float) -> bool:
        """Return True when a batch is due (see `next`), False when nothing came for `seconds`."""
        ledger = self._ledger
        if not self._unread(1):
            ledger.unread_since = None
            await ledger.reached(ledger.synced + 1, seconds)
        if ledger.unread_since is None or self._repeat or self._unread(max_bytes) >= max_bytes:
            return ledger.unread_since is not None
        remaining = ledger.unread_since + max_age - clock.monotonic()
        if remaining > 0:
            missing = max_bytes - self._unread(max_bytes)
            await ledger.reached(ledger.synced + missing, remaining)
        return True

    async def acknowledge(self, end: int) -> None:
        """All up to `end`, the end of a batch that is out, is consumed. Durable on return.

        Raises StorageDown if the cursor cannot be written; call again then.
        """
        async with self._moving:
            ends = [batch.end for batch in self._open]
            if end not in ends:
                raise ValueError(f"{end} is not the end of a batch that is out")
            taken, left = ends[: ends.index(end) + 1], ends[ends.index(end) + 1 :]
            old = [each for each in taken if not self._ahead.has(each)]
            still_out = tuple(each for each in left if not self._ahead.has(each))
            await self._release(old[-1] if old else self._ledger.acknowledged, still_out)
            self._open = self._open[len(taken) :]
            self._ahead.consumed(taken)
            with contextlib.suppress(StorageDown):  # `next` does it then
                await self._catch_up()

    def rewind(self) -> None:
        """Hand out again, unchanged, what is out and not acknowledged."""
        self._repeat = [batch.end for batch in self._open if not self._ahead.has(batch.end)] + self._repeat
        self._open.clear()
        self._ahead.rewind()
        self._position = self._ledger.acknowledged
        self._ledger.unread_since = 0.0

    async def exclusively(self, work: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
        """Run blocking work on the files while the reader touches none. Raises StorageDown."""
        async with self._moving:
            return await self._in_thread(work, *arguments)

    async def close(self) -> None:
        """Stop; what is out and not acknowledged comes again with the next process."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close_files)
        self._thread.shutdown()

    async def _again(self, segment: Segment, start: int) -> Batch | None:
        """The batch at `start` that was out before; None if there was none or it is no longer whole."""
        if not self._repeat:
            return None
        end = self._repeat[0]
        if start < end <= segment.limit:
            batch, _ = await self._in_thread(self._read, segment, start, end, end - start)
            if batch is not None and batch.end == end:
                return batch
        self._repeat.clear()
        return None

    def _next_segment(self) -> Segment | None:
        """The segment the next unread frame is in, but for what is read ahead."""
        for segment in self._ledger.segments:
            if self._ahead.bounded(segment.limit) > max(segment.start, self._position):
                return segment
        return None

    def _unread(self, enough: int) -> int:
        """Bytes that were not handed out; stops counting at `enough`."""
        return self._ahead.unread(self._position, enough)

    async def _hand_out(self, batch: Batch) -> None:
        self._open.append(replace(batch, payload=b""))
        try:
            repeated = self._repeat[1:] if self._repeat and self._repeat[0] == batch.end else []
            ends = (*self._old_ends(), *repeated)
            await self._in_thread(self._save, self._ledger.acknowledged, ends)
        except BaseException:
            self._open.pop()
            raise
        self._repeat = repeated
        self._position = batch.end
        self._ledger.unread_since = clock.monotonic() if self._unread(1) else None

    def _old_ends(self) -> tuple[int, ...]:
        """Where the batches end that are out and that the cursor file knows."""
        return tuple(batch.end for batch in self._open if not self._ahead.has(batch.end))

    async def _release(self, acknowledged: int, ends: tuple[int, ...] | None = None) -> None:
        """Set damaged segments aside, move the cursor, then delete the segments that are no longer needed.

        In this order: what lies behind the cursor is deleted by the next start. While one cannot be set aside, the
        cursor stays before it, and what is behind comes again after a crash.
        """
        done, beyond = self._ledger.consumed(acknowledged)
        for number, segment in enumerate(done):
            if not await self._is_aside(segment):
                done, beyond = done[:number], segment.limit
                break
        if beyond > self._ledger.acknowledged:
            still_out = self._old_ends() if ends is None else ends
            await self._in_thread(self._save, beyond, (*still_out, *self._repeat))
            self._ledger.acknowledged = beyond
        for segment in done:
            if segment.damage is None and not await self._is_freed(self._remove, segment):
                return
            self._ledger.drop(segment)
            self._missing_bytes += segment.lost_bytes

    async def _is_aside(self, segment: Segment) -> bool:
        """Whether nothing of the segment would be lost if its file were deleted; sets it aside for that."""
        if segment.damage is None or segment.damage.is_gone or segment.is_aside:
            return True
        return await self._is_freed(self._set_aside, segment)

    async def _is_freed(self, work: Callable[[Segment], None], segment: Segment) -> bool:
        try:
            await self._in_thread(work, segment)
        except StorageDown as error:  # it is only space, and tried again
            log.warning(
                "A log segment that was read cannot be removed or set aside",
                extra={"action": "wal_remove", "segment": segment.path.name, "reason": str(error)},
            )
            return False
        return True

    def _damaged(self, segment: Segment, damage: Damage) -> None:
        self._ledger.damaged(segment, damage)
        self._repeat.clear()  # the batches that come now are others
        log.error(
            "A log segment was removed by somebody; what was not read of it is lost"
            if damage.is_gone
            else "A log segment is damaged; what is before the damage is read, the file is set aside",
            extra={
                "action": "wal_damage",
                "segment": segment.path.name,
                "position": damage.position,
                "reason": damage.reason,
            },
        )

    async def _in_thread(self, work: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
        try:
            result = await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)
        except OSError as error:
            self.last_error = error.strerror or type(error).__name__
            raise StorageDown(f"The write-ahead log cannot be read: {self.last_error}.") from error
        self.last_error = ""
        return result

    # What follows runs on the reader's thread.

    def _read(self, segment: Segment, start: int, limit: int, max_bytes: int) -> tuple[Batch | None, Damage | None]:
        try:
            descriptor = self._open_segment(segment)
        except FileNotFoundError:
            self._filesystem.names(self._folder)  # raises if the whole folder is away: it may come back
            return None, Damage(start, "the file is gone", is_gone=True)
        batch = None
        if start >= self._careful_until:
            try:
                batch = self._read_run(descriptor, segment, start, limit, max_bytes)
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                self._careful_until = start + max_bytes + READ_SLACK_BYTES
        if batch is None:
            batch = self._read_frame(descriptor, segment, start, limit)
        return (None, batch) if isinstance(batch, Damage) else (batch, None)

    def _read_frame(self, descriptor: int, segment: Segment, start: int, limit: int) -> Batch | Damage:
        """The frame at `start` alone, because something of what follows cannot be read."""
        try:
            header = scan.header_at(self._filesystem, segment, descriptor, start)
            size = frames.FRAME_HEADER_BYTES if header is None else header.size
            return self._read_run(descriptor, segment, start, min(limit, start + size), size, slack=0)
        except OSError as error:
            position, tries = self._unreadable
            self._unreadable = start, tries + 1 if position == start else 1
            if error.errno != errno.EIO or self._unreadable[1] < UNREADABLE_TRIES:
                raise
            return Damage(start, scan.UNREADABLE)

    def _read_run(
        self, descriptor: int, segment: Segment, start: int, limit: int, max_bytes: int, slack: int = READ_SLACK_BYTES
    ) -> Batch | Damage:
        size = min(limit - start, max_bytes + slack)
        data = read_whole(self._filesystem, descriptor, size, start - segment.first)
        run = frames.read_run(memoryview(data), start, max_bytes)
        if not run.size and size < run.wanted <= limit - start:  # one record larger than was read
            data = read_whole(self._filesystem, descriptor, run.wanted, start - segment.first)
            run = frames.read_run(memoryview(data), start, max_bytes)
        if not run.size:
            return Damage(start, run.fault or "the segment ends inside a frame")
        self._newest = max(self._newest, run.newest)
        end = start + run.size
        name = f"{self._log_id}/{start}-{end}"
        return Batch(name, start, end, b"".join(run.bodies), run.records, run.oldest, (name,))

    def _save(self, acknowledged: int, batch_ends: tuple[int, ...]) -> None:
        floor = self._cursor.state.floor
        self._cursor.save(acknowledged=acknowledged, floor=floor, batch_ends=batch_ends, newest=self._newest)

    def _remove(self, segment: Segment) -> None:
        self._let_go(segment)
        with contextlib.suppress(FileNotFoundError):
            self._filesystem.remove(segment.path)

    def _set_aside(self, segment: Segment) -> None:
        assert segment.damage is not None
        self._let_go(segment)
        try:
            quarantine.set_aside(self._filesystem, self._folder, segment.path, segment.damage)
        except FileNotFoundError:
            self._filesystem.names(self._folder)  # raises if the whole folder is away: it may come back
            segment.damage = replace(segment.damage, is_gone=True)
        else:
            segment.is_aside = True
            self.quarantined += 1

    def _let_go(self, segment: Segment) -> None:
        if self._descriptor is not None and self._descriptor[0] is segment:
            self._close_segment()

    def _open_segment(self, segment: Segment) -> int:
        if self._descriptor is None or self._descriptor[0] is not segment:
            self._close_segment()
            self._descriptor = (segment, self._filesystem.open(segment.path))
        return self._descriptor[1]

    def _close_segment(self) -> None:
        if self._descriptor is not None:
            _, descriptor = self._descriptor
            self._descriptor = None
            self._filesystem.close(descriptor)

    def _close_files(self) -> None:
        self._close_segment()
        self._cursor.close()
