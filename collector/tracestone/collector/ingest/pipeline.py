"""The way of one signal in a process: its write-ahead log and the loader that empties it."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from tracestone.collector.ingest.deadletter import DeadLetters
from tracestone.collector.ingest.destination import Destination
from tracestone.collector.ingest.loader import Loader
from tracestone.collector.signals.signal import Signal
from tracestone.collector.wal.log import Log
from tracestone.schema.settings import Settings


class Pipeline:
    """A signal's log and loader, between `start` and `stop`. The log is given open, and closed at `stop`."""

    def __init__(
        self,
        signal: Signal,
        log: Log,
        destination: Destination,
        dead_letters: DeadLetters,
        turn: Callable[[], AbstractAsyncContextManager[None]],
        settings: Settings,
    ) -> None:
        self.signal = signal
        self.log = log
        self.loader = Loader(
            signal,
            log.reader,
            destination,
            dead_letters,
            turn=turn,
            log_id=log.log_id,
            batch_max_bytes=settings.batch_max_bytes,
            batch_max_age=settings.batch_max_age_ms / 1000,
        )
        self._loading: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to load."""
        self._loading = asyncio.create_task(self.loader.run(), name=f"load {self.signal.name}")

    async def stop(self) -> None:
        """Ends the loader, then closes the log; what is in it waits for the next start."""
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.wait([self._loading])
        await self.log.close()

    async def visible(self, within: float) -> bool:
        """Waits until everything acknowledged so far can be queried; False when it took longer (seconds)."""
        return await self.loader.visible(self.log.writer.synced, within)

    def log_problem(self) -> str:
        """What is wrong with the log, "" if nothing is."""
        return self._named(self.log.stats().last_error)

    def loader_problem(self) -> str:
        """What is wrong with the loader, "" if nothing is."""
        if self._loading is None or self._loading.done():
            return self._named("the loader has ended")
        return self._named(self.loader.state.error)

    def _named(self, problem: str) -> str:
        return f"{self.signal.name}: {problem}" if problem else ""
