"""Calls under budgets: what a call may cost at most is reserved before it, and what it cost is settled after.

A call that does not fit is not made: its job waits, until the period ends, a cap is raised, or a price is told. So no
cap is passed, unless a provider reports more tokens than a call can have.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

from tracestone.schema import clock
from tracestone.schema.budgets import Refusal
from tracestone.schema.stores.jobs import Usage, Wait
from tracestone.scoring.calls import account, bounds
from tracestone.scoring.calls.account import Account, Deferred
from tracestone.scoring.calls.bounds import Bound
from tracestone.scoring.calls.ledger import Held, Ledger
from tracestone.scoring.calls.prices import JudgePrices
from tracestone.scoring.llm import Call, EmbeddingCall, Embeddings, Provider, Reply

Answer = TypeVar("Answer", Reply, Embeddings)

_PATIENCE_SECONDS = 10.0
_AGAIN_SECONDS = 0.5


class Budgeted:
    """A provider whose every call is paid from the budgets of the current account."""

    def __init__(self, provider: Provider, ledger: Ledger, prices: JudgePrices) -> None:
        self._provider = provider
        self._ledger = ledger
        self._prices = prices

    async def complete(self, call: Call) -> Reply:
        """One call. Raises CallFailed, Deferred when a budget does not allow it now, StorageDown."""
        call, bound = bounds.of_chat(call, await self._prices.most_output_tokens(call.model))
        reply, usage = await self._paid(bound, lambda: self._provider.complete(call))
        return replace(reply, usage=usage)

    async def embed(self, call: EmbeddingCall) -> Embeddings:
        """The same for embeddings."""
        found, usage = await self._paid(bounds.of_embedding(call), lambda: self._provider.embed(call))
        return replace(found, usage=usage)

    async def _paid(self, bound: Bound, make: Callable[[], Awaitable[Answer]]) -> tuple[Answer, Usage]:
        payer = account.current()
        held = await self._reserved(payer, bound)
        try:
            answer = await make()
        except BaseException:
            self._ledger.release(held)
            raise
        usage = self._prices.priced(answer.usage, bound.model, payer.experiment_id)
        payer.add(usage)
        self._ledger.settle(held, usage)  # not waited for: what was paid for is not held up by Postgres
        return answer, usage

    async def _reserved(self, payer: Account, bound: Bound) -> Held:
        """Waits a while where calls under way have reserved the rest: most of that comes back when they settle."""
        patient_until = clock.monotonic() + _PATIENCE_SECONDS
        while True:
            answer = await self._asked(payer, bound)
            if isinstance(answer, Held):
                return answer
            if answer.why != "reserved" or clock.monotonic() > patient_until:
                raise _deferred(answer, bound)
            await asyncio.sleep(random.uniform(0.5, 1.0) * _AGAIN_SECONDS)

    async def _asked(self, payer: Account, bound: Bound) -> Held | Refusal:
        usd = await self._prices.most_usd(bound, payer.experiment_id)
        answer = await self._ledger.reserve(payer, usd, bound.tokens)
        if isinstance(answer, Held) or answer.why != "unpriced":
            return answer
        # Told since it was last read, maybe; the state that goes with it tells of prices that come after.
        seen = await self._prices.read()
        usd = await self._prices.most_usd(bound, payer.experiment_id)
        if usd is None:
            return replace(answer, seen=seen)
        return await self._ledger.reserve(payer, usd, bound.tokens)


def _deferred(refusal: Refusal, bound: Bound) -> Deferred:
    model = bound.model
    needed = f"{refusal.needed:g}" if refusal.needed is not None else ""
    reasons = {
        "unpriced": f"no price of {model} is known, and a budget in USD applies: set one with `tracestone prices set`",
        "too_large": f"one call may need {needed} of the budget, more than its whole cap: raise it, or set max_tokens",
        "spent": "the budget of this period is spent",
        "reserved": "calls under way have reserved what is left of the budget",
    }
    return Deferred(
        Wait(
            "budget",
            f"budget {refusal.budget_id}: {reasons[refusal.why]}",
            until=refusal.resumes_at,
            budget_id=refusal.budget_id,
            seen=refusal.seen,
        )
    )
