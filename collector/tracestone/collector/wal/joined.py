"""Several logs read as one: what arrived in any of them goes to the store in common batches.

An insert costs much however small it is, so the logs of several receiver processes must not each have their own. A
joined batch holds at most one batch of each log; its positions count what was handed out and mean nothing in any log.
What a crash leaves comes again log by log, joined in other ways or not at all.
"""

import asyncio
import zlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from tracestone.collector.wal.reader import Batch, Reader
from tracestone.schema.errors import StorageDown


@dataclass(slots=True)
class _Out:
    """A joined batch that is out: where it ends, and what is not acknowledged of it."""

    end: int
    oldest: int
    parts: deque[tuple[Reader, int]] = field(default_factory=deque)


class JoinedReader:
    """Reads like a `Reader`, from all logs by turns."""

    def __init__(self, readers: Sequence[Reader]) -> None:
        self._readers = deque(readers)
        self._out: deque[_Out] = deque()
        self._end = 0

    @property
    def oldest(self) -> int | None:
        """When the oldest record that is handed out and not acknowledged was written, wall clock, ns."""
        return min((out.oldest for out in self._out), default=None)

    async def next(self, max_bytes: int, timeout: float, max_age: float = 0.0) -> Batch | None:  # noqa: ASYNC109
        """The next joined batch, or None if nothing is durable within `timeout` seconds; see `Reader.next`.

        Raises StorageDown only when there is nothing to read in the other logs.
        """
        if len(self._readers) == 1:
            await self._readers[0].wait(max_bytes, timeout, max_age)
        else:
            await self._wait(max_bytes, timeout, max_age)
        taken: list[tuple[Reader, Batch]] = []
        problem: StorageDown | None = None
        room = max_bytes
        for reader in list(self._readers):
            # What was committed together stays together, so a little room may become a batch much too large.
            if taken and room < max_bytes // 2:
                break
            try:
                batch = await reader.next(room, 0.0)
            except StorageDown as error:
                problem = error
                continue
            if batch is not None:
                taken.append((reader, batch))
                room -= len(batch.payload)
        self._readers.rotate(-1)
        if taken:
            return self._hand_out(taken)
        if problem is not None:
            raise problem
        return None

    async def acknowledge(self, end: int) -> None:
        """All batches handed out up to the one that ends at `end` are consumed. Durable on return.

        Raises StorageDown if a cursor cannot be written; call again then.
        """
        if all(out.end != end for out in self._out):
            raise ValueError(f"{end} is not the end of a batch that is out")
        while self._out and self._out[0].end <= end:
            parts = self._out[0].parts
            while parts:
                reader, part_end = parts[0]
                await reader.acknowledge(part_end)
                parts.popleft()
            self._out.popleft()

    def rewind(self) -> None:
        """Hand out again what is out and not acknowledged, perhaps joined in another way."""
        self._out.clear()
        for reader in self._readers:
            reader.rewind()

    async def _wait(self, max_bytes: int, seconds: float, max_age: float) -> None:
        """Returns when a batch is due in any log, or nothing came in all of them for `seconds`."""

        def begin(reader: Reader) -> asyncio.Task[bool]:
            return asyncio.create_task(reader.wait(max_bytes, seconds, max_age))

        waiting = {begin(reader): reader for reader in self._readers}
        try:
            while True:
                done, others = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if not others or any(task.result() for task in done):
                    return
                # Nothing came there, but in another log something waits to be due: what comes now may be due before.
                for task in done:
                    reader = waiting.pop(task)
                    waiting[begin(reader)] = reader
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting)

    def _hand_out(self, taken: list[tuple[Reader, Batch]]) -> Batch:
        batches = [batch for _, batch in taken]
        first, self._end = self._end, self._end + sum(batch.end - batch.first for batch in batches)
        oldest = min(batch.oldest for batch in batches)
        self._out.append(_Out(self._end, oldest, deque((reader, batch.end) for reader, batch in taken)))
        if len(batches) == 1:
            name, payload = batches[0].name, batches[0].payload
        else:
            others = ",".join(batch.name for batch in batches[1:])
            name = f"{batches[0].name}+{len(batches) - 1}-{zlib.crc32(others.encode()):08x}"
            payload = b"".join(batch.payload for batch in batches)
        records = sum(batch.records for batch in batches)
        return Batch(name, first, self._end, payload, records, oldest, tuple(batch.name for batch in batches))
