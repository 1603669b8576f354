"""What follows the inserts of logs: content joins its spans, evaluation events become assessments."""

from collections.abc import Sequence

from tracestone.collector.ingest.evaluations import Evaluations
from tracestone.collector.ingest.refresh import TraceRefresh


class LogFollow:
    """Both, in this order: an evaluation waits for spans, content does not."""

    def __init__(self, refresh: TraceRefresh, evaluations: Evaluations) -> None:
        self._refresh = refresh
        self._evaluations = evaluations

    async def __call__(self, batches: Sequence[str], share: int, shares: int) -> None:
        """See `Destination.follow`."""
        await self._refresh.of_logs(batches, share, shares)
        await self._evaluations.follow(batches, share, shares)
