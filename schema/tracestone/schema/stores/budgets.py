"""Budgets and their ledger in Postgres, where every worker reserves before a call and settles after it.

Reserving is one statement for any number of calls: it locks the rows of their budgets, in the order of their numbers,
so two workers neither overspend together nor wait for each other. Time is Postgres's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from tracestone.schema import sqlfiles
from tracestone.schema.budgets import Budget, BudgetRequest, BudgetState, Refusal
from tracestone.schema.engines.postgres import Pool, Record, storage_errors
from tracestone.schema.errors import Invalid, NotFound

MAX_BUDGETS = 1000


@dataclass(frozen=True)
class Reserve:
    """The most that one call may cost: `usd` is None while no price of its model is known."""

    reservation_id: UUID
    scorer: str
    experiment_id: int
    usd: float | None
    tokens: int


@dataclass(frozen=True)
class Settle:
    """What one call cost; `calls` 0 only lets its reservation go."""

    reservation_id: UUID
    scorer: str
    experiment_id: int
    calls: int = 0
    usd: float | None = None
    tokens: int | None = None


class BudgetStore:
    """Budgets, their periods and their reservations."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sql = sqlfiles.queries("postgres", "budgets")

    async def reserve(self, holder: UUID, seconds: float, calls: Sequence[Reserve]) -> dict[UUID, Refusal]:
        """Reserves for `seconds` what the calls may cost; those that do not fit are refused and reserve nothing.

        Calls are served in their order. Raises StorageDown.
        """
        with storage_errors():
            rows = await self._pool.fetch(
                self._sql["reserve"],
                holder,
                seconds,
                [call.reservation_id for call in calls],
                [call.scorer for call in calls],
                [call.experiment_id for call in calls],
                [call.usd for call in calls],
                [float(call.tokens) for call in calls],
            )
        return {
            row["refused"]: Refusal(row["refusing"], row["why"], row["needed"], row["resumes_at"], row["seen"])
            for row in rows
        }

    async def settle(self, settlement: UUID, calls: Sequence[Settle]) -> None:
        """Counts what calls cost and lets their reservations go. Safe to repeat under one id. Raises StorageDown."""
        with storage_errors():
            await self._pool.execute(
                self._sql["settle"],
                settlement,
                [call.reservation_id for call in calls],
                [call.scorer for call in calls],
                [call.experiment_id for call in calls],
                [call.calls for call in calls],
                [call.usd for call in calls],
                [None if call.tokens is None else float(call.tokens) for call in calls],
            )

    async def keep(self, holder: UUID, seconds: float) -> None:
        """Keeps a living process's reservations for `seconds` more, and lets expired ones go. Raises StorageDown."""
        with storage_errors():
            await self._pool.execute(self._sql["extend"], holder, seconds)
            await self._pool.execute(self._sql["expire"])

    async def forget(self) -> None:
        """Removes what is too old to be asked for. Raises StorageDown."""
        with storage_errors():
            await self._pool.execute(self._sql["forget"])

    async def set(self, request: BudgetRequest, experiment_id: int | None) -> tuple[Budget, bool]:
        """Sets a cap; whether the budget is new. What its period has spent so far counts.

        Raises Invalid when there are too many, StorageDown.
        """
        with storage_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(self._sql["hold_still"])
                row = await connection.fetchrow(
                    self._sql["set"], request.scorer or "", experiment_id, request.unit, request.per, request.cap
                )
                assert row is not None
                if row["new"] and await connection.fetchval(self._sql["count"]) > MAX_BUDGETS:
                    raise Invalid("budgets", f"there are {MAX_BUDGETS} already")
                await connection.execute(self._sql["begin"], row["budget_id"])
        budget = Budget(row["budget_id"], request.scorer or "", experiment_id, request.unit, request.per, request.cap)
        return budget, row["new"]

    async def remove(self, budget_id: int) -> None:
        """Ends a budget. Raises NotFound, StorageDown."""
        with storage_errors():
            found = await self._pool.fetchval(self._sql["remove"], budget_id)
        if found is None:
            raise NotFound(f"There is no budget {budget_id}.")

    async def states(self) -> list[BudgetState]:
        """Every budget as it stands: the deployment's, then scorers', then experiments'. Raises StorageDown."""
        with storage_errors():
            return [_state(row) for row in await self._pool.fetch(self._sql["states"], None)]

    async def state(self, budget_id: int) -> BudgetState:
        """One budget as it stands. Raises NotFound, StorageDown."""
        with storage_errors():
            row = await self._pool.fetchrow(self._sql["states"], budget_id)
        if row is None:
            raise NotFound(f"There is no budget {budget_id}.")
        return _state(row)


def _state(row: Record) -> BudgetState:
    budget = Budget(row["budget_id"], row["scorer_name"], row["experiment_id"], row["unit"], row["period"], row["cap"])
    told = ("starts", "ends", "at", "spent", "reserved", "recent", "recent_seconds", "waiting")
    return BudgetState(budget, *(row[name] for name in told))
