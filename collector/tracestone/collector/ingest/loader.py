"""From the write-ahead log into ClickHouse.

    reader.next ─▶ store.insert (named by its place in the log) ─▶ refresh of the touched traces ─▶ reader.acknowledge

A batch is acknowledged, and may leave the log, only when its spans are stored and its traces recomputed; after a crash
it is read again under the same name and changes nothing. Inserting and refreshing overlap: while one refresh runs,
batches queue up and the next refresh takes them all, so the more there is to do the cheaper a span becomes.

What ClickHouse cannot take now is tried again, the log keeping what waits (C4). A batch that it refuses for what it
holds is cut in half until the request at fault is alone; that one goes to the dead letters, with the reason.
"""

import asyncio
import logging
import random
from dataclasses import dataclass

from tracestone.collector.ingest.deadletter import DeadLetters
from tracestone.collector.wal.cursor import MAX_OPEN_BATCHES
from tracestone.collector.wal.frames import split_payload
from tracestone.collector.wal.reader import Reader
from tracestone.schema import clock
from tracestone.schema.engines.columnar import StatementFailed
from tracestone.schema.errors import Unavailable
from tracestone.schema.stores.spans import SpanStore

logger = logging.getLogger(__name__)

# Inserted batches that may wait for their refresh: what the log lets be out at once, less the one being inserted.
_MAX_UNREFRESHED = MAX_OPEN_BATCHES - 1
_POLL_SECONDS = 1.0
_FIRST_RETRY_SECONDS = 0.2
_LAST_RETRY_SECONDS = 15.0
# Error codes that say the data is at fault, not the server or its load: trying again cannot help.
_DATA_ERRORS = frozenset({6, 27, 38, 41, 53, 70, 72, 117, 128, 131, 190, 321, 349, 432, 434, 440, 444, 589, 617, 636})


@dataclass
class LoaderState:
    """For /health. `error` is empty while all is well."""

    inserted_end: int = 0
    visible_end: int = 0
    error: str = ""
    failing_since: float | None = None


class Loader:
    """The one task that moves the log into ClickHouse."""

    def __init__(
        self,
        reader: Reader,
        store: SpanStore,
        dead_letters: DeadLetters,
        *,
        log_id: str,
        batch_max_bytes: int,
        batch_max_age: float,
    ) -> None:
        self._reader = reader
        self._store = store
        self._dead_letters = dead_letters
        self._log_id = log_id
        self._max_bytes = batch_max_bytes
        self._max_age = batch_max_age
        self.state = LoaderState(inserted_end=reader.acknowledged, visible_end=reader.acknowledged)
        self._moved = asyncio.Condition()
        self._slots = asyncio.Semaphore(_MAX_UNREFRESHED)
        self._unrefreshed: list[tuple[str, int]] = []
        self._inserted = asyncio.Event()
        self._urgent = 0

    async def run(self) -> None:
        """Moves batches until cancelled; never raises for what can be tried again."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._insert_all(), name="loader-insert")
            tasks.create_task(self._refresh_all(), name="loader-refresh")

    async def visible(self, position: int, within: float) -> bool:
        """Waits until everything up to a log position can be queried; False when it took longer (C12)."""
        if self.state.visible_end >= position:
            return True
        self._urgent += 1
        try:
            async with asyncio.timeout(within), self._moved:
                await self._moved.wait_for(lambda: self.state.visible_end >= position)
            return True
        except TimeoutError:
            return False
        finally:
            self._urgent -= 1

    async def _insert_all(self) -> None:
        while True:
            await self._slots.acquire()
            batch = None
            while batch is None:
                batch = await self._reader.next(self._max_bytes, _POLL_SECONDS, self._age())
            name = f"{self._log_id}/{batch.first}-{batch.end}"
            await self._insert(name, batch.payload)
            self.state.inserted_end = batch.end
            self._unrefreshed.append((name, batch.end))
            self._inserted.set()

    def _age(self) -> float:
        return 0.0 if self._urgent else self._max_age

    async def _insert(self, name: str, payload: bytes) -> None:
        delay = _FIRST_RETRY_SECONDS
        while True:
            try:
                await self._store.insert(payload, name)
            except StatementFailed as error:
                if error.code in _DATA_ERRORS:
                    await self._isolate(name, payload, error)
                    self._well()
                    return
                self._failing(str(error))
            except Unavailable as error:
                self._failing(str(error))
            else:
                self._well()
                return
            await asyncio.sleep(delay * random.uniform(0.8, 1.2))
            delay = min(delay * 2, _LAST_RETRY_SECONDS)

    async def _isolate(self, name: str, payload: bytes, error: StatementFailed) -> None:
        records = split_payload(payload)
        if len(records) == 1:
            await self._dead_letters.keep(name, payload, str(error))
            return
        middle = len(records) // 2
        await self._insert(f"{name}.a", b"".join(records[:middle]))
        await self._insert(f"{name}.b", b"".join(records[middle:]))

    async def _refresh_all(self) -> None:
        delay = _FIRST_RETRY_SECONDS
        while True:
            await self._inserted.wait()
            self._inserted.clear()
            taken, self._unrefreshed = self._unrefreshed, []
            while taken:
                try:
                    await self._store.refresh_traces([name for name, _ in taken])
                    await self._reader.acknowledge(taken[-1][1])
                except (StatementFailed, Unavailable) as error:
                    self._failing(str(error))
                    await asyncio.sleep(delay * random.uniform(0.8, 1.2))
                    delay = min(delay * 2, _LAST_RETRY_SECONDS)
                    continue
                delay = _FIRST_RETRY_SECONDS
                for _ in taken:
                    self._slots.release()
                async with self._moved:
                    self.state.visible_end = taken[-1][1]
                    self._moved.notify_all()
                taken = []

    def _failing(self, reason: str) -> None:
        if self.state.failing_since is None:
            self.state.failing_since = clock.monotonic()
            logger.warning("spans cannot be stored, the log keeps them", extra={"action": "insert", "reason": reason})
        self.state.error = reason

    def _well(self) -> None:
        if self.state.failing_since is not None:
            logger.info("spans are stored again", extra={"action": "insert"})
        self.state.failing_since = None
        self.state.error = ""
