"""How long what was decided of every finished target is kept; the view `coverage` reads it."""

from tracestone.schema import sqlfiles
from tracestone.schema.engines.columnar import Columnar


class CoverageStore:
    """The decisions of all scorers, in months by when something of their targets last arrived."""

    def __init__(self, columnar: Columnar, days: int) -> None:
        """`days` is how long they are kept at least; 0 keeps them for ever."""
        self._columnar = columnar
        self._days = days
        self._sql = sqlfiles.queries("clickhouse", "coverage")

    async def forget(self) -> None:
        """Removes whole months that are over for so long. Raises StatementFailed, StorageDown.

        A month in which a backfill has decided something since stays. A target that was decided on again later is in
        a later month, and is counted there alone before and after.
        """
        if not self._days:
            return
        for row in await self._columnar.query(self._sql["old_months"], {"days": self._days}):
            await self._columnar.command(self._sql["forget_month"], {"month": str(row["month"])})
