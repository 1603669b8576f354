"""Backfills and their progress in Postgres."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from tracestone.schema import clock, sqlfiles
from tracestone.schema.backfills import Backfill, State
from tracestone.schema.engines.postgres import Connection, Pool, Record, storage_errors
from tracestone.schema.errors import NotFound, StorageDown
from tracestone.schema.scorers.online import OnlineConfig
from tracestone.schema.stores.jobs import Cursor, JobStore, Target

MAX_LISTED = 100
# Live traffic goes first.
PRIORITY = -10


class LeasedBackfill:
    """A backfill that this transaction holds; leaving the block commits its jobs and its progress together."""

    def __init__(self, connection: Connection, jobs: JobStore, sql: dict[str, str], backfill: Backfill) -> None:
        self._connection = connection
        self._jobs = jobs
        self._sql = sql
        self.backfill = backfill

    async def advance(self, cursor: Cursor, targets: Sequence[Target], *, done: bool, pause_seconds: float) -> int:
        """Enqueues the targets that have no verdict on their state yet, and moves on. Returns how many were new."""
        backfill = self.backfill
        added = await self._jobs.enqueue(
            self._connection,
            backfill.config.scorer_name,
            backfill.version,
            targets,
            backfill.config.target_type,
            PRIORITY,
        )
        await self._connection.execute(
            self._sql["advance"],
            backfill.backfill_id,
            cursor.due_ns,
            cursor.key,
            len(targets),
            added,
            done,
            pause_seconds,
        )
        return added


class BackfillStore:
    """One aggregate: a backfill."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._jobs = JobStore(pool)
        self._sql = sqlfiles.queries("postgres", "backfills")

    async def create(
        self, config: OnlineConfig, version: int, from_ns: int, to_ns: int, per_minute: int | None, targets: int
    ) -> Backfill:
        """Stores a backfill, which begins at once. Raises StorageDown."""
        with storage_errors():
            row = await self._pool.fetchrow(
                self._sql["create"],
                config.scorer_name,
                version,
                config.experiment_id,
                config.target_type,
                from_ns,
                to_ns,
                config.filter,
                config.sample_rate,
                config.salt,
                per_minute,
                targets,
                clock.now_ms(),
            )
        if row is None:  # RETURNING of a statement that has just written the row
            raise StorageDown("Postgres did not return the row it wrote")
        return _backfill(row)

    async def latest(self) -> list[Backfill]:
        """The newest hundred. Raises StorageDown."""
        with storage_errors():
            return [_backfill(row) for row in await self._pool.fetch(self._sql["list"], MAX_LISTED)]

    async def get(self, backfill_id: int) -> Backfill:
        """One backfill. Raises NotFound, StorageDown."""
        with storage_errors():
            row = await self._pool.fetchrow(self._sql["get"], backfill_id)
        if row is None:
            raise NotFound(f"There is no backfill {backfill_id}.")
        return _backfill(row)

    async def set_state(self, backfill_id: int, state: State) -> Backfill:
        """Pauses, resumes or cancels; one that is over stays so. Raises NotFound, StorageDown."""
        with storage_errors():
            row = await self._pool.fetchrow(self._sql["set_state"], backfill_id, state)
        return await self.get(backfill_id) if row is None else _backfill(row)

    async def ready(self) -> list[int]:
        """Those that may go on now. Raises StorageDown."""
        with storage_errors():
            return [row["backfill_id"] for row in await self._pool.fetch(self._sql["ready"])]

    @asynccontextmanager
    async def hold(self, backfill_id: int) -> AsyncIterator[LeasedBackfill | None]:
        """Holds one for the block, in one transaction; None when another process has it or it is paused."""
        with storage_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                row = await connection.fetchrow(self._sql["lease"], backfill_id)
                leased = None if row is None else LeasedBackfill(connection, self._jobs, self._sql, _backfill(row))
                yield leased

    async def fail(self, backfill_id: int, reason: str, seconds: float) -> None:
        """Keeps why it cannot go on; it is tried again in `seconds`. Raises StorageDown."""
        with storage_errors():
            await self._pool.execute(self._sql["fail"], backfill_id, reason, seconds)

    async def unfinished(self, backfill: Backfill, bound: int = 100_000) -> int:
        """Jobs of its scorer's version that are not over, up to a bound. Raises StorageDown."""
        with storage_errors():
            name = backfill.config.scorer_name
            return int(await self._pool.fetchval(self._sql["unfinished"], name, backfill.version, bound))

    async def usual_cost(self, scorer_name: str) -> tuple[int, float | None, float | None]:
        """How many of its last verdicts are known, and what they cost on average: USD, tokens. Raises StorageDown."""
        with storage_errors():
            row = await self._pool.fetchrow(self._sql["usual_cost"], scorer_name)
        if row is None or not row["priced"]:
            return (0 if row is None else row["verdicts"]), None, None
        return row["verdicts"], row["usd"], row["tokens"]


def _backfill(row: Record) -> Backfill:
    values: dict[str, Any] = dict(row)
    config = OnlineConfig(
        row["backfill_id"],
        row["scorer_name"],
        row["scorer_version"],
        row["experiment_id"],
        row["sample_rate"],
        row["filter"],
        row["salt"],
        target_type=row["target_type"],
    )
    same = "backfill_id from_ns to_ns per_minute targets state due_ns key chosen enqueued error created_at_ms".split()
    return Backfill(config=config, version=row["scorer_version"], **{name: values[name] for name in same})
