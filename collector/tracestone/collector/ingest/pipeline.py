"""The way of one signal in a process: its write-ahead logs and the loader that empties them."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from tracestone.collector.ingest.deadletter import DeadLetters, Follow
from tracestone.collector.ingest.destination import Destination
from tracestone.collector.ingest.loader import Loader
from tracestone.collector.signals.signal import Signal
from tracestone.collector.wal.joined import JoinedReader
from tracestone.collector.wal.log import HalfLog, Log, Stats
from tracestone.schema import clock
from tracestone.schema.settings import Settings

# Of a log's bound; from there on it is told as a problem, for senders will soon have to wait.
_NEARLY_FULL = 0.9


@dataclass(frozen=True)
class Backlog:
    """How far a signal's loader is behind its logs, and what these hold.

    `full` is what the fullest log uses of its bound. `oldest_seconds` is the age of the oldest record in work, 0 when
    there is none.
    """

    signal: str
    state: str
    waiting_bytes: int
    disk_bytes: int
    bound_bytes: int
    full: float
    segments: int
    quarantined: int
    missing_bytes: int
    oldest_seconds: float


class Pipeline:
    """A signal's logs and loader, between `start` and `stop`.

    The logs are given open and stay so. This process writes `log`; `others` have writers elsewhere.
    """

    def __init__(
        self,
        signal: Signal,
        log: Log,
        others: Sequence[HalfLog],
        destination: Destination,
        dead_letters: DeadLetters,
        turn: Callable[[], AbstractAsyncContextManager[None]],
        settings: Settings,
        others_max_bytes: int = 0,
    ) -> None:
        """`others_max_bytes` bounds each of `others`, all its signals together, as `settings` do for `log`."""
        self.signal = signal
        self.log = log
        self._others = others
        self._bound = int(settings.wal_max_bytes * signal.log_share)
        self._others_bound = int(others_max_bytes * signal.log_share)
        self.loader = Loader(
            signal,
            JoinedReader([log.reader, *(other.reader for other in others)]),
            destination,
            dead_letters,
            turn=turn,
            batch_max_bytes=settings.batch_max_bytes,
            batch_max_age=settings.batch_max_age_ms / 1000 * signal.batch_age,
        )
        self._loading: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to load."""
        self._loading = asyncio.create_task(self.loader.run(), name=f"load {self.signal.name}")

    async def stop(self) -> None:
        """Ends the loader; what is in the logs waits for the next start."""
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.wait([self._loading])

    async def visible(self, within: float) -> bool:
        """Waits until everything acknowledged so far can be queried; False when it took longer (seconds)."""
        asked = [(self.log.reader, self.log.writer.synced)]
        asked += [(other.reader, other.ledger.words.synced) for other in self._others]
        return await self.loader.visible(lambda: all(each.acknowledged >= position for each, position in asked), within)

    async def append(self, record: bytes) -> int:
        """Returns once a record, as the log stores it, is durable there; see `Writer.append`."""
        return await self.log.writer.append(record)

    async def follow_again(self, follow: Follow) -> None:
        """See `Loader.follow_again`."""
        await self.loader.follow_again(follow)

    def log_problem(self) -> str:
        """What is wrong with the logs, "" if nothing is."""
        problems = {each.last_error for each in self._stats()} - {""}
        backlog = self.backlog()
        if backlog.full >= _NEARLY_FULL:
            problems.add(f"{backlog.full:.0%} of the log's bound are used; beyond it senders must wait")
        return self._named("; ".join(sorted(problems)))

    def backlog(self) -> Backlog:
        """How far behind the loader is now; no I/O."""
        stats = self._stats()
        bounds = [self._bound, *(self._others_bound for _ in self._others)]
        oldest = self.loader.oldest
        waiting = sum(each.waiting_bytes for each in stats)
        if not waiting:
            state = "idle"
        else:
            state = "waiting" if self.loader_problem() else "loading"
        return Backlog(
            signal=self.signal.name,
            state=state,
            waiting_bytes=waiting,
            disk_bytes=sum(each.disk_bytes for each in stats),
            bound_bytes=sum(bounds),
            full=max(each.disk_bytes / bound for each, bound in zip(stats, bounds, strict=True)),
            segments=sum(each.segments for each in stats),
            quarantined=sum(each.quarantined for each in stats),
            missing_bytes=sum(each.missing_bytes for each in stats),
            # The clock may have been put back since.
            oldest_seconds=0.0 if oldest is None else max(0.0, (clock.now_ns() - oldest) / 1e9),
        )

    def _stats(self) -> list[Stats]:
        return [self.log.stats(), *(other.stats() for other in self._others)]

    def loader_problem(self) -> str:
        """What is wrong with the loader, "" if nothing is."""
        if self._loading is None or self._loading.done():
            return self._named("the loader has ended")
        return self._named(self.loader.state.error)

    def _named(self, problem: str) -> str:
        return f"{self.signal.name}: {problem}" if problem else ""
