"""Pauses between tries."""

import asyncio
import random

_FIRST_SECONDS = 0.2
_LAST_SECONDS = 15.0


class Backoff:
    """Growing pauses between tries."""

    def __init__(self) -> None:
        self._delay = _FIRST_SECONDS

    async def wait(self) -> None:
        """Sleeps, longer each time, up to a quarter of a minute."""
        await asyncio.sleep(self._delay * random.uniform(0.8, 1.2))
        self._delay = min(self._delay * 2, _LAST_SECONDS)
