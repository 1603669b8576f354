"""What follows the inserts of spans and of logs: the rows of their traces, each written later than the one before."""

from collections.abc import Sequence

from tracestone.collector.wal.receipt import ReceiptClock
from tracestone.schema import clock
from tracestone.schema.stores.spans import SpanStore


class TraceRefresh:
    """Recomputes traces. Of a trace's rows the one written last counts, also when the clock was put back since.

    ClickHouse tells the time of a row, since several collectors may write to it. Only while this machine's clock is
    behind what it was, the row's time is one after that.
    """

    def __init__(self, spans: SpanStore, receipt: ReceiptClock) -> None:
        self._spans = spans
        self._receipt = receipt
        self._has_looked = False

    async def __call__(self, batches: Sequence[str], share: int, shares: int) -> None:
        """See `Destination.follow`. Never two at once."""
        await self._spans.refresh_traces(batches, share, shares, at_least_ns=await self._floor())
        self._receipt.at_least(clock.now_ns())

    async def of_logs(self, batches: Sequence[str], share: int, shares: int) -> None:
        """The same for batches of logs."""
        await self._spans.refresh_traces_of_logs(batches, share, shares, at_least_ns=await self._floor())
        self._receipt.at_least(clock.now_ns())

    async def _floor(self) -> int:
        if not self._has_looked:
            # By a process before this one, after the last record that its log knows of.
            self._receipt.at_least(await self._spans.refreshed_beyond(clock.now_ns()))
            self._has_looked = True
        return self._receipt.floor()
