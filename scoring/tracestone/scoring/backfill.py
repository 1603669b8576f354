"""Works off backfills: page after page of what is stored, as fast as the queue and the backfill's own rate allow.

Progress is a cursor in Postgres, moved in the transaction that enqueues, so a crash or a second process repeats
nothing. What is decided of the targets of a page, chosen or not, is written down before that. Its jobs have a lower
priority than those of live traffic.
"""

import asyncio
import logging

from tracestone.schema.engines.columnar import StatementFailed
from tracestone.schema.errors import StorageDown
from tracestone.schema.stores.backfills import BackfillStore, LeasedBackfill
from tracestone.schema.stores.jobs import Cursor, JobStore
from tracestone.scoring.sample import Sampler, Window
from tracestone.scoring.watch import MAX_WAITING_REVIEWS

logger = logging.getLogger(__name__)

# With this many jobs of its scorer a backfill waits; live traffic may have many more.
MAX_WAITING_JOBS = 5_000
_POLL_SECONDS = 1.0
_AFTER_FAILURE_SECONDS = 30.0
# With a rate, a page is what that allows in this time.
_PACE_SECONDS = 6.0
_DAY_NS = 86_400 * 10**9


class Backfiller:
    """One loop; any number of processes may run it."""

    def __init__(
        self, backfills: BackfillStore, jobs: JobStore, sampler: Sampler, woken: asyncio.Event, *, page: int = 1000
    ) -> None:
        self._backfills = backfills
        self._jobs = jobs
        self._sampler = sampler
        self._woken = woken
        self._page = page

    async def run(self, stopping: asyncio.Event) -> None:
        """Works until `stopping` is set; what cannot be reached is tried again."""
        while not stopping.is_set():
            more = False
            try:
                more = await self.tick()
            except StorageDown as error:
                logger.info("backfills wait", extra={"reason": str(error)})
            try:
                await asyncio.wait_for(stopping.wait(), 0.01 if more else _POLL_SECONDS)
            except TimeoutError:
                continue

    async def tick(self) -> bool:
        """A page of every backfill that may go on; whether one could go on at once. Raises StorageDown."""
        more, full = False, await self._jobs.full_of_reviews(MAX_WAITING_REVIEWS)
        for backfill_id in await self._backfills.ready():
            crowd = await self._jobs.crowded(MAX_WAITING_JOBS)
            async with self._backfills.hold(backfill_id) as held:
                scorer_name = "" if held is None else held.backfill.config.scorer_name
                if held is None or scorer_name in full or scorer_name in crowd:
                    continue
                try:
                    more = await self._page_of(held) or more
                    continue
                except StatementFailed as error:
                    reason = " ".join(str(error).split())[:500]
            await self._backfills.fail(backfill_id, reason, _AFTER_FAILURE_SECONDS)
        return more

    async def _page_of(self, held: LeasedBackfill) -> bool:
        backfill = held.backfill
        page, pause = self._page, 0.0
        if backfill.per_minute is not None:
            page = max(1, min(page, round(backfill.per_minute * _PACE_SECONDS / 60)))
            pause = 60 * page / backfill.per_minute
        # A day at a time: each page reads what is left of its range.
        end_ns = min(backfill.to_ns, (backfill.due_ns // _DAY_NS + 1) * _DAY_NS)
        window = Window(Cursor(backfill.due_ns, backfill.key), end_ns, "sweep")
        chosen = await self._sampler.choose_past(backfill.config, window, page)
        await self._sampler.account_past(backfill.config, backfill.version, window, chosen)
        done = not chosen.more and end_ns >= backfill.to_ns
        wait = pause if chosen.targets else 0.0
        if await held.advance(chosen.cursor, chosen.targets, done=done, pause_seconds=wait):
            self._woken.set()
        return not done and not wait
