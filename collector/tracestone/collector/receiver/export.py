"""The one use case of the receiver: admit, choose experiments, append, acknowledge.

The contract, tested by name:

- `export` returns only after the accepted bytes are durable in the write-ahead log (C1). Whatever goes wrong before
  raises, and then nothing of the request may be taken as stored.
- A span that OTLP calls invalid is left out and counted; the rest is taken (C3).
- When the log is full or its disk fails, `Unavailable` says when to try again (C4).
- A request without spans is a success and writes nothing.

Both transports call this and nothing else, so they cannot disagree.
"""

import asyncio
from dataclasses import dataclass

from tracestone.collector.receiver.admission import Admitted, admit, plain
from tracestone.collector.receiver.budget import Budget
from tracestone.collector.receiver.pieces import Limits
from tracestone.collector.wal.writer import Writer
from tracestone.protos.ingest.v1.traces_pb2 import Traces
from tracestone.schema import clock
from tracestone.schema.errors import Invalid
from tracestone.schema.stores.experiments import ExperimentStore

DEFAULT_EXPERIMENT = 0
# Large requests and those that are taken apart; the rest of Python goes on beside them.
_THREADS = 2


@dataclass(frozen=True)
class Accepted:
    """What was taken, and how many spans were refused with the reason for the first."""

    spans: int
    rejected: int
    reason: str


class Exporter:
    """Takes serialised trace requests into the write-ahead log."""

    def __init__(self, log: Writer, experiments: ExperimentStore, *, limits: Limits, budget: Budget) -> None:
        self._log = log
        self._experiments = experiments
        self._limits = limits
        self.budget = budget
        self._threads = asyncio.Semaphore(_THREADS)
        self._last_received = 0
        self._existing: set[int] = set()
        self.spans_accepted = 0
        self.spans_rejected = 0

    async def export(self, data: bytes, experiment: str | None) -> Accepted:
        """Takes one ExportTraceServiceRequest; `experiment` is the id the sender's header names, if any.

        Raises Invalid (not such a request, or no such experiment), TooLarge and Unavailable (try again).
        """
        admitted = plain(data, self._limits) or await self._on_a_thread(data)
        if admitted.spans:
            ids = await self._choose(admitted.resources, experiment)
            ours = Traces(experiment_ids=ids, received_at=self._received_at())
            await self._log.append(admitted.data + ours.SerializeToString())
        self.spans_accepted += admitted.spans
        self.spans_rejected += admitted.rejected
        return Accepted(admitted.spans, admitted.rejected, admitted.reason)

    async def _on_a_thread(self, data: bytes) -> Admitted:
        async with self._threads:
            return await asyncio.to_thread(admit, data, self._limits)

    async def _choose(self, resources: tuple[dict[str, str], ...], experiment: str | None) -> list[int]:
        if experiment is not None:
            return [await self._named(experiment)] * len(resources)
        ids = []
        for resource in resources:
            name = resource.get("tracestone.experiment") or resource.get("service.name")
            if name is None:
                ids.append(DEFAULT_EXPERIMENT)
                continue
            known = self._experiments.cached(name)
            ids.append(await self._experiments.resolve(name) if known is None else known)
        return ids

    async def _named(self, experiment: str) -> int:
        if not experiment.isascii() or not experiment.isdigit() or len(experiment) > 10:
            raise Invalid("x-mlflow-experiment-id", "must be the number of an experiment")
        number = int(experiment)
        # An experiment is never removed for good, so a number once seen stays valid.
        if number not in self._existing:
            if not await self._experiments.exists(number):
                raise Invalid("x-mlflow-experiment-id", f"there is no experiment {number}")
            self._existing.add(number)
        return number

    def _received_at(self) -> int:
        """Now, never twice the same and never back: it decides which version of a span is the later one."""
        self._last_received = max(clock.now_ns(), self._last_received + 1)
        return self._last_received
