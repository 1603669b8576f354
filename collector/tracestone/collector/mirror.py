"""Keeps ClickHouse's `assessments` and `experiments` up to date with Postgres by delivering the outbox.

Woken by Postgres' notifications, and by a poll in case one got lost. While a store is away it waits and tries
again; nothing leaves the outbox before ClickHouse has it, so stopping at any moment loses nothing. A graceful
stop delivers what is left first.
"""

import asyncio
import logging
from dataclasses import dataclass

from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool, listening
from tracestone.schema.errors import StorageDown
from tracestone.schema.stores.outbox import CHANNEL, Outbox

logger = logging.getLogger(__name__)

_BATCH = 1000
_LONGEST_PAUSE = 5.0


@dataclass(frozen=True)
class MirrorHealth:
    """`ok` is false while a store is away, rows are refused or the loop has died; `problem` says which."""

    ok: bool
    problem: str
    waiting: int


class Mirror:
    """Owns the tasks that deliver. Start once; stopping is safe at any time and twice."""

    def __init__(self, pool: Pool, columnar: Columnar, *, poll_seconds: float = 1.0) -> None:
        self._pool = pool
        self._outbox = Outbox(pool, columnar)
        self._poll_seconds = poll_seconds
        self._heard = asyncio.Event()
        self._stopping = asyncio.Event()
        self._away = ""
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begins to deliver; waits for nothing."""
        self._tasks = [
            asyncio.create_task(self._deliver(), name="mirror-deliver"),
            asyncio.create_task(self._listen(), name="mirror-listen"),
        ]

    async def stop(self, within_seconds: float = 5.0) -> None:
        """Delivers what is left, for at most that long; the rest stays in Postgres for the next start."""
        self._stopping.set()
        self._heard.set()
        tasks, self._tasks = self._tasks, []
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=within_seconds)
        for task in late:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                logger.error("mirror task had died", exc_info=result, extra={"action": "mirror_died"})

    async def health(self) -> MirrorHealth:
        """How far behind ClickHouse is, and why."""
        dead = [task.get_name() for task in self._tasks if task.done()]
        if dead and not self._stopping.is_set():
            return MirrorHealth(False, f"{dead[0]} has ended", 0)
        try:
            backlog = await self._outbox.backlog()
        except StorageDown as error:
            return MirrorHealth(False, str(error), 0)
        if backlog.refused:
            return MirrorHealth(False, f"ClickHouse refuses {backlog.refused} rows", backlog.rows)
        return MirrorHealth(not self._away, self._away, backlog.rows)

    async def _deliver(self) -> None:
        pause = 0.1
        while True:
            last_round = self._stopping.is_set()
            self._heard.clear()
            try:
                while await self._outbox.deliver(_BATCH):
                    pass
            except Exception as error:  # noqa: BLE001 - what is not foreseen is tried again too; the outbox keeps the rows
                self._report(str(error) or type(error).__name__)
                if last_round:
                    return
                await self._wait(self._stopping, pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            self._report("")
            pause = 0.1
            if last_round:
                return
            await self._wait(self._heard, self._poll_seconds)

    async def _listen(self) -> None:
        while not self._stopping.is_set():
            try:
                async with listening(self._pool, CHANNEL, self._heard) as lost:
                    self._heard.set()  # something may have come before we listened
                    waits = [asyncio.create_task(event.wait()) for event in (lost, self._stopping)]
                    try:
                        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                    finally:
                        for task in waits:
                            task.cancel()
            except StorageDown:
                pass  # the delivering task reports it; the poll goes on
            await self._wait(self._stopping, self._poll_seconds)

    def _report(self, problem: str) -> None:
        if problem and not self._away:
            logger.warning(
                "assessments and experiments are not mirrored for now",
                extra={"action": "mirror_waiting", "reason": problem},
            )
        elif self._away and not problem:
            logger.info("mirroring goes on", extra={"action": "mirror_resumed"})
        self._away = problem

    @staticmethod
    async def _wait(event: asyncio.Event, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            pass
