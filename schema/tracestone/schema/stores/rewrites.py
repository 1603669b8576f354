"""Rewrites of stored spans: what was asked for, and how far it is. The record is in Postgres."""

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tracestone.schema import sqlfiles
from tracestone.schema.engines.postgres import Pool, Record, storage_errors
from tracestone.schema.errors import NotFound


@dataclass(frozen=True)
class Position:
    """The last slice that is done: five-second slices of one experiment up to this one, and all experiments before."""

    experiment_id: int
    slice: int


@dataclass(frozen=True)
class Rewrite:
    """One rewrite. Counts are spans, `seconds` are of work; `state` is waiting, running, done, failed or cancelled."""

    rewrite_id: int
    kind: str
    parameters: Mapping[str, Any]
    state: str
    position: Position | None
    spans_total: int
    spans_done: int
    spans_changed: int
    seconds: float
    error: str

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen."""
        return self.state not in ("waiting", "running")


class RewriteStore:
    """Asking for rewrites, and the record of who works on them."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sql = sqlfiles.queries("postgres", "rewrites")

    async def add(self, kind: str, parameters: Mapping[str, Any]) -> Rewrite:
        """Asks for one; the same as before while that is not finished. Raises StorageDown."""
        return _rewrite(await self._row("add", kind, dict(parameters)))

    async def get(self, rewrite_id: int) -> Rewrite:
        """Raises NotFound, StorageDown."""
        return _found(await self._row("one", rewrite_id), rewrite_id)

    async def latest(self, most: int) -> list[Rewrite]:
        """The latest, newest first. Raises StorageDown."""
        with storage_errors():
            return [_rewrite(row) for row in await self._pool.fetch(self._sql["latest"], most)]

    async def cancel(self, rewrite_id: int) -> Rewrite:
        """It stops after the slice in work; what it did stays. Raises NotFound when it is not there or finished."""
        return _found(await self._row("cancel", rewrite_id), rewrite_id)

    async def unfinished(self, kinds: Collection[str]) -> Rewrite | None:
        """The one to work on next. Raises StorageDown."""
        row = await self._row("unfinished", sorted(kinds))
        return None if row is None else _rewrite(row)

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[bool]:
        """Whether this process is the one that rewrites, until the end; a process that dies makes room at once."""
        with storage_errors():
            async with self._pool.acquire() as connection:
                mine = await connection.fetchval(self._sql["lock"])
                try:
                    yield mine
                finally:
                    if mine and not connection.is_closed():
                        await connection.execute(self._sql["unlock"])

    async def begun(self, rewrite_id: int, spans: int) -> None:
        """It is worked on. Raises StorageDown."""
        await self._row("begun", rewrite_id, spans)

    async def progressed(
        self, rewrite_id: int, position: Position, *, spans: int, changed: int, seconds: float
    ) -> bool:
        """A slice is done; False when it is not to go on. Raises StorageDown."""
        return await self._row("progressed", rewrite_id, vars(position), spans, changed, seconds) is not None

    async def ended(self, rewrite_id: int, state: str, error: str = "") -> None:
        """It is done or failed. Raises StorageDown."""
        await self._row("ended", rewrite_id, state, error)

    async def _row(self, query: str, *values: Any) -> Record | None:
        with storage_errors():
            return await self._pool.fetchrow(self._sql[query], *values)


def _found(row: Record | None, rewrite_id: int) -> Rewrite:
    if row is None:
        raise NotFound(f"There is no rewrite {rewrite_id} that is not finished.")
    return _rewrite(row)


def _rewrite(row: Record | None) -> Rewrite:
    assert row is not None
    values = {name: row[name] for name in Rewrite.__dataclass_fields__}
    values["position"] = Position(**row["position"]) if row["position"] else None
    return Rewrite(**values)
