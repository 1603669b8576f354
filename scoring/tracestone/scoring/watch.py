"""Which targets are finished since the last look, and a job for each that the sampler chooses.

A trace, and every span of it, is finished when its root has ended and nothing came for `settle_ms`, or when
nothing came for `max_trace_age_ms`. The moment it became so, or became visible to queries if that was later,
is when it is *due*:

    due = max(min(last_seen, written) + (complete ? settle : age), written + a second's grace)

What becomes due by its age does so in steps, of five minutes or a twelfth of the age: to find it costs the most.
`written` is when its row was written by ClickHouse's clock, `last_seen` when its last span arrived by a collector's. A
collector whose clock is ahead makes nothing late, and one whose clock is behind at most forgoes the wait.

A session is finished when nothing of it came for the configuration's `idle_seconds`, and due likewise. What says itself
that it is over, by an attribute of a span (`mapping/ends.csv`), is finished without waiting.

Progress is a cursor over (due, key) per configuration, kept in Postgres and moved in the transaction
that enqueues the chosen targets: a crash repeats a look or does not, and never skips one. A target that
changes after it was scored gets a later due time and is chosen again. It is scored again if what the scorer
is given has changed, and the new verdict takes the place of the old one.

Two looks go over every target. The prompt one, each tick or, while it chooses little, each fourth, takes complete
traces and quiet sessions as they become due. The sweep comes `VISIBILITY_LAG` behind and takes all that is finished,
so a row that became visible only after the prompt look had passed its due time (a slow insert, a replica behind) is
found. It also writes down what was decided of every target, chosen or not. Both are as long as the cursor is old: after
any standstill they go on where they were.

Any number of watchers may run: a look is held by a row lock, and whoever does not get it leaves it to the
other.
"""

import asyncio
import logging
from dataclasses import replace

from tracestone.schema import clock
from tracestone.schema.engines.columnar import StatementFailed
from tracestone.schema.scorers.online import OnlineConfig
from tracestone.schema.stores.jobs import Cursor, JobStore, Look
from tracestone.schema.stores.scorers import ScorerStore
from tracestone.scoring.sample import Sampler, Window

logger = logging.getLogger(__name__)

VISIBILITY_LAG_SECONDS = 30.0
SWEEP_SECONDS = 30.0
# With this many jobs a scorer's looks pause; their cursors wait, so nothing is lost. Those of the others go on.
MAX_WAITING_JOBS = 50_000
# Beyond this many reviews of a scorer its looks pause likewise: people answer slowly.
MAX_WAITING_REVIEWS = 10_000
_PAGES_PER_LOOK = 20
# Of due times, at most, in one page of a sweep: what is decided there is written down in one statement.
_SWEEP_NS = 120 * 1_000_000_000
# A prompt look at traces does not search for the beginning of so short a window: that costs what it would save.
_SHORT_NS = 60 * 1_000_000_000
# A prompt look that chose fewer targets is followed by a pause twice as long, up to so many intervals, one that chose
# many by half the pause: what a look costs is planning, mostly, which many targets share.
_ENOUGH = 4
_MANY = 16
PATIENCE = 4


