"""How many calls of one model are under way: as many as configured, and fewer while its provider says it is too much.

Additive increase, multiplicative decrease: a refusal for too many requests halves the limit, once for all calls that
were under way together, and stops new calls for as long as the provider asks; every answer lets the limit grow by its
inverse, so by about one in each round of calls.
"""

import asyncio
from collections import deque
from dataclasses import dataclass

from tracestone.schema import clock

_LEAST = 1.0
_PAUSE_SECONDS = 1.0


@dataclass(frozen=True)
class Slot:
    """A call's place in a lane since `entered`, on the monotonic clock."""

    entered: float


class Lane:
    """The calls of one model at one address. For one event loop."""

    def __init__(self, most: int) -> None:
        self._most = float(most)
        self.limit = float(most)
        self.running = 0
        self._shrunk_at = float("-inf")
        self.paused_until = float("-inf")
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self, seconds: float) -> Slot | None:
        """A slot as soon as there is one, those who came first before; None when there is none within `seconds`."""
        until = clock.monotonic() + seconds
        while not self._free():
            pause = self.paused_until - clock.monotonic()
            left = until - clock.monotonic()
            if left <= 0 or pause > left:
                return None
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await asyncio.wait([turn], timeout=min(left, pause) if pause > 0 else left)
            except BaseException:
                if turn.done():
                    self._wake()  # the turn was ours, and somebody else's now
                raise
            finally:
                if not turn.done():
                    turn.cancel()
        self.running += 1
        return Slot(clock.monotonic())

    def leave(self, slot: Slot) -> None:
        """The call has ended, however."""
        self.running -= 1
        self._wake()

    def answered(self) -> None:
        """The provider took the call."""
        self.limit = min(self._most, self.limit + 1 / self.limit)

    def refused(self, slot: Slot, retry_after: float | None) -> None:
        """The provider said that there were too many."""
        now = clock.monotonic()
        self.paused_until = max(self.paused_until, now + (retry_after or _PAUSE_SECONDS))
        if slot.entered > self._shrunk_at:
            self.limit = max(_LEAST, self.limit / 2)
            self._shrunk_at = now

    def _free(self) -> bool:
        return self.running < int(self.limit) and clock.monotonic() >= self.paused_until

    def _wake(self) -> None:
        room = int(self.limit) - self.running
        while self._waiting and room > 0:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                room -= 1
