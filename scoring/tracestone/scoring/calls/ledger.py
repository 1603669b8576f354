"""What this process reserves and settles in the ledger of budgets, in batches.

A reservation is held for a minute and kept while the process lives, so that of one that was killed it expires as its
jobs' leases do. What calls cost is told until Postgres takes it, if need be again: a settlement counts once.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID, uuid4

from tracestone.schema.budgets import Refusal
from tracestone.schema.errors import StorageDown
from tracestone.schema.stores.budgets import BudgetStore, Reserve, Settle
from tracestone.schema.stores.jobs import Usage
from tracestone.scoring.calls.account import Account
from tracestone.scoring.calls.batches import Batches

logger = logging.getLogger(__name__)

HOLD_SECONDS = 60.0
_AGAIN_SECONDS = 1.0
# For so long a call waits for others before it is reserved, and what it cost before it is settled, which nobody awaits.
_GATHER_SECONDS = 0.01
_SETTLE_SECONDS = 0.1


@dataclass(frozen=True)
class Held:
    """A reservation, and the bounds that it holds."""

    asked: Reserve


class Ledger:
    """One process's side of the ledger; `run` keeps its reservations."""

    def __init__(self, store: BudgetStore, *, hold_seconds: float = HOLD_SECONDS) -> None:
        self._store = store
        self._holder = uuid4()
        self._seconds = hold_seconds
        self._reserving: Batches[Reserve, Refusal | None] = Batches(
            "reserve budgets", self._reserve, self._let_go, seconds=_GATHER_SECONDS
        )
        self._settling: Batches[Settle, None] = Batches("settle budgets", self._settle, seconds=_SETTLE_SECONDS)
        self._closing = False

    async def reserve(self, account: Account, usd: float | None, tokens: int) -> Held | Refusal:
        """Reserves the most that a call may cost, in every budget of the account. Raises StorageDown."""
        asked = Reserve(uuid4(), account.scorer, account.experiment_id, usd, tokens)
        return await self._reserving.ask(asked) or Held(asked)

    def settle(self, held: Held, usage: Usage) -> "asyncio.Future[None]":
        """Counts what the call cost; where it did not tell, its bound. Done when Postgres has it."""
        asked = held.asked
        counts = (usage.input_tokens, usage.output_tokens)
        tokens = asked.tokens if None in counts else sum(count or 0 for count in counts)
        usd = asked.usd if usage.cost_usd is None else usage.cost_usd
        return self._settling.put(
            Settle(asked.reservation_id, asked.scorer, asked.experiment_id, usage.calls, usd, tokens)
        )

    def release(self, held: Held) -> "asyncio.Future[None]":
        """Lets a reservation go whose call came to nothing."""
        asked = held.asked
        return self._settling.put(Settle(asked.reservation_id, asked.scorer, asked.experiment_id))

    async def run(self, stopping: asyncio.Event) -> None:
        """Keeps this process's reservations until `stopping` is set."""
        while not stopping.is_set():
            try:
                await self._store.keep(self._holder, self._seconds)
            except StorageDown as error:
                logger.warning("reservations cannot be kept", extra={"action": "budgets", "reason": str(error)})
            with suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), self._seconds / 3)

    async def close(self, seconds: float = 2.0) -> None:
        """Settles what is open, within `seconds`; what Postgres does not take then is not counted."""
        self._closing = True
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._reserving.drained()
                await self._settling.drained()

    async def _reserve(self, calls: Sequence[Reserve]) -> list[Refusal | None]:
        refused = await self._store.reserve(self._holder, self._seconds, calls)
        return [refused.get(call.reservation_id) for call in calls]

    def _let_go(self, asked: Reserve, refusal: Refusal | None) -> None:
        if refusal is None:
            self.release(Held(asked))

    async def _settle(self, calls: Sequence[Settle]) -> list[None]:
        settlement: UUID = uuid4()
        told = False
        while True:
            try:
                await self._store.settle(settlement, calls)
            except StorageDown as error:
                if not told:
                    told = True
                    extra = {"action": "budgets", "calls": sum(call.calls for call in calls), "reason": str(error)}
                    logger.warning("what calls cost waits for Postgres", extra=extra)
                if self._closing:
                    raise
                await asyncio.sleep(_AGAIN_SECONDS)
            else:
                return [None] * len(calls)