class Watcher:
    """Turns finished targets into jobs. `woken` is set whenever there is new work for the workers."""

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
        patience: int = PATIENCE,
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
        self._patience = patience
        # Of each configuration, how many intervals its pause is now, and how many of them are left.
        self._pauses: dict[int, int] = {}
        self._left: dict[int, int] = {}
        self.error = ""

    async def run(self, stopping: asyncio.Event) -> None:
        """Looks once per interval until `stopping` is set; a failure is kept in `error` and tried again."""
        while not stopping.is_set():
            try:
                await self.tick()
                self.error = ""
            except Exception as error:  # noqa: BLE001 - the loop must outlive any failure of a store
                if not self.error:
                    logger.warning("finished targets cannot be looked for", extra={"reason": str(error)})
                self.error = str(error) or type(error).__name__
            try:
                await asyncio.wait_for(stopping.wait(), self._interval)
            except TimeoutError:
                continue

    async def tick(self) -> int:
        """One look for every configuration; returns how many jobs were added."""
        configs = await self._scorers.configs()
        if configs:
            crowd = await self._jobs.crowded(self._max_waiting)
            configs = [config for config in configs if config.scorer_name not in crowd]
        sweeping = clock.monotonic() - self._swept_at >= self._sweep_seconds
        due = {config.config_id for config in configs if self._is_due(config)}
        if not configs or not (due or sweeping):
            return 0
        now_ns = await self._sampler.now_ns()
        added, behind = 0, False
        full = await self._jobs.full_of_reviews(MAX_WAITING_REVIEWS)
        for config in configs:
            if config.scorer_name in full:
                continue
            if config.config_id in due:
                new, _ = await self._look(config, "prompt", now_ns)
                added += new
                self._pause(config, new)
            if sweeping:
                new, more = await self._look(config, "sweep", now_ns - self._lag_ns)
                added += new
                behind = behind or more
        if sweeping and not behind:
            self._swept_at = clock.monotonic()
        if added:
            self._woken.set()
        return added

    def _is_due(self, config: OnlineConfig) -> bool:
        left = self._left.get(config.config_id, 0)
        self._left[config.config_id] = max(0, left - 1)
        return left == 0

    def _pause(self, config: OnlineConfig, chosen: int) -> None:
        pause = self._pauses.get(config.config_id, 1)
        if chosen < _ENOUGH:
            pause = min(2 * pause, self._patience)
        elif chosen >= _MANY:
            pause = max(pause // 2, 1)
        self._pauses[config.config_id] = pause
        self._left[config.config_id] = pause - 1

    async def _look(self, config: OnlineConfig, look: Look, until_ns: int) -> tuple[int, bool]:
        """How many jobs were added, and whether there may be more now."""
        added, more = 0, False
        try:
            for page in range(_PAGES_PER_LOOK):
                more, new = await self._page(config, look, until_ns, first=page == 0)
                added += new
                if not more:
                    break
        except StatementFailed as error:
            # One filter that fails on a value must not hold up the other configurations.
            reason = " ".join(str(error).split())[:500]
            if not config.last_error:
                logger.warning("a filter failed", extra={"scorer": config.scorer_name, "look": look, "reason": reason})
            await self._jobs.fail_look(config.config_id, look, reason)
            return added, False
        return added, more

    async def _page(self, config: OnlineConfig, look: Look, until_ns: int, *, first: bool) -> tuple[bool, int]:
        version = config.version or await self._jobs.latest_version(config.scorer_name)
        left_out = [] if config.experiment_id is not None else await self._jobs.own_experiments(config.scorer_name)
        async with self._jobs.look(config.config_id, look) as held:
            if held is None:
                return False, 0
            window = Window(held.cursor, until_ns, look, tuple(left_out))
            short = until_ns - held.cursor.due_ns <= _SHORT_NS
            if not (short and look == "prompt" and config.target_type == "trace" and not config.after):
                first_ns = await self._sampler.first_due(config, window)
                if first_ns is None:
                    await held.advance(max(held.cursor, Cursor(until_ns)), config.scorer_name, version, [])
                    return False, 0
                window = replace(window, after=max(held.cursor, Cursor(first_ns)))
            window = await self._sampler.prepare(config, window)
            if look == "sweep":
                # These windows end at fixed times, so that the pages of one need no second account.
                end_ns = min(window.until_ns, (window.after.due_ns // _SWEEP_NS + 1) * _SWEEP_NS)
                window = replace(window, until_ns=end_ns)
                version = await self._jobs.begin_window(config.config_id, version)
                if first or not held.cursor.key:
                    await self._sampler.account(config, version, window)
            chosen = await self._sampler.choose(config, window)
            new = await held.advance(
                chosen.cursor, config.scorer_name, version, chosen.targets, config.target_type, config.priority
            )
            return chosen.more or window.until_ns < until_ns, new
