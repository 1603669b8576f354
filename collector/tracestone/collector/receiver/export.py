"""The one use case of the receiver: admit, choose experiments, append, acknowledge.

The contract, tested by name:

- `export` returns only after the accepted bytes are durable in the write-ahead log (C1). Whatever goes wrong before
  raises, and then nothing of the request may be taken as stored.
- What OTLP calls invalid is left out and counted; the rest is taken (C3).
- When the log is full or its disk fails, `Unavailable` says when to try again (C4).
- A request without items is a success and writes nothing.

Both transports call this and nothing else, so they cannot disagree.
"""

import asyncio
from dataclasses import dataclass, field

from tracestone.collector.auth.caller import caller
from tracestone.collector.metrics.counts import Counts
from tracestone.collector.receiver import binding
from tracestone.collector.receiver.admission import Admitted, admit, plain
from tracestone.collector.receiver.arrivals import Arrivals
from tracestone.collector.receiver.pieces import Limits
from tracestone.collector.signals.signal import Signal
from tracestone.collector.wal.receipt import ReceiptClock
from tracestone.collector.wal.writer import Writer
from tracestone.schema.errors import Forbidden, Invalid
from tracestone.schema.stores.experiments import ExperimentStore

DEFAULT_EXPERIMENT = 0
# Large requests and those that are taken apart; the rest of Python goes on beside them.
_THREADS = 2


@dataclass(frozen=True)
class Accepted:
    """What was taken, and how many items were refused with the reason for the first."""

    items: int
    rejected: int
    reason: str


@dataclass
class Work:
    """What the exporters of all signals share: how much of it may go on at once, and where it is counted."""

    arrivals: Arrivals
    counts: Counts = field(default_factory=Counts)
    threads: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_THREADS))


class Exporter:
    """Takes serialised requests of one signal into its write-ahead log."""

    def __init__(
        self,
        signal: Signal,
        log: Writer,
        experiments: ExperimentStore,
        receipt: ReceiptClock,
        *,
        limits: Limits,
        work: Work,
    ) -> None:
        self.signal = signal
        self._log = log
        self._experiments = experiments
        self._receipt = receipt
        self._limits = limits
        self._threads = work.threads
        self.arrivals = work.arrivals
        self.budget = work.arrivals.budget
        self.counts = work.counts
        self._existing: set[int] = set()
        self.items_accepted = 0
        self.items_rejected = 0
        self.items_truncated = 0

    async def export(self, data: bytes, experiment: str | None, *, left_out: int = 0, reason: str = "") -> Accepted:
        """Takes one request; `experiment` is the id the sender's header names, if any.

        `left_out` items of the request are not in `data`, for `reason`, and count as refused.
        Raises Invalid (not such a request, or no such experiment), TooLarge, Forbidden (not the caller's experiment)
        and Unavailable (try again).
        """
        admitted = plain(self.signal, data, self._limits) or await self._on_a_thread(data)
        if admitted.items:
            is_bound = caller().experiments is not None
            if is_bound:
                admitted, ids = await self._choose_bound(admitted, experiment)
            else:
                ids = await self._choose(admitted.resources, experiment)
            ours = self.signal.message(experiment_ids=ids, received_at=self._receipt.next())
            if is_bound and self.signal.tells_bound:
                ours.sender_bound = True
            await self._log.append(admitted.data + ours.SerializeToString())
        self.items_accepted += admitted.items
        self.items_truncated += admitted.truncated
        rejected = left_out + admitted.rejected
        self.items_rejected += rejected
        return Accepted(admitted.items, rejected, reason or admitted.reason)

    async def _on_a_thread(self, data: bytes) -> Admitted:
        async with self._threads:
            return await asyncio.to_thread(admit, self.signal, data, self._limits)

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

    async def _choose_bound(self, admitted: Admitted, experiment: str | None) -> tuple[Admitted, list[int]]:
        """As `_choose`, for a key that is bound to experiments; what is for others is left out."""
        bound = caller().experiments or frozenset()
        if experiment is not None:
            number = _number(experiment)
            if number not in bound:
                raise Forbidden(f"The API key {caller().key_id} is not for the experiment {number}.")
            return admitted, [number] * len(admitted.resources)
        ids = await binding.chosen(self._experiments, admitted.resources, bound)
        if None in ids:
            async with self._threads:
                admitted = await asyncio.to_thread(binding.without_foreign, self.signal, admitted, ids, caller().key_id)
        return admitted, [number for number in ids if number is not None]

    async def _named(self, experiment: str) -> int:
        number = _number(experiment)
        # An experiment is never removed for good, so a number once seen stays valid.
        if number not in self._existing:
            if not await self._experiments.exists(number):
                raise Invalid("x-mlflow-experiment-id", f"there is no experiment {number}")
            self._existing.add(number)
        return number


def _number(experiment: str) -> int:
    if not experiment.isascii() or not experiment.isdigit() or len(experiment) > 10:
        raise Invalid("x-mlflow-experiment-id", "must be the number of an experiment")
    return int(experiment)
