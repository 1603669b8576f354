"""Jobs that were given up: kept with their reason, to be replayed or dropped. See docs/scoring.md."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tracestone.schema import sqlfiles
from tracestone.schema.engines.postgres import Connection, Pool, Record, storage_errors
from tracestone.schema.errors import NotFound
from tracestone.schema.stores.jobs import Job

PAGE = 200
_AT_ONCE = 500


@dataclass(frozen=True)
class DeadJob:
    """A job that was given up; `job` is its row in the queue as it was."""

    dead_id: int
    scorer_name: str
    experiment_id: int
    trace_id: str
    code: str
    message: str
    job: dict[str, Any]
    died_at: datetime


@dataclass(frozen=True)
class DeadCount:
    """How many jobs of a scorer died of the same."""

    scorer_name: str
    code: str
    jobs: int
    oldest: datetime


class DeadJobStore:
    """The dead jobs of all workers."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sql = sqlfiles.queries("postgres", "dead_jobs")

    async def bury(self, job: Job, seen_ns: int, connection: Connection) -> int | None:
        """Takes a job out of the queue in the caller's transaction, of which the state `seen_ns` was tried.

        None when another worker holds it, or when it has learnt of a later state of its target.
        """
        found: int | None = await connection.fetchval(
            self._sql["bury"],
            job.job_id,
            job.lease,
            seen_ns,
            job.spent.calls,
            job.spent.cost_usd,
            job.spent.input_tokens,
            job.spent.output_tokens,
        )
        return found

    async def explain(self, dead_id: int, assessment_id: str, connection: Connection) -> None:
        """Tells which error stands for the verdict, and is the reason; replaying removes it."""
        await connection.execute(self._sql["explain"], dead_id, assessment_id)

    async def page(self, after: int = 0, scorer: str | None = None, code: str | None = None) -> list[DeadJob]:
        """Up to 200, oldest first, after one. Raises StorageDown."""
        with storage_errors():
            return [_dead(row) for row in await self._pool.fetch(self._sql["page"], after, scorer, code, PAGE)]

    async def get(self, dead_id: int) -> DeadJob:
        """One. Raises NotFound, StorageDown."""
        with storage_errors():
            row = await self._pool.fetchrow(self._sql["get"], dead_id)
        if row is None:
            raise NotFound(f"There is no dead job {dead_id}.")
        return _dead(row)

    async def counts(self) -> list[DeadCount]:
        """How many there are, by scorer and code. Raises StorageDown."""
        with storage_errors():
            return [DeadCount(*row) for row in await self._pool.fetch(self._sql["counts"])]

    async def replay(self, ids: Sequence[int] | None, scorer: str | None = None, code: str | None = None) -> int:
        """Puts jobs back into the queue and removes their errors; None for `ids` takes all. How many came back.

        Safe to break off: it goes in steps, each whole. Raises StorageDown.
        """
        replayed = 0
        while True:
            with storage_errors():
                async with self._pool.acquire() as connection, connection.transaction():
                    taken = await connection.fetch(self._sql["take"], ids, scorer, code, _AT_ONCE)
                    await connection.execute(self._sql["forget_errors"], [row["assessment_id"] for row in taken])
                    back = await connection.fetch(self._sql["requeue"], [row["job"] for row in taken])
            replayed += len(back)
            if len(taken) < _AT_ONCE:
                return replayed

    async def drop(self, ids: Sequence[int] | None, scorer: str | None = None, code: str | None = None) -> int:
        """Removes jobs for good; their errors stay. How many there were. Raises StorageDown."""
        dropped = 0
        while True:
            with storage_errors():
                taken = await self._pool.fetch(self._sql["take"], ids, scorer, code, _AT_ONCE)
            dropped += len(taken)
            if len(taken) < _AT_ONCE:
                return dropped

    async def forget(self) -> None:
        """Removes those of which nobody has taken care for 90 days. Raises StorageDown."""
        with storage_errors():
            await self._pool.execute(self._sql["forget"])


def _dead(row: Record) -> DeadJob:
    return DeadJob(*row)
