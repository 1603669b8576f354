"""Emits assessments as events of OpenTelemetry, from a queue that a trigger in Postgres fills with every change of one.

At least once: an event leaves the queue after the endpoint has taken it. While the endpoint is away the queue waits,
for a day and up to a bound; what is given up is counted and logged. Nothing else waits for any of this.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

from tracestone.collector.evaluation_export.endpoints import Endpoint
from tracestone.collector.evaluation_export.records import request
from tracestone.schema import clock
from tracestone.schema.engines.columnar import StatementFailed
from tracestone.schema.errors import StorageDown, Unavailable
from tracestone.schema.stores.evaluation_events import EvaluationEventStore, Told
from tracestone.schema.stores.logs import LogStore

logger = logging.getLogger(__name__)

OUTCOMES = ("taken", "refused", "given_up")
_POLL_SECONDS = 1.0
_LONGEST_PAUSE = 60.0
_HOUSEKEEPING_SECONDS = 60.0


class Emitter:
    """One loop between `start` and `stop`; other processes may run it too."""

    def __init__(
        self,
        store: EvaluationEventStore,
        logs: LogStore,
        endpoint: Endpoint,
        deployment: str,
        *,
        poll_seconds: float = _POLL_SECONDS,
    ) -> None:
        self._store = store
        self._logs = logs
        self._endpoint = endpoint
        self._deployment = deployment
        self._poll_seconds = poll_seconds
        self._kept_at = float("-inf")
        self._problem = ""
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        # Since the start, by outcome.
        self.counts: Counter[str] = Counter(dict.fromkeys(OUTCOMES, 0))

    async def start(self) -> None:
        """Begins. What is assessed from now on is kept to be emitted, if Postgres answers now."""
        with suppress(StorageDown):
            await self._store.seen()
        self._task = asyncio.create_task(self._run(), name="evaluation events")

    async def stop(self, within_seconds: float = 1.0) -> None:
        """Ends soon; what is not emitted stays in Postgres. Safe to call twice."""
        self._stopping.set()
        task, self._task = self._task, None
        if task is not None:
            await asyncio.wait([task], timeout=within_seconds)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._endpoint.close()

    async def _run(self) -> None:
        pause = self._poll_seconds
        while not self._stopping.is_set():
            try:
                await self._keep_house()
                more = await self._deliver()
            except Exception as error:  # noqa: BLE001 - whatever it is, the queue keeps the events
                self._report(str(error) or type(error).__name__)
                asked = error.retry_after if isinstance(error, Unavailable) else 0.0
                pause = min(max(2 * pause, asked), _LONGEST_PAUSE)
            else:
                self._report("")
                pause = 0.0 if more else self._poll_seconds
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()
            pause = max(pause, self._poll_seconds)

    async def _keep_house(self) -> None:
        if clock.monotonic() - self._kept_at < _HOUSEKEEPING_SECONDS:
            return
        await self._store.seen()
        gone = await self._store.forget()
        self._kept_at = clock.monotonic()
        if gone:
            self.counts["given_up"] += gone
            logger.warning("assessments are not emitted any more", extra={"action": "emit", "events": gone})

    async def _deliver(self) -> bool:
        done = await self._store.deliver(self._emit)
        self.counts["taken"] += done.events - done.refused
        self.counts["refused"] += done.refused
        if done.refused:
            extra = {"action": "emit", "events": done.refused}
            logger.warning("the endpoint does not take some assessments", extra=extra)
        return done.events > 0

    async def _emit(self, events: Sequence[Told]) -> int:
        spans = {(row["trace_id"], row["span_id"]) for row in (each.assessment for each in events) if row["span_id"]}
        try:
            responses = await self._logs.responses_of(spans)
        except (StorageDown, StatementFailed):
            responses = {}  # the span's own id says it as well
        return await self._endpoint.export(request(events, self._deployment, responses))

    def _report(self, problem: str) -> None:
        if problem and not self._problem:
            logger.warning("assessments wait to be emitted", extra={"action": "emit", "reason": problem})
        elif self._problem and not problem:
            logger.info("assessments are emitted again", extra={"action": "emit"})
        self._problem = problem
