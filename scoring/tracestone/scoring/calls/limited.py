"""Calls as fast as their provider takes them, and no faster.

Each model at each address has a lane (`lane.Lane`), each provider a breaker (`breaker.Breaker`). A call waits a few
seconds for its turn; what takes longer goes back to the queue, as a wait that uses up no try.
"""

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from tracestone.schema import clock
from tracestone.schema.call_limits import CallLimit
from tracestone.schema.stores.jobs import Wait
from tracestone.scoring.calls.account import Deferred
from tracestone.scoring.calls.breaker import Breaker
from tracestone.scoring.calls.lane import Lane, Slot
from tracestone.scoring.llm import Call, CallFailed, EmbeddingCall, Embeddings, Provider, Reply

Answer = TypeVar("Answer", Reply, Embeddings)

_PATIENCE_SECONDS = 15.0
_MOST_LANES = 1000
# These say that a provider works; others of CallFailed's codes that it does not.
_PROVIDER_FAILS = frozenset({"TIMEOUT", "PROVIDER_ERROR"})


class Limited:
    """A provider whose calls are limited, per model and per provider."""

    def __init__(
        self,
        provider: Provider,
        limits: Sequence[CallLimit],
        most: int,
        *,
        patience_seconds: float = _PATIENCE_SECONDS,
        breaker: Callable[[], Breaker] = Breaker,
    ) -> None:
        """`most` calls of a model without a limit of its own may be under way."""
        self._provider = provider
        self._models = {limit.model: limit.in_flight for limit in limits if limit.model}
        self._providers = {limit.provider: limit.in_flight for limit in limits if limit.provider}
        self._most = most
        self._patience = patience_seconds
        self._new_breaker = breaker
        self._lanes: dict[tuple[str, str], Lane] = {}
        self._breakers: dict[tuple[str, str], Breaker] = {}

    async def complete(self, call: Call) -> Reply:
        """One call. Raises CallFailed, Deferred when its provider takes none now, what the inner provider raises."""
        return await self._limited(call.model, call.api_base, lambda: self._provider.complete(call))

    async def embed(self, call: EmbeddingCall) -> Embeddings:
        """The same for embeddings."""
        return await self._limited(call.model, call.api_base, lambda: self._provider.embed(call))

    def states(self) -> dict[str, tuple[int, int, bool]]:
        """For each model calls under way, the present limit, and whether its provider's breaker is closed."""
        found: dict[str, tuple[int, int, bool]] = {}
        for (model, base), lane in self._lanes.items():
            if model:
                breaker = self._breakers.get((_provider(model), base))
                running, limit, _ = found.get(model, (0, 0, True))
                found[model] = (running + lane.running, limit + int(lane.limit), breaker is None or breaker.closed)
        return found

    async def _limited(self, model: str, api_base: str | None, make: Callable[[], Awaitable[Answer]]) -> Answer:
        gate = self._gate(model, api_base or "")
        until = clock.monotonic() + self._patience
        while True:
            async with gate.passed(until):
                try:
                    answer = await make()
                except CallFailed as error:
                    if not gate.failed(error, until):
                        raise
                    continue
                gate.worked()
                return answer

    def _gate(self, model: str, base: str) -> "_Gate":
        provider = _provider(model)
        lanes = [_kept(self._lanes, (model, base), lambda: Lane(self._models.get(model, self._most)))]
        if provider in self._providers:
            shared = self._providers[provider]
            # One for all its models, under a name that no model has.
            lanes.insert(0, _kept(self._lanes, ("", f"{provider} {base}"), lambda: Lane(shared)))
        return _Gate(model, provider, _kept(self._breakers, (provider, base), self._new_breaker), lanes)


class _Gate:
    """What one call passes: its provider's breaker, then a slot in every lane."""

    def __init__(self, model: str, provider: str, breaker: Breaker, lanes: Sequence[Lane]) -> None:
        self._model = model
        self._provider = provider or model
        self._breaker = breaker
        self._lanes = lanes
        self._slots: list[Slot] = []
        self._trying = False

    @asynccontextmanager
    async def passed(self, until: float) -> AsyncIterator[None]:
        """Holds a slot in every lane for the block. Raises Deferred when there is none before `until`."""
        if not self._breaker.closed:
            left = self._breaker.refuses_for()
            if left > 0:
                raise self._stopped(left)
            self._trying = True
        self._slots = []
        try:
            for lane in self._lanes:
                slot = await lane.enter(until - clock.monotonic())
                if slot is None:
                    raise _deferred(f"{self._model} takes no more calls now", max(self._pause(), 1.0), spread=2.0)
                self._slots.append(slot)
            yield
        finally:
            if self._trying:
                self._breaker.gave_up()
                self._trying = False
            for lane, slot in zip(self._lanes, self._slots, strict=False):
                lane.leave(slot)

    def worked(self) -> None:
        """The call was answered."""
        self._ended()
        for lane in self._lanes:
            lane.answered()

    def failed(self, error: CallFailed, until: float) -> bool:
        """Whether the call may be made again before `until`. Raises Deferred when it may later."""
        if error.code in _PROVIDER_FAILS:
            self._trying = False
            self._breaker.failed(f"{error.code}: {error.message}")
            if self._breaker.closed:
                return False
            raise self._stopped(self._breaker.refuses_for()) from error
        self._ended()
        if error.code != "RATE_LIMITED":
            return False
        for lane, slot in zip(self._lanes, self._slots, strict=True):
            lane.refused(slot, error.retry_after)
        if clock.monotonic() + self._pause() > until:
            raise _deferred(f"{error.code}: {error.message}", self._pause(), spread=2.0) from error
        return True

    def _ended(self) -> None:
        """The provider answered, whatever it said."""
        self._trying = False
        self._breaker.worked()

    def _pause(self) -> float:
        return max(lane.paused_until for lane in self._lanes) - clock.monotonic()

    def _stopped(self, seconds: float) -> Deferred:
        return _deferred(f"calls of {self._provider} are stopped: {self._breaker.problem}", seconds, seconds / 4)


Kept = TypeVar("Kept")


def _kept(known: dict[tuple[str, str], Kept], key: tuple[str, str], make: Callable[[], Kept]) -> Kept:
    if key not in known:
        if len(known) >= _MOST_LANES:
            known.pop(next(iter(known)))
        known[key] = make()
    return known[key]


def _provider(model: str) -> str:
    provider, slash, _ = model.partition("/")
    return provider if slash else ""


def _deferred(reason: str, seconds: float, spread: float) -> Deferred:
    return Deferred(Wait("provider", reason[:500], seconds=seconds + random.uniform(0, spread)))
