"""From the write-ahead logs of a signal into ClickHouse.

    reader.next ─▶ insert ─▶ what follows it (for spans: refresh of the touched traces) ─▶ reader.acknowledge

A batch is acknowledged, and may leave the log, only when it is stored and what follows is done; after a crash it is
read and inserted again, and what is in it replaces itself. Inserting and following overlap: while one follow-up runs,
batches queue up and the next takes them all, so the more there is to do the cheaper a span becomes.

What ClickHouse cannot take now is tried again, the log keeping what waits (C4). What it refuses for its content is
taken apart (`isolate`) until the items at fault are alone; they go to the dead letters with the reason, and all others
are stored (C3). The same holds for a trace that cannot be computed.

**Notes of batches expire.** What follows learns from notes in ClickHouse what a batch touched, and these are dropped
after three hours. When it had to wait too long, its batches are inserted once more: then the notes are there again.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from tracestone.collector.ingest import faults
from tracestone.collector.ingest.backoff import Backoff
from tracestone.collector.ingest.deadletter import DeadLetters, Follow
from tracestone.collector.ingest.destination import Destination
from tracestone.collector.ingest.destination import Follow as DoFollow
from tracestone.collector.ingest.isolate import Isolate
from tracestone.collector.ingest.turns import INSERTS_AT_ONCE
from tracestone.collector.metrics.durations import Durations
from tracestone.collector.signals.signal import Signal
from tracestone.collector.wal.cursor import MAX_OPEN_BATCHES
from tracestone.collector.wal.frames import varint
from tracestone.collector.wal.joined import JoinedReader
from tracestone.collector.wal.reader import Batch
from tracestone.schema import clock
from tracestone.schema.engines.columnar import StatementFailed
from tracestone.schema.errors import Rejected, Unavailable

logger = logging.getLogger(__name__)

# Inserted batches that may wait for what follows: what the log lets be out at once, less the one being inserted.
_MAX_UNFOLLOWED = MAX_OPEN_BATCHES - 1
_POLL_SECONDS = 1.0
_LONG_SECONDS = 15.0
# Well before the notes of batches expire.
_NOTES_SECONDS = 3600.0
_SPLIT = 8
_MAX_SPLIT = _SPLIT**3


class _NotesExpired(Exception):
    """The notes of batches that a follow-up needs may be gone."""


@dataclass
class LoaderState:
    """For /health and /metrics. `error` is empty while all is well; the rest counts since the start."""

    problems: dict[str, str] = field(default_factory=dict)
    batches: int = 0
    records: int = 0
    payload_bytes: int = 0
    failures: int = 0
    inserts: Durations = field(default_factory=Durations)
    follows: Durations = field(default_factory=Durations)

    @property
    def error(self) -> str:
        """What is wrong now."""
        return "; ".join(self.problems.values())


@dataclass(frozen=True)
class _Moment:
    """Now, by both clocks. ClickHouse removes notes by the one that may jump."""

    monotonic: float = field(default_factory=clock.monotonic)
    wall_ns: int = field(default_factory=clock.now_ns)

    def seconds_ago(self) -> float:
        """How long ago that is, by whichever says longer."""
        return max(clock.monotonic() - self.monotonic, (clock.now_ns() - self.wall_ns) / 1e9)


@dataclass(frozen=True)
class _Inserted:
    """A batch that waits for what follows; `since` is when it was inserted."""

    name: str
    end: int
    since: _Moment


@dataclass(frozen=True)
class _Refused:
    """Part of a batch that cannot be stored."""

    payload: bytes
    reason: str


class Loader:
    """The one task that moves the logs of a signal into ClickHouse."""

    def __init__(
        self,
        signal: Signal,
        reader: JoinedReader,
        destination: Destination,
        dead_letters: DeadLetters,
        *,
        turn: Callable[[], AbstractAsyncContextManager[None]],
        batch_max_bytes: int,
        batch_max_age: float,
    ) -> None:
        self._signal = signal
        self._reader = reader
        self._destination = destination
        self._isolate = Isolate(signal)
        self._dead_letters = dead_letters
        self._max_bytes = batch_max_bytes
        self._max_age = batch_max_age
        self.state = LoaderState()
        self._moved = asyncio.Condition()
        self._slots = asyncio.Semaphore(_MAX_UNFOLLOWED)
        self._turn = turn
        self._inserts = asyncio.Semaphore(INSERTS_AT_ONCE)
        self._unfollowed: list[_Inserted] = []
        # Of two that run at once, the one that read less might be the one that counts.
        self._following = asyncio.Lock()
        self._inserted = asyncio.Event()
        self._urgent = 0

    async def run(self) -> None:
        """Moves batches until cancelled. After a defect it begins anew with what is not acknowledged."""
        backoff = Backoff()
        while True:
            began = clock.monotonic()
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._insert_all(), name="loader-insert")
                    tasks.create_task(self._follow_all(), name="loader-follow")
            except* _NotesExpired:
                logger.warning("batches waited too long for what follows them", extra=self._extra("rewind"))
            except* Exception as group:
                logger.exception("the loader failed and begins anew", exc_info=group, extra=self._extra("rewind"))
                self._failing("loader", f"the loader failed: {group.exceptions[0]!r}")
            if clock.monotonic() - began > _LONG_SECONDS:
                backoff = Backoff()
            await backoff.wait()
            self._reader.rewind()
            self._slots = asyncio.Semaphore(_MAX_UNFOLLOWED)
            self._inserts = asyncio.Semaphore(INSERTS_AT_ONCE)
            self._unfollowed = []

    @property
    def oldest(self) -> int | None:
        """When the oldest record was written that is in work and not stored, wall clock, ns."""
        return self._reader.oldest

    async def visible(self, reached: Callable[[], bool], within: float) -> bool:
        """Waits until the logs are acknowledged as far as `reached` asks; False when it took longer (C12)."""
        if reached():
            return True
        self._urgent += 1
        try:
            async with asyncio.timeout(within), self._moved:
                await self._moved.wait_for(reached)
            return True
        except TimeoutError:
            return False
        finally:
            self._urgent -= 1

    async def _insert_all(self) -> None:
        inserting: asyncio.Queue[asyncio.Task[_Inserted]] = asyncio.Queue()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._pass_on(inserting), name="loader-pass-on")
            while True:
                await self._slots.acquire()
                batch = await self._next()
                await self._inserts.acquire()
                inserting.put_nowait(tasks.create_task(self._insert_batch(batch), name="loader-batch"))

    async def _insert_batch(self, batch: Batch) -> _Inserted:
        try:
            await self._insert(batch)
        finally:
            self._inserts.release()
        self.state.batches += 1
        self.state.records += batch.records
        self.state.payload_bytes += len(batch.payload)
        return _Inserted(batch.name, batch.end, _Moment())

    async def _pass_on(self, inserting: asyncio.Queue[asyncio.Task[_Inserted]]) -> None:
        """Hands inserted batches on in the log's order, whichever was done first."""
        while True:
            done = await (await inserting.get())
            self._unfollowed.append(done)
            self._inserted.set()

    async def _next(self) -> Batch:
        backoff = Backoff()
        while True:
            try:
                batch = await self._reader.next(self._max_bytes, _POLL_SECONDS, self._age())
            except Unavailable as error:
                self._failing("read", str(error))
                await backoff.wait()
                continue
            self._well("read")
            if batch is not None:
                return batch

    def _age(self) -> float:
        return 0.0 if self._urgent else self._max_age

    async def _insert(self, batch: Batch) -> None:
        """Stores a batch; what is refused for its content is in the dead letters then."""
        refused = await self._store_parts(batch.name, batch.payload)
        backoff = Backoff()
        while refused:
            signal, reasons = self._signal.name, [each.reason for each in refused]
            kept = b"".join(each.payload for each in refused)
            try:
                kept = await self._dead_letters.unknown(batch.name, batch.parts, kept)
                if kept:
                    items = await asyncio.to_thread(self._isolate.item_count, kept)
                    await self._dead_letters.keep(signal, batch.name, kept, items, reasons, parts=batch.parts)
                break
            except Unavailable as error:
                self._failing("dead letters", str(error))
                await backoff.wait()
        self._well("dead letters")

    async def _store_parts(self, name: str, payload: bytes) -> list[_Refused]:
        """Stores what can be stored; the rest comes back."""
        error = await self._refusal(name, payload)
        if error is None:
            return []
        parts = await asyncio.to_thread(self._isolate.parts, payload)
        if not parts:
            return [_Refused(payload, str(error))]
        if bare := await asyncio.to_thread(self._isolate.without_items, payload) if len(parts) > 1 else None:
            reason = await self._refusal(name, bare)
            if reason is not None:  # not one of the items: what they share
                return [_Refused(payload, str(reason))]
        refused = []
        for part in parts:
            refused += await self._store_parts(name, part)
        return refused

    async def _refusal(self, name: str, payload: bytes) -> StatementFailed | None:
        """Stores a payload as soon as the store takes it; or the error for which its content is to blame."""
        backoff = Backoff()
        tries = 0
        while True:
            try:
                async with self._turn():
                    began = clock.monotonic()
                    await self._destination.insert(payload, name)
                    self.state.inserts.add(clock.monotonic() - began)
            except StatementFailed as error:
                tries += 1
                divisible = tries > 1 and await asyncio.to_thread(self._isolate.divisible, payload)
                if faults.blamed(error.code, tries, divisible=divisible):
                    if not faults.needs_probe(error.code) or await self._takes_inserts():
                        return error
                self._failing("insert", str(error))
            except Unavailable as error:
                tries = 0
                self._failing("insert", str(error))
            else:
                self._well("insert")
                return None
            await backoff.wait()

    async def _takes_inserts(self) -> bool:
        """Whether the store takes a request without items."""
        probe = self._signal.message(received_at=1).SerializeToString()
        try:
            async with self._turn():
                await self._destination.insert(varint(len(probe)) + probe, "probe")
        except (StatementFailed, Unavailable):
            return False
        return True

    async def _follow_all(self) -> None:
        while True:
            await self._inserted.wait()
            self._inserted.clear()
            taken, self._unfollowed = self._unfollowed, []
            if taken:
                await self._follow(taken)
                await self._acknowledge(taken)

    async def _acknowledge(self, taken: list[_Inserted]) -> None:
        backoff = Backoff()
        while True:
            try:
                await self._reader.acknowledge(taken[-1].end)
                break
            except Unavailable as error:
                self._failing("acknowledge", str(error))
                await backoff.wait()
        self._well("acknowledge")
        for _ in taken:
            self._slots.release()
        async with self._moved:
            self._moved.notify_all()

    async def _follow(self, taken: list[_Inserted]) -> None:
        """Does what follows some batches: together, else batch by batch, else by shares of what they touched."""
        if self._destination.follow is None:
            return
        oldest = taken[0].since
        work = [([each.name for each in taken], 0, 1)]
        while work:
            names, share, shares = work.pop()
            error = await self._follow_failure(self._destination.follow, names, share, shares, oldest)
            if error is None:
                continue
            if len(names) > 1:
                work += [([name], share, shares) for name in names]
            elif shares < _MAX_SPLIT:
                work += [(names, share + n * shares, shares * _SPLIT) for n in range(_SPLIT)]
            else:
                what = f"{self._destination.computed} with {self._destination.shared_by} % {shares} = {share}"
                note = f"{names[0]}.{self._destination.computed}-{share}-{shares}"
                touched = await self._touched(names, share, shares)
                follow = Follow(names, share, shares, touched, clock.now_ms())
                await self._keep_note(note, f"{what} cannot be computed: {error}", follow)

    async def _follow_failure(
        self, follow: DoFollow, names: list[str], share: int, shares: int, oldest: _Moment
    ) -> StatementFailed | None:
        """Follows up as soon as the store can; or the error for which what these batches touched is to blame."""
        backoff = Backoff()
        tries = 0
        while True:
            if oldest.seconds_ago() > _NOTES_SECONDS:
                raise _NotesExpired
            try:
                async with self._following:
                    began = clock.monotonic()
                    await follow(names, share, shares)
                    self.state.follows.add(clock.monotonic() - began)
            except StatementFailed as error:
                tries += 1
                if faults.blamed(error.code, tries, divisible=len(names) > 1 or shares < _MAX_SPLIT):
                    return error
                self._failing("refresh", str(error))
            except Unavailable as error:
                tries = 0
                self._failing("refresh", str(error))
            else:
                self._well("refresh")
                return None
            await backoff.wait()

    async def _touched(self, names: list[str], share: int, shares: int) -> list[tuple[int, str]]:
        """What the share is about; nothing if the store cannot tell even that."""
        backoff = Backoff()
        while self._destination.touched is not None:
            try:
                return await self._destination.touched(names, share, shares)
            except StatementFailed as error:
                logger.warning("what cannot be computed cannot be told", extra=self._extra("note", reason=str(error)))
                break
            except Unavailable as error:
                self._failing("refresh", str(error))
                await backoff.wait()
        return []

    async def follow_again(self, follow: Follow) -> None:
        """Does what could not be done after an insert. Raises Rejected when it fails again, Unavailable."""
        names, share, shares = follow.batches, follow.share, follow.shares
        if self._destination.follow is None:
            raise Rejected(f"Nothing follows the insert of {self._signal.name}.")
        try:
            if follow.touched and self._destination.touch is not None:
                names, share, shares = [f"again/{names[0]}"], 0, 1
                await self._destination.touch(names[0], follow.touched)
            elif clock.now_ms() - follow.kept_at_ms > 1000 * _NOTES_SECONDS:
                raise Rejected("Nobody knows any more what the batch touched; what it brought is stored.")
            async with self._following:
                await self._destination.follow(names, share, shares)
        except StatementFailed as error:
            raise Rejected(str(error)) from error

    async def _keep_note(self, name: str, reason: str, follow: Follow) -> None:
        backoff = Backoff()
        while True:
            try:
                await self._dead_letters.keep(self._signal.name, name, b"", 0, [reason], follow)
                return
            except Unavailable as error:
                self._failing("dead letters", str(error))
                await backoff.wait()

    def _failing(self, step: str, reason: str) -> None:
        if step not in self.state.problems:
            message = "what was received cannot be stored, the log keeps it"
            logger.warning(message, extra=self._extra(step, reason=reason))
        self.state.problems[step] = reason
        self.state.failures += 1

    def _well(self, step: str) -> None:
        self.state.problems.pop("loader", None)
        if self.state.problems.pop(step, None) is not None:
            logger.info("what was received is stored again", extra=self._extra(step))

    def _extra(self, action: str, **more: str) -> dict[str, str]:
        return {"action": action, "signal": self._signal.name, **more}
