"""Which traces are finished since the last look, and a job for each that the sampler chooses.

A trace is finished when its root has ended and nothing came for `settle_ms`, or when nothing came for
`max_trace_age_ms`. The moment it became so, or became visible to queries if that was later, is when it is
*due*:

    due = max(last_seen + (complete ? settle : age), moment its row was written + a second's grace)

Progress is a cursor over (due, trace id) per configuration, kept in Postgres and moved in the transaction
that enqueues the chosen traces: a crash repeats a look or does not, and never skips one. A trace that
changes after it was scored gets a later due time and is chosen again, and the queue drops it: one verdict
per scorer version.

Two looks go over every trace. The prompt one, each tick, takes complete traces as they become due. The
sweep comes `VISIBILITY_LAG` behind and takes all that is finished, so a row that became visible only after
the prompt look had passed its due time (a slow insert, a replica behind) is found. Both are as long as the
cursor is old: after any standstill they go on where they were.

Any number of watchers may run: a look is held by a row lock, and whoever does not get it leaves it to the
other.
"""

import asyncio
import logging

from tracestone.schema import clock
from tracestone.schema.engines.columnar import StatementFailed
from tracestone.schema.scorers.online import OnlineConfig
from tracestone.schema.stores.jobs import JobStore, Look
from tracestone.schema.stores.scorers import ScorerStore
from tracestone.scoring import sample
from tracestone.scoring.sample import Sampler

logger = logging.getLogger(__name__)

VISIBILITY_LAG_SECONDS = 30.0
SWEEP_SECONDS = 10.0
# Beyond this many jobs the looks pause; their cursors wait, so nothing is lost.
MAX_WAITING_JOBS = 50_000
_PAGES_PER_LOOK = 20


class Watcher:
    """Turns finished traces into jobs. `woken` is set whenever there is new work for the workers."""

    def __init__(
        self,
        scorers: ScorerStore,
        jobs: JobStore,
        sampler: Sampler,
        woken: asyncio.Event,
        *,
        interval_ms: int,
        sweep_seconds: float = SWEEP_SECONDS,
        visibility_lag_seconds: float = VISIBILITY_LAG_SECONDS,
        max_waiting: int = MAX_WAITING_JOBS,
    ) -> None:
        self._scorers = scorers
        self._jobs = jobs
        self._sampler = sampler
        self._woken = woken
        self._interval = interval_ms / 1000
        self._sweep_seconds = sweep_seconds
        self._lag_ns = int(visibility_lag_seconds * 1e9)
        self._max_waiting = max_waiting
        self._swept_at = float("-inf")
        self.error = ""

    async def run(self, stopping: asyncio.Event) -> None:
        """Looks once per interval until `stopping` is set; a failure is kept in `error` and tried again."""
        while not stopping.is_set():
            try:
                await self.tick()
                self.error = ""
            except Exception as error:  # noqa: BLE001 - the loop must outlive any failure of a store
                if not self.error:
                    logger.warning("finished traces cannot be looked for", extra={"reason": str(error)})
                self.error = str(error) or type(error).__name__
            try:
                await asyncio.wait_for(stopping.wait(), self._interval)
            except TimeoutError:
                continue

    async def tick(self) -> int:
        """One look for every configuration; returns how many jobs were added."""
        configs = await self._scorers.configs()
        if not configs or await self._jobs.waiting(self._max_waiting) >= self._max_waiting:
            return 0
        now_ns = await self._sampler.now_ns()
        windows: list[tuple[Look, int]] = [("prompt", now_ns)]
        if clock.monotonic() - self._swept_at >= self._sweep_seconds:
            windows.append(("sweep", now_ns - self._lag_ns))
        added = 0
        for config in configs:
            for look, until_ns in windows:
                added += await self._look(config, look, until_ns)
        if len(windows) > 1:
            self._swept_at = clock.monotonic()
        if added:
            self._woken.set()
        return added

    async def _look(self, config: OnlineConfig, look: Look, until_ns: int) -> int:
        added = 0
        try:
            for _ in range(_PAGES_PER_LOOK):
                more, new = await self._page(config, look, until_ns)
                added += new
                if not more:
                    break
        except StatementFailed as error:
            # One filter that fails on a value must not hold up the other configurations.
            reason = " ".join(str(error).split())[:500]
            if not config.last_error:
                logger.warning("a filter failed", extra={"scorer": config.scorer_name, "look": look, "reason": reason})
            await self._jobs.fail_look(config.config_id, look, reason)
        return added

    async def _page(self, config: OnlineConfig, look: Look, until_ns: int) -> tuple[bool, int]:
        version = config.version or await self._jobs.latest_version(config.scorer_name)
        left_out = [] if config.experiment_id is not None else await self._jobs.own_experiments(config.scorer_name)
        async with self._jobs.look(config.config_id, look) as held:
            if held is None:
                return False, 0
            chosen = await self._sampler.choose(config, look, held.cursor, until_ns, left_out)
            new = await held.advance(
                chosen.cursor,
                config.scorer_name,
                version,
                chosen.targets,
                sample.probability(config.sample_rate) if chosen.targets else 1.0,
            )
            return chosen.more, new
