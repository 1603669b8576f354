"""Works on what `tracestone reprice` and `renormalise` ask for: one rewrite at a time, step by step.

A step is some five-second slices of one experiment that together hold about so many spans. It is done when its spans
are written and the traces that they changed are computed anew; then the position moves on. A process that dies in
between leaves the step to whoever comes next. Only what would change is written, so the step finds less to do then, and
its traces are all computed anew to be sure.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping

from tracestone.collector.ingest.backoff import Backoff
from tracestone.collector.rewrite.kinds import Kind, slices
from tracestone.schema import clock, sqlfiles
from tracestone.schema.engines.columnar import Columnar, StatementFailed
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.errors import Unavailable
from tracestone.schema.stores.inserting import REWRITING
from tracestone.schema.stores.outbox import Outbox
from tracestone.schema.stores.rewrites import Position, Rewrite, RewriteStore
from tracestone.schema.stores.spans import SpanStore

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
_PRICES_AT_ONCE = 1000
_PRICES_SECONDS = 0.1
STEP_SPANS = 50_000
_QUERIES = sqlfiles.queries("clickhouse", "rewrites")


class Runner:
    """The task that looks for rewrites and works on them."""

    def __init__(
        self,
        pool: Pool,
        columnar: Columnar,
        kinds: Mapping[str, Kind],
        step_spans: int = STEP_SPANS,
    ) -> None:
        self._store = RewriteStore(pool)
        self._outbox = Outbox(pool, columnar)
        self._columnar = columnar
        self._spans = SpanStore(columnar)
        self._kinds = kinds
        self._step_spans = step_spans
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins to look."""
        self._task = asyncio.create_task(self._look(), name="rewrites")

    async def stop(self) -> None:
        """Ends within a step; it goes on there after the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _look(self) -> None:
        backoff = Backoff()
        while True:
            try:
                await self.work()
                backoff = Backoff()
                await asyncio.sleep(_LOOK_SECONDS)
            except Unavailable as error:
                logger.warning("rewrites wait", extra={"action": "rewrite", "reason": str(error)})
                await backoff.wait()
            except Exception:
                logger.exception("rewrites cannot go on", extra={"action": "rewrite"})
                await backoff.wait()

    async def work(self) -> None:
        """Works on everything that is asked for, unless another process does. Raises Unavailable."""
        while await self._store.unfinished(self._kinds) is not None:
            async with self._store.alone() as alone:
                asked = await self._store.unfinished(self._kinds) if alone else None
                if asked is None:
                    return
                await self._rewrite(asked)

    async def _rewrite(self, asked: Rewrite) -> None:
        extra = {"action": "rewrite", "rewrite": asked.rewrite_id, "kind": asked.kind}
        try:
            await self._follow_prices()
            if asked.state == "waiting":
                await self._store.begun(asked.rewrite_id, await self._spans_of(asked))
            looked_at = 0
            async for after, upto in self._steps(asked):
                began = clock.monotonic()
                # A step that broke off may have ended later than the one now in its place: what it wrote counts too.
                again = asked.state == "running" and looked_at <= self._step_spans
                spans, changed = await self._step(asked, after, upto, again=again)
                looked_at += spans
                goes_on = await self._store.progressed(
                    asked.rewrite_id, upto, spans=spans, changed=changed, seconds=clock.monotonic() - began
                )
                if not goes_on:
                    logger.info("a rewrite was cancelled", extra=extra)
                    return
        except StatementFailed as error:
            logger.error("a rewrite failed", extra={**extra, "reason": str(error)[:500]})  # noqa: TRY400
            await self._store.ended(asked.rewrite_id, "failed", str(error))
            return
        await self._store.ended(asked.rewrite_id, "done")
        logger.info("a rewrite is done", extra=extra)

    async def _follow_prices(self) -> None:
        """Returns when ClickHouse knows the prices that were set before the rewrite was asked for."""
        while await self._outbox.prices_waiting():
            if not await self._outbox.deliver(_PRICES_AT_ONCE):
                await asyncio.sleep(_PRICES_SECONDS)  # another delivers them

    async def _steps(self, asked: Rewrite) -> AsyncIterator[tuple[int, Position]]:
        """The steps that are left, each as the slice after which it begins and the one with which it ends."""
        first_slice, last_slice = slices(asked.parameters)
        done = asked.position
        chosen = {"experiment": asked.parameters["experiment"], "from_experiment": done.experiment_id if done else 0}
        for row in await self._columnar.query(_QUERIES["experiments"], chosen):
            experiment_id = row["experiment_id"]
            after = done.slice if done and done.experiment_id == experiment_id else first_slice - 1
            while after < last_slice:
                upto = await self._end_of_step(experiment_id, after, last_slice)
                yield after, Position(experiment_id, upto)
                after = upto

    async def _end_of_step(self, experiment_id: int, after: int, last_slice: int) -> int:
        bounds = {"experiment_id": experiment_id, "after": after, "last_slice": last_slice, "spans": self._step_spans}
        rows = await self._columnar.query(_QUERIES["end_of_step"], bounds)
        return rows[0]["slice"] if rows else last_slice

    async def _step(self, asked: Rewrite, after: int, upto: Position, *, again: bool) -> tuple[int, int]:
        """Rewrites some slices; how many spans they hold, and how many changed."""
        kind = self._kinds[asked.kind]
        batch = f"rewrite {asked.rewrite_id} {upto.experiment_id} {upto.slice}"
        where = {"experiment_id": upto.experiment_id, "after": after, "upto": upto.slice}
        bound = {**asked.parameters, **where}
        (spans,) = await self._columnar.query(_QUERIES["spans_in_step"], where)
        (changed,) = await self._columnar.query(kind.changed, bound, {"max_threads": 1})
        if changed["changed"]:
            for statement in kind.rewrite:
                await self._columnar.command(statement, bound, {**REWRITING, "log_comment": batch})
        if again:
            await self._columnar.command(_QUERIES["touch_step"], {**where, "batch": batch})
        if changed["changed"] or again:
            await self._spans.refresh_traces([batch])
        return spans["spans"], changed["changed"]

    async def _spans_of(self, asked: Rewrite) -> int:
        first_slice, last_slice = slices(asked.parameters)
        bounds = {"experiment": asked.parameters["experiment"], "first_slice": first_slice, "last_slice": last_slice}
        (row,) = await self._columnar.query(_QUERIES["spans"], bounds)
        return int(row["spans"])
