"""The bodies that have begun to arrive and not ended, of both transports: how long, how many, how much of them.

Whoever sends a body slowly, or begins many and ends none, holds memory and places that others need. So a body has a
time in which it must be there; of those that take longer than a moment only a few are waited for; and all together
hold half of the budget at most, which leaves the other half to bodies that are complete. Where there are too many the
oldest is given up: its sender is told to try again. Senders that are quick notice nothing of it.

To be used on the event loop alone.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from tracestone.collector.receiver.budget import Budget, Held
from tracestone.schema import clock
from tracestone.schema.errors import Unavailable

_RETRY_SECONDS = 2.0
# A body that takes longer than this is a slow one.
PATIENCE_SECONDS = 2.0


class Taking(Protocol):
    """What counts the bytes that are read."""

    def take(self, size: int) -> None:
        """Raises Unavailable when there is no room."""


class Arriving:
    """One body on its way; counts what is read of it."""

    def __init__(self, arrivals: "Arrivals", held: Held, limit: asyncio.Timeout) -> None:
        self._arrivals = arrivals
        self.held = held
        self.limit = limit
        self.since = clock.monotonic()
        self.bytes = 0

    def take(self, size: int) -> None:
        """Counts bytes that were read. Raises Unavailable when there is no room."""
        self._arrivals.take(self, size)


class Arrivals:
    """All of them. `given_up` counts those whose place was needed or whose time was over."""

    def __init__(
        self, budget: Budget, *, seconds: float = 60, slow: int = 64, patience: float = PATIENCE_SECONDS
    ) -> None:
        """`seconds` is how long a body may take; of those older than `patience` seconds `slow` are waited for."""
        self.budget = budget
        self._room = budget.limit // 2
        self._seconds = seconds
        self._most = slow
        self._patience = patience
        # Both in the order in which they began.
        self._young: dict[Arriving, None] = {}
        self._slow: dict[Arriving, None] = {}
        self._review: asyncio.TimerHandle | None = None
        self.bytes = 0
        self.given_up = 0

    @asynccontextmanager
    async def body(self, held: Held) -> AsyncIterator[Arriving]:
        """While one body is read; what is taken of it belongs to `held`. Raises Unavailable when it is given up."""
        limit = asyncio.timeout(self._seconds)
        body = Arriving(self, held, limit)
        try:
            async with limit:
                self._young[body] = None
                self._watch()
                try:
                    yield body
                finally:
                    self._forget(body)
        except TimeoutError as error:
            if not limit.expired():
                raise
            self.given_up += 1
            reason = f"The body did not arrive within {clock.monotonic() - body.since:.1f} s."
            raise Unavailable(reason, retry_after=_RETRY_SECONDS) from error

    def take(self, body: Arriving, size: int) -> None:
        """Counts bytes of a body, making room at the cost of slow ones. Raises Unavailable when there is none."""
        if self.bytes + size > self._room:
            self._sort()
            for slow in list(self._slow):
                if slow is not body and slow.bytes and self.bytes + size > self._room:
                    self._give_up(slow)
            # One body alone is always let in: whether it is too large is for the limit of a request to say.
            if self.bytes > body.bytes and self.bytes + size > self._room:
                raise Unavailable("Too many bodies arrive at once; try again.", retry_after=_RETRY_SECONDS)
        body.held.take(size)
        body.bytes += size
        self.bytes += size

    def _watch(self) -> None:
        if self._review is None:
            self._review = asyncio.get_running_loop().call_later(self._patience, self._look)

    def _look(self) -> None:
        self._review = None
        self._sort()
        while len(self._slow) > self._most:
            self._give_up(next(iter(self._slow)))
        if self._young or self._slow:
            self._watch()

    def _sort(self) -> None:
        """Moves to the slow ones who has become one."""
        before = clock.monotonic() - self._patience
        for body in list(self._young):
            if body.since > before:
                return
            del self._young[body]
            self._slow[body] = None

    def _give_up(self, body: Arriving) -> None:
        body.held.give_back()
        self._forget(body)
        body.limit.reschedule(asyncio.get_running_loop().time())

    def _forget(self, body: Arriving) -> None:
        self._young.pop(body, None)
        self._slow.pop(body, None)
        self.bytes -= body.bytes
        body.bytes = 0
