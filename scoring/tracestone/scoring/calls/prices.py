"""What judges' models cost: prices that this deployment set or imported, else litellm's price map.

An experiment's price goes before the deployment's, and that before an imported one; one for the provider before one
for any. Names are compared as given, without the provider in front, upper and lower case alike.
"""

import asyncio
from dataclasses import replace
from typing import Protocol

from tracestone.schema import clock, pricing
from tracestone.schema.prices import providers
from tracestone.schema.prices.price import TOKENS, Price
from tracestone.schema.stores.jobs import Usage
from tracestone.schema.stores.prices import PriceStore
from tracestone.scoring.calls.bounds import Bound
from tracestone.scoring.llm import ModelFacts

_FRESH_SECONDS = 10.0
_SCOPES = ("experiment", "deployment", "shipped")


class Facts(Protocol):
    """Where facts about models come from; `llm.LiteLLM` is one."""

    async def facts(self, model: str, *, fast: bool = False) -> ModelFacts:
        """What is known of a model, of faster service too if asked."""
        ...


class JudgePrices:
    """The prices of judges' models. What people set is read again when it is older than ten seconds."""

    def __init__(self, store: PriceStore, facts: Facts) -> None:
        self._store = store
        self._facts = facts
        self._own: dict[tuple[str, int, str, str], Price] = {}
        self._read_at = float("-inf")
        self._seen = 0
        self._reading = asyncio.Lock()

    async def read(self) -> int:
        """Reads what people set as it is now; returns the state of budgets that goes with it. Raises StorageDown."""
        asked_at = clock.monotonic()
        async with self._reading:
            if self._read_at < asked_at:
                read_at = clock.monotonic()
                prices, self._seen = await self._store.all_and_changes()
                self._read_at = read_at
                self._own = {
                    (price.scope, price.experiment_id, price.provider, price.model.lower()): price
                    for price in pricing.in_force(prices, clock.today())
                }
        return self._seen

    async def most_output_tokens(self, model: str) -> int | None:
        """The most that a model can say, if the price map knows."""
        return (await self._facts.facts(model)).most_output_tokens

    async def most_usd(self, bound: Bound, experiment_id: int) -> float | None:
        """The most that a call may cost; None when no price of its model is known. Raises StorageDown."""
        price = await self._price(bound.model, experiment_id)
        if price is not None:
            return _most(price, bound)
        facts = await self._facts.facts(bound.model, fast=bound.fast)
        if facts.input_usd is None or (bound.output_tokens and facts.output_usd is None):
            return None
        return bound.input_tokens * facts.input_usd + bound.output_tokens * (facts.output_usd or 0.0)

    def priced(self, usage: Usage, model: str, experiment_id: int) -> Usage:
        """The usage of a call, at our own price where there is one."""
        price = self._known(model, experiment_id)
        if price is None or usage.input_tokens is None or usage.output_tokens is None:
            return usage
        return replace(usage, cost_usd=_cost(price, usage.input_tokens, usage.output_tokens))

    async def _price(self, model: str, experiment_id: int) -> Price | None:
        if clock.monotonic() - self._read_at > _FRESH_SECONDS:
            await self.read()
        return self._known(model, experiment_id)

    def _known(self, model: str, experiment_id: int) -> Price | None:
        provider, name = providers.split(model)
        for scope in _SCOPES:
            of = experiment_id if scope == "experiment" else 0
            for whose in dict.fromkeys((provider, "")):
                found = self._own.get((scope, of, whose, name.lower()))
                if found is not None:
                    return found
        return None


def _most(price: Price, bound: Bound) -> float:
    tiers = [price.prices, *({**price.prices, **tier.prices} for tier in price.tiers)]
    input_usd = max(prices.get("input", 0.0) for prices in tiers)
    output_usd = max(max(prices.get("output", 0.0), prices.get("reasoning", 0.0)) for prices in tiers)
    return (bound.input_tokens * input_usd + bound.output_tokens * output_usd) / TOKENS


def _cost(price: Price, input_tokens: int, output_tokens: int) -> float:
    prices = dict(price.prices)
    for tier in price.tiers:
        if input_tokens > tier.above_tokens:
            prices.update(tier.prices)
    return (input_tokens * prices.get("input", 0.0) + output_tokens * prices.get("output", 0.0)) / TOKENS
