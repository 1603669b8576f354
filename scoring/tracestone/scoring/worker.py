"""Claims jobs and runs them, so many at once; keeps their leases alive; drains when told to stop.

What a job means is the runner's business. Some jobs are claimed ahead, so that their targets are read together while
others are scored: a quarter of those that run, or as many as were scored in the last second if that is more, and no
more than are read at once, which follows how large they are. So little waits behind a slow scorer that another worker,
or a more urgent job, could go before.

A job that cannot be read goes back at once. One that was scored and
cannot be written is kept, on disk too, and written when Postgres is back, by the next process if need be. One that
fails in a way nobody expected goes back as a lost delivery, of which it has only so many.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from uuid import uuid4

from tracestone.schema import clock
from tracestone.schema.errors import StorageDown, Unavailable
from tracestone.schema.stores.jobs import Job, JobStore
from tracestone.scoring.kept import KeptVerdicts
from tracestone.scoring.run import Runner, Scored

logger = logging.getLogger(__name__)

LEASE_SECONDS = 60.0
_POLL_SECONDS = 1.0
_GATHER_SECONDS = 0.01
_AFTER_STORAGE_DOWN_SECONDS = 5.0
_FIRST_WAIT_SECONDS = 0.1
_MOST_AHEAD = 512


class Worker:
    """One pool of concurrent jobs."""

    def __init__(
        self,
        runner: Runner,
        jobs: JobStore,
        woken: asyncio.Event,
        kept: KeptVerdicts,
        *,
        concurrency: int,
        lease_seconds: float = LEASE_SECONDS,
        drain_seconds: float = 5.0,
    ) -> None:
        self._runner = runner
        self._jobs = jobs
        self._woken = woken
        self._kept = kept
        self._concurrency = concurrency
        self._lease_seconds = lease_seconds
        self._drain_seconds = drain_seconds
        # Every job that is claimed and not ended, and those of them that wait for their turn.
        self._running: dict[asyncio.Task[None], Job] = {}
        self._waiting: set[asyncio.Task[None]] = set()
        self._turns = asyncio.Semaphore(concurrency)
        self._ended_at: deque[float] = deque(maxlen=_MOST_AHEAD)
        self._ended = asyncio.Event()
        self.error = ""

    @property
    def running(self) -> int:
        """Jobs that run now; those that were claimed ahead do not yet."""
        return len(self._running) - len(self._waiting)

    async def run(self, stopping: asyncio.Event) -> None:
        """Works until `stopping` is set, then drains: what does not end in time goes back into the queue."""
        heartbeat = asyncio.create_task(self._keep_leases(), name="scoring leases")
        stop = asyncio.create_task(stopping.wait(), name="scoring worker stop")
        try:
            await self._deliver(stopping)
            while not stopping.is_set():
                self._woken.clear()
                self._ended.clear()
                full = await self._claim()
                await self._wait(stop, full=full)
        finally:
            stop.cancel()
            await self._drain()
            heartbeat.cancel()
            await asyncio.gather(stop, heartbeat, return_exceptions=True)

    async def _deliver(self, stopping: asyncio.Event) -> None:
        """Writes what an earlier process could not, before anybody claims its jobs here."""
        for scored in await asyncio.to_thread(self._kept.all):
            while not stopping.is_set():
                try:
                    await self._runner.settle(scored)
                except Unavailable as error:
                    self.error = str(error)
                    with suppress(TimeoutError):
                        async with asyncio.timeout(_POLL_SECONDS):
                            await stopping.wait()
                else:
                    await asyncio.to_thread(self._kept.forget, scored.job)
                    break

    async def _claim(self) -> bool:
        """Starts as many ready jobs as there is room for; True when there may be more than that."""
        ahead = self._ahead()
        room = self._concurrency + ahead - len(self._running)
        if room <= 0 or len(self._waiting) > ahead / 4:
            return True  # the fewer claims, the more targets are read at once
        try:
            running = [job.job_id for job in self._running.values()]
            jobs = await self._jobs.claim(room, uuid4(), self._lease_seconds, running)
            self.error = ""
        except StorageDown as error:
            if not self.error:
                logger.warning("jobs cannot be claimed", extra={"reason": str(error)})
            self.error = str(error)
            return False
        for job in jobs:
            task = asyncio.create_task(self._one(job), name=f"scoring job {job.job_id}")
            self._running[task] = job
            self._waiting.add(task)
            task.add_done_callback(self._end)
        return len(jobs) == room

    def _ahead(self) -> int:
        """How many jobs may wait for their turn."""
        while self._ended_at and self._ended_at[0] < clock.monotonic() - 1:
            self._ended_at.popleft()
        return min(self._runner.read_at_once, max(len(self._ended_at), self._concurrency // 4))

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """A place among those that run, for the task that asks."""
        async with self._turns:
            task = asyncio.current_task()
            if task is not None:
                self._waiting.discard(task)
            try:
                yield
            finally:
                self._ended_at.append(clock.monotonic())
                self._ended.set()

    def _end(self, task: asyncio.Task[None]) -> None:
        if self._running.pop(task).limited:
            self._woken.set()  # another of its configuration may run now, though this worker may not be full
        self._waiting.discard(task)
        self._ended.set()

    async def _wait(self, stop: asyncio.Task[bool], *, full: bool) -> None:
        """Until a job ends (when full), new work is announced, the poll is due, or it is time to stop."""
        event = self._ended if full else self._woken
        waking = asyncio.create_task(event.wait(), name="scoring worker wake")
        try:
            await asyncio.wait({stop, waking}, timeout=_POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waking.cancel()
            await asyncio.gather(waking, return_exceptions=True)
        if full and not stop.done():
            # Where many run, many end together: their places are filled by one claim.
            await asyncio.wait({stop}, timeout=_GATHER_SECONDS)

    async def _one(self, job: Job) -> None:
        try:
            scored = await self._runner.score(job, self._turn())
            job = scored.job
            self._note(job)
            await self._settle(scored)
        except Unavailable:
            await self._give_back([job], _AFTER_STORAGE_DOWN_SECONDS)
        except Exception:
            logger.exception(
                "a scoring job failed unexpectedly",
                extra={"scorer": job.scorer_name, "trace_id": job.trace_id},
            )
            await self._give_back([job], self._lease_seconds, lost=True)

    def _note(self, job: Job) -> None:
        """From now on the running job is given back with what it has spent."""
        task = asyncio.current_task()
        if task in self._running:
            self._running[task] = job

    async def _settle(self, scored: Scored) -> None:
        """Writes the outcome as soon as Postgres takes it; the heartbeat keeps the lease meanwhile."""
        wait = _FIRST_WAIT_SECONDS
        try:
            while not await self._written(scored, first=wait == _FIRST_WAIT_SECONDS):
                await asyncio.sleep(wait)
                wait = min(2 * wait, _AFTER_STORAGE_DOWN_SECONDS)
        except asyncio.CancelledError:
            self._kept.keep(scored)  # it is not known whether it was written; writing it again does no harm
            raise
        if wait > _FIRST_WAIT_SECONDS:
            await asyncio.to_thread(self._kept.forget, scored.job)

    async def _written(self, scored: Scored, *, first: bool) -> bool:
        try:
            await self._runner.settle(scored)
        except Unavailable as error:
            if first:
                await asyncio.to_thread(self._kept.keep, scored)
                extra = {"scorer": scored.job.scorer_name, "reason": str(error)}
                logger.warning("a verdict waits for Postgres", extra=extra)
            return False
        return True

    async def _keep_leases(self) -> None:
        while True:
            await asyncio.sleep(self._lease_seconds / 3)
            if self._running:
                try:
                    await self._jobs.extend(list(self._running.values()), self._lease_seconds)
                except StorageDown as error:
                    logger.warning("leases cannot be extended", extra={"reason": str(error)})

    async def _drain(self) -> None:
        ahead = {task: self._running[task] for task in self._waiting}
        await _cancelled(ahead)
        await self._give_back(list(ahead.values()), 0.0)
        if self._running:
            await asyncio.wait(set(self._running), timeout=self._drain_seconds)
        left = dict(self._running)
        await _cancelled(left)
        # A job that is given back may go to another worker, and a verdict that is kept needs its lease.
        await self._give_back([job for job in left.values() if not self._kept.has(job)], 0.0)

    async def _give_back(self, jobs: list[Job], seconds: float, *, lost: bool = False) -> None:
        if not jobs:
            return
        try:
            await self._jobs.release(jobs, seconds, lost=lost)
        except StorageDown as error:
            # Their leases run out, which gives them back as well, only later and without what they cost.
            spent = sum(job.spent.cost_usd or 0.0 for job in jobs)
            logger.warning(
                "jobs cannot be given back", extra={"jobs": len(jobs), "cost_usd": spent, "reason": str(error)}
            )


async def _cancelled(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Ends these tasks."""
    ending = list(tasks)
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)
