"""Which traces a batch touched, for computing them again later than ClickHouse keeps that by itself."""

from collections.abc import Sequence

from tracestone.schema import sqlfiles
from tracestone.schema.engines.columnar import Columnar

_QUERIES = sqlfiles.queries("clickhouse", "touches")
# A share of a batch that cannot be computed holds few; whoever has more has another problem.
_MOST = 10_000


class TouchStore:
    """Reads and writes of the notes."""

    def __init__(self, columnar: Columnar) -> None:
        self._columnar = columnar

    async def touched(self, batches: Sequence[str], share: int, shares: int) -> list[tuple[int, str]]:
        """Experiments and ids of the traces that these batches touched: one share of several, at most 10,000."""
        parameters = {"batches": list(batches), "share": share, "shares": shares, "most": _MOST}
        rows = await self._columnar.query(_QUERIES["touched"], parameters)
        return [(row["experiment_id"], row["trace_id"]) for row in rows]

    async def touch(self, batch: str, traces: Sequence[tuple[int, str]]) -> None:
        """Notes that a batch touched these traces. Safe to repeat."""
        experiments, ids = [experiment for experiment, _ in traces], [trace_id for _, trace_id in traces]
        await self._columnar.command(_QUERIES["touch"], {"batch": batch, "experiments": experiments, "traces": ids})
