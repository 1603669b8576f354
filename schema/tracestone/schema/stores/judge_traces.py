"""Traces of judges' own calls on their way to the write-ahead log; Postgres keeps them until the log has them."""

import logging
from collections.abc import Awaitable, Callable, Sequence

from tracestone.schema import sqlfiles
from tracestone.schema.engines.postgres import Connection, Pool, storage_errors
from tracestone.schema.errors import Rejected

logger = logging.getLogger(__name__)

# Beyond this many the oldest go: the log has been full for long then.
MOST_WAITING = 200_000
_AT_ONCE = 500
_BYTES_AT_ONCE = 8 * 1024 * 1024

Take = Callable[[bytes], Awaitable[None]]


class JudgeTraceStore:
    """What waits to be handed over. Several processes may do so at once."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sql = sqlfiles.queries("postgres", "judge_traces")

    async def keep(self, traces: Sequence[tuple[str, bytes]], connection: Connection | None = None) -> None:
        """Keeps traces, each by its id an OTLP request in protobuf. Safe to repeat. Raises StorageDown.

        With `connection`, it becomes part of that connection's transaction.
        """
        ids, requests = [each[0] for each in traces], [each[1] for each in traces]
        with storage_errors():
            await (connection or self._pool).execute(self._sql["keep"], ids, requests)

    async def hand_over(self, take: Take) -> bool:
        """Gives the oldest traces to `take` as one request, and forgets them once it has returned.

        Whether there may be more. Raises what `take` does, but for Rejected, and StorageDown; then they stay.
        """
        with storage_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                rows = await connection.fetch(self._sql["claim"], _AT_ONCE, _BYTES_AT_ONCE)
                if not rows:
                    return False
                await _taken([row["spans"] for row in rows], take)
                await connection.execute(self._sql["handed_over"], [row["trace_id"] for row in rows])
        return True

    async def forget(self) -> None:
        """Removes the oldest of too many. Raises StorageDown."""
        with storage_errors():
            gone = await self._pool.fetchval(self._sql["forget"], MOST_WAITING)
        if gone:
            logger.warning("traces of judges are given up", extra={"action": "judge_traces", "traces": gone})


async def _taken(requests: Sequence[bytes], take: Take) -> None:
    try:
        # Messages written one after the other are one with all their repeated fields.
        await take(b"".join(requests))
    except Rejected as error:
        if len(requests) == 1:
            extra = {"action": "judge_traces", "reason": str(error)}
            logger.warning("the trace of a judge cannot be taken and is given up", extra=extra)
            return
        for request in requests:
            await _taken([request], take)
