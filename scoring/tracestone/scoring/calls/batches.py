"""Statements for many requests at once: those that come while one runs, and for a while after, make up the next."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

Asked = TypeVar("Asked")
Answered = TypeVar("Answered")


class Batches(Generic[Asked, Answered]):
    """Sends what is asked in batches, one at a time, from a task of its own that ends when nobody asks any more.

    `send` answers a batch in its order, or raises what everybody in the batch is told. What came back for a request
    that was cancelled meanwhile is given to `unclaimed`. A batch waits `seconds` for more, unless it is full.
    """

    def __init__(
        self,
        name: str,
        send: Callable[[Sequence[Asked]], Awaitable[Sequence[Answered]]],
        unclaimed: Callable[[Asked, Answered], None] = lambda asked, answered: None,
        *,
        most: int = 500,
        seconds: float = 0.0,
    ) -> None:
        self._name = name
        self._send = send
        self._unclaimed = unclaimed
        self._most = most
        self._seconds = seconds
        self._full = asyncio.Event()
        self._waiting: list[tuple[Asked, asyncio.Future[Answered]]] = []
        self._sending: asyncio.Task[None] | None = None

    async def ask(self, asked: Asked) -> Answered:
        """The answer to one request."""
        return await self.put(asked)

    def put(self, asked: Asked) -> "asyncio.Future[Answered]":
        """Asks without waiting; an error that nobody waits for is dropped."""
        answer: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._waiting.append((asked, answer))
        if len(self._waiting) >= self._most:
            self._full.set()
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._run(), name=self._name)
        return answer

    async def drained(self) -> None:
        """Returns when everything asked so far is answered, which is sent at once."""
        self._full.set()
        while self._sending is not None and not self._sending.done():
            await asyncio.wait([self._sending])

    async def _run(self) -> None:
        # Let those that were started together ask as well.
        await asyncio.sleep(0)
        while self._waiting:
            if self._seconds:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._seconds):
                        await self._full.wait()
            batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
            if len(self._waiting) < self._most:
                self._full.clear()
            try:
                answers = await self._send([asked for asked, _ in batch])
            except Exception as error:  # noqa: BLE001 - whoever asked is told
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (asked, future), answer in zip(batch, answers, strict=True):
                if future.done():
                    self._unclaimed(asked, answer)
                else:
                    future.set_result(answer)
