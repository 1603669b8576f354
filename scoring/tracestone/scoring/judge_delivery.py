"""Hands the traces of judges' calls to this process's own receiver, a few seconds' worth at a time.

A verdict and the trace of its attempt are in Postgres together, so no verdict names a trace that is not to come. Few
large requests cost ClickHouse little, where many small ones would cost more than the judging.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from tracestone.schema.engines.postgres import Connection
from tracestone.schema.experiments import JUDGES_EXPERIMENT_ID
from tracestone.schema.stores.experiments import ExperimentStore
from tracestone.schema.stores.judge_traces import JudgeTraceStore
from tracestone.scoring.calls.batches import Batches

logger = logging.getLogger(__name__)

SECONDS = 4.0
# How long the trace of an attempt waits for others, to be kept with them.
_TOGETHER_SECONDS = 0.05


class Receiver(Protocol):
    """What takes spans as if they had been sent; `collector.app.Collector.take_spans` is one."""

    async def __call__(self, request: bytes, experiment_id: int) -> None:
        """Returns when the spans of an OTLP request are durable. Raises Unavailable, Rejected."""
        ...


class JudgeTraces:
    """Keeps traces, and with a receiver hands them over."""

    def __init__(
        self,
        store: JudgeTraceStore,
        experiments: ExperimentStore,
        receive: Receiver | None,
        *,
        seconds: float = SECONDS,
    ) -> None:
        self._store = store
        self._experiments = experiments
        self._receive = receive
        self._seconds = seconds
        self._keeping: Batches[tuple[str, bytes], None] = Batches(
            "keep judges' traces", self._keep, seconds=_TOGETHER_SECONDS
        )
        self._told = False

    async def keep(self, trace_id: str, request: bytes) -> None:
        """Returns when Postgres has the trace. Safe to repeat. Raises StorageDown."""
        await self._keeping.ask((trace_id, request))

    async def keep_within(self, traces: Sequence[tuple[str, bytes]], connection: Connection) -> None:
        """Keeps traces, by their ids, in the caller's transaction. Safe to repeat."""
        if traces:
            await self._store.keep(traces, connection)

    async def run(self, stopping: asyncio.Event) -> None:
        """Hands over until `stopping` is set, and once more then; what is not taken stays in Postgres."""
        while not stopping.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), self._seconds)
            await self._hand_over()

    async def _hand_over(self) -> None:
        receive = self._receive
        if receive is None:
            return

        async def take(request: bytes) -> None:
            await self._experiments.make_judges()
            await receive(request, JUDGES_EXPERIMENT_ID)

        try:
            while await self._store.hand_over(take):
                pass
        except Exception as error:  # noqa: BLE001 - the loop must outlive any failure of a store; Postgres keeps the traces
            if not self._told:
                extra = {"action": "judge_traces", "reason": str(error) or type(error).__name__}
                logger.warning("traces of judges wait to be taken", extra=extra)
            self._told = True
        else:
            self._told = False

    async def _keep(self, traces: Sequence[tuple[str, bytes]]) -> list[None]:
        await self._store.keep(traces)
        return [None] * len(traces)
