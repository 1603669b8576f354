"""Who may insert now: a few inserts at once, whatever the signal, and room among them that spans alone may use.

Most of an insert runs on one thread; two at once keep a second core busy.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

INSERTS_AT_ONCE = 2
_OF_OTHERS = 1


class Turns:
    """The turns of all loaders of a process, first come, first served.

    A flood of logs or metrics leaves every second insert to spans.
    """

    def __init__(self) -> None:
        self._all = asyncio.Semaphore(INSERTS_AT_ONCE)
        self._others = asyncio.Semaphore(_OF_OTHERS)

    def of_spans(self) -> AbstractAsyncContextManager[None]:
        """A turn among all; a context that lasts as long as the insert."""
        return _held(self._all)

    def of_others(self) -> AbstractAsyncContextManager[None]:
        """A turn among all but one."""
        return _held(self._others, self._all)


@asynccontextmanager
async def _held(*bounds: asyncio.Semaphore) -> AsyncIterator[None]:
    async with AsyncExitStack() as taken:
        for bound in bounds:
            await taken.enter_async_context(bound)
        yield
