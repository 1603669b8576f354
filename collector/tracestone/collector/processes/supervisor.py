"""A receiver process as the main process sees it: started, followed, started again when it ends, stopped.

It may end at any moment and in any way. What it acknowledged is in its logs; the loader reads on, and a new process
goes on where it ended. The clients' connections break, and they send again what was not acknowledged.
"""

import asyncio
import logging
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from contextlib import AsyncExitStack, suppress
from typing import Any

from tracestone.collector.processes.channel import Channel
from tracestone.collector.processes.logs import ReceiverLogs
from tracestone.collector.processes.order import Order
from tracestone.collector.wal.remote import Report, SharedPage
from tracestone.schema import clock
from tracestone.schema.errors import StartRefused, Unavailable
from tracestone.schema.settings import Settings

logger = logging.getLogger(__name__)

_START_SECONDS = 60.0
# It says something every second.
_SILENCE_SECONDS = 30.0
# What it has for a stop; then it is killed.
_STOP_SECONDS = 5.0
_END_SECONDS = 1.0
_LONG_LIFE_SECONDS = 10.0
_FIRST_PAUSE_SECONDS = 0.1
_LAST_PAUSE_SECONDS = 5.0


class ReceiverProcess:
    """One receiver process, between `start` and `stop`."""

    def __init__(self, settings: Settings, logs: ReceiverLogs, times: SharedPage) -> None:
        self.number = logs.number
        self._settings = settings
        self._logs = logs
        self._times = times
        self._signals = list(logs.halves)
        self._stopping = False
        self._keeping: asyncio.Task[None] | None = None
        self._process: Process | None = None
        self._channel: Channel | None = None
        self._ended = ""
        self._trouble = ""
        self._counters: dict[str, float] = {}
        self._counted: dict[str, float] = {}  # by the processes before this one

    @property
    def problem(self) -> str:
        """What is wrong with it, "" when it serves."""
        if self._keeping is not None and self._keeping.done():
            return f"Receiver process {self.number} is not started again."
        return self._ended or self._trouble

    @property
    def counters(self) -> dict[str, float]:
        """What it has counted, and the processes before it."""
        names = self._counters.keys() | self._counted.keys()
        return {name: self._counters.get(name, 0) + self._counted.get(name, 0) for name in names}

    @property
    def pid(self) -> int | None:
        """The id of the process that runs now."""
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Starts it and returns when it serves. Raises StartRefused; then it does not run."""
        serving: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._keeping = asyncio.create_task(self._keep(serving), name=f"receiver {self.number}")
        try:
            async with asyncio.timeout(_START_SECONDS):
                await serving
        except TimeoutError as error:
            raise StartRefused(f"Receiver process {self.number} does not start.") from error
        finally:
            if not serving.done() or serving.cancelled() or serving.exception() is not None:
                await self._cut_off()

    def end_soon(self) -> None:
        """Tells it to take no more requests and to finish those in work."""
        self._stopping = True
        if self._channel is not None:
            self._channel.say("stop")

    async def stop(self) -> None:
        """Stops it, within some seconds. Safe to call twice."""
        self.end_soon()
        if self._keeping is not None:
            await asyncio.wait([self._keeping], timeout=_STOP_SECONDS)
        await self._cut_off()

    async def _cut_off(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait([self._keeping])

    async def _keep(self, serving: asyncio.Future[None]) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while True:
            began = clock.monotonic()
            reason = await self._live(serving)
            if not serving.done():
                serving.set_exception(StartRefused(reason))
                return
            if self._stopping:
                return
            self._ended = reason
            logger.error("a receiver process has ended and is started again", extra=self._extra(reason))
            if clock.monotonic() - began > _LONG_LIFE_SECONDS:
                pause = _FIRST_PAUSE_SECONDS
            await self._take_over(pause)
            pause = min(pause * 2, _LAST_PAUSE_SECONDS)

    async def _take_over(self, pause: float) -> None:
        """What it left in its logs, which a disk that fails can delay."""
        for half in self._logs.halves.values():
            while True:
                await asyncio.sleep(pause)
                try:
                    await half.writer_ended()
                    break
                except Unavailable as error:
                    self._ended = str(error)
                    logger.warning("the log of a receiver process is not readable", extra=self._extra(str(error)))
                    pause = _LAST_PAUSE_SECONDS
            pause = 0.0
        for name, count in self._counters.items():
            if not name.startswith("now "):
                self._counted[name] = self._counted.get(name, 0) + count
        self._counters = {}

    async def _live(self, serving: asyncio.Future[None]) -> str:
        """Runs one process to its end; why it ended, in a sentence."""
        reason = ""
        async with AsyncExitStack() as stack:
            try:
                channel, process = await self._spawn(stack)
            except OSError as error:
                return f"Receiver process {self.number} cannot be started: {error.strerror}."
            try:
                async with asyncio.timeout(_START_SECONDS) as patience:
                    async for key, content in channel.messages():
                        patience.reschedule(asyncio.get_running_loop().time() + _SILENCE_SECONDS)
                        if key == "refused":
                            reason = content
                        elif key == "serving":
                            self._ended = ""
                            if not serving.done():
                                serving.set_result(None)
                        else:
                            self._hear(key, content)
            except TimeoutError:
                reason = f"Receiver process {self.number} gave no sign of life."
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_END_SECONDS):
                        await process.wait()
        return reason or f"Receiver process {self.number} ended with {process.returncode}."

    async def _spawn(self, stack: AsyncExitStack) -> tuple[Channel, Process]:
        """A process and the channel to it; both are gone when the stack is left."""
        ours, theirs = socket.socketpair()
        with theirs:
            channel = await Channel.over(ours)
            stack.push_async_callback(channel.close, 0.0)
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "tracestone.collector.processes.receiver", str(theirs.fileno())),
                stdin=DEVNULL,
                stdout=DEVNULL,
                pass_fds=(theirs.fileno(), self._times.descriptor, *self._logs.inherited),
            )
        stack.push_async_callback(_bury, process)
        pages = self._logs.page.descriptor, self._times.descriptor
        order = Order(self.number, self._settings, *pages, self._logs.begin())
        channel.say("start", order.content())
        if self._stopping:
            channel.say("stop")
        self._channel, self._process = channel, process
        return channel, process

    def _hear(self, key: str, content: Any) -> None:
        if key == "state":
            self._trouble = content["problem"]
            self._counters = content["counters"]
        else:
            place, *report = content
            self._logs.halves[self._signals[place]].ledger.hear(Report(*report))

    def _extra(self, reason: str) -> dict[str, Any]:
        return {"action": "receiver", "receiver": self.number, "reason": reason}


async def _bury(process: Process) -> None:
    """Waits for its end, which may have to be brought about: nobody may write when it is taken over."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
