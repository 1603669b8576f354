"""Assessments that are to be emitted as OpenTelemetry events, in Postgres, where a trigger puts them."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tracestone.schema import sqlfiles
from tracestone.schema.engines.postgres import Pool, storage_errors
from tracestone.schema.errors import Rejected

MAX_AGE_SECONDS = 86_400.0
MOST_WAITING = 100_000


@dataclass(frozen=True)
class Told:
    """One assessment as it was: its row, and the name of its experiment, "" when that is not known."""

    assessment: dict[str, Any]
    experiment: str


Emit = Callable[[Sequence[Told]], Awaitable[int]]


@dataclass(frozen=True)
class Emitted:
    """What became of a batch: how many were there, and how many of them the endpoint will never take."""

    events: int
    refused: int


class EvaluationEventStore:
    """The queue. Several processes may emit at once; an event is emitted at least once."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sql = sqlfiles.queries("postgres", "evaluation_events")

    async def deployment(self) -> str:
        """Which deployment this is. Raises StorageDown."""
        with storage_errors():
            return str(await self._pool.fetchval(self._sql["deployment"]))

    async def seen(self) -> None:
        """Says that a process emits: assessments are kept for it for a day. Raises StorageDown."""
        with storage_errors():
            await self._pool.execute(self._sql["seen"])

    async def deliver(self, emit: Emit, limit: int = 500, limit_bytes: int = 2 * 1024 * 1024) -> Emitted:
        """Gives the oldest events to `emit`, which says how many the endpoint refused, and forgets them then.

        One that makes `emit` raise Rejected by itself is given up. Raises what else `emit` does, and StorageDown; then
        nothing is forgotten.
        """
        with storage_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                rows = await connection.fetch(self._sql["claim"], limit, limit_bytes)
                if not rows:
                    return Emitted(0, 0)
                refused = await _emitted([Told(row["assessment"], row["experiment"]) for row in rows], emit)
                await connection.execute(self._sql["emitted"], [row["event_id"] for row in rows])
        return Emitted(len(rows), refused)

    async def forget(self) -> int:
        """Gives up what is too old, and the oldest of too many; how many. Raises StorageDown."""
        with storage_errors():
            return int(await self._pool.fetchval(self._sql["forget"], MAX_AGE_SECONDS, MOST_WAITING))


async def _emitted(events: Sequence[Told], emit: Emit) -> int:
    try:
        return await emit(events)
    except Rejected:
        if len(events) == 1:
            return 1
        middle = len(events) // 2
        return await _emitted(events[:middle], emit) + await _emitted(events[middle:], emit)
