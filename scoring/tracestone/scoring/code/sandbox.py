"""Runs uploaded functions in processes that can do nothing but compute (child.py, lockdown.py).

A process belongs to one version of a scorer and serves it as long as it behaves; one that overran its time or memory,
died, or said something that was not asked for is killed, and the next call gets a fresh one.
"""

import asyncio
import json
import os
import secrets
import sys
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracestone.scoring.scorers.protocol import AttemptFailed

MAX_REQUEST_BYTES = 64 * 1024 * 1024
# More than an answer that is accepted, written as JSON with every character escaped, may have.
MAX_REPLY_BYTES = 2 * 1024 * 1024
_START_SECONDS = 20.0
_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Program:
    """What a process runs, for one version of a scorer; `timeout` in seconds is that of its start and of each call."""

    scorer: str
    source: str
    function: str
    timeout: float
    memory_bytes: int


class Sandbox:
    """At most `most` processes, idle ones included."""

    def __init__(self, most: int = 8) -> None:
        self._most = most
        self._room = asyncio.Semaphore(most)
        self._idle: OrderedDict[Program, list[_Process]] = OrderedDict()
        self._alive = 0

    async def call(self, program: Program, given: Callable[[list[str]], dict[str, Any]]) -> dict[str, Any]:
        """The function's answer, `{value, rationale, metadata}`.

        `given` makes the arguments of the names the function takes, on a thread. Raises AttemptFailed.
        """
        async with self._room:
            process = self._taken(program) or await self._started(program)
            kept = False
            try:
                request = await asyncio.to_thread(_encoded, process.identity, process.arguments, given)
                reply = await process.ask(request, program.timeout)
                kept = reply.get("code") != "OUT_OF_MEMORY"
            finally:
                if kept:
                    self._idle.setdefault(program, []).append(process)
                    self._idle.move_to_end(program)
                else:
                    await self._end(process)
        if "code" in reply:
            raise AttemptFailed(str(reply["code"])[:100], _line(reply.get("message")), retryable=False)
        return reply

    async def close(self) -> None:
        """Ends every idle process. Safe to call twice."""
        while (process := self._oldest()) is not None:
            await self._end(process)

    @property
    def alive(self) -> int:
        """Processes that are there now."""
        return self._alive

    def _taken(self, program: Program) -> "_Process | None":
        processes = self._idle.get(program)
        if not processes:
            return None
        process = processes.pop()
        if not processes:
            del self._idle[program]
        return process

    def _oldest(self) -> "_Process | None":
        return self._taken(next(iter(self._idle))) if self._idle else None

    async def _started(self, program: Program) -> "_Process":
        if self._alive >= self._most and (oldest := self._oldest()) is not None:
            await self._end(oldest)
        self._alive += 1
        process: _Process | None = None
        try:
            process = await _Process.spawned(program)
            await process.begin(program)
        except BaseException:
            if process is None:
                self._alive -= 1
            else:
                await self._end(process)
            raise
        return process

    async def _end(self, process: "_Process") -> None:
        self._alive -= 1
        await process.end()


class _Process:
    """One child, for one request at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None and process.stdout is not None
        self._process = process
        self._to = process.stdin
        self._from = process.stdout
        self.arguments: list[str] = []
        self.identity = ""

    @classmethod
    async def spawned(cls, program: Program) -> "_Process":
        """A started interpreter. Raises AttemptFailed."""
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-I", "-S", str(_FOLDER / "child.py")),
                *(str(os.getpid()), str(program.memory_bytes), str(_FOLDER)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env={},
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            reason = f"no process can be started: {error.strerror}"
            raise AttemptFailed("SANDBOX_UNAVAILABLE", reason, retryable=True) from error
        return cls(process)

    async def begin(self, program: Program) -> None:
        """Sends the source; after it the function can be called. Raises AttemptFailed."""
        try:
            async with asyncio.timeout(_START_SECONDS):
                await self._send({"source": program.source, "function": program.function})
                locked = await self._receive()
        except TimeoutError as error:
            raise AttemptFailed("SANDBOX_UNAVAILABLE", "the process did not start in time", retryable=True) from error
        except _Broken as error:
            raise AttemptFailed("SANDBOX_UNAVAILABLE", "the process ended as it started", retryable=True) from error
        if locked.get("locked") is not True:
            reason = f"the process cannot be locked down: {_line(locked.get('unable'))}"
            raise AttemptFailed("SANDBOX_UNAVAILABLE", reason, retryable=False)
        ready = await self._answer(program.timeout)
        if "ready" not in ready:
            raise AttemptFailed("SCORER_FAILED", _line(ready.get("refused")), retryable=False)
        self.arguments = [str(name) for name in ready["ready"]]
        self._next()

    async def ask(self, request: bytes, timeout: float) -> dict[str, Any]:  # noqa: ASYNC109 - a call's own bound
        """The answer to a request. Raises AttemptFailed when there is none that can be used."""
        asked, reply = self.identity, await self._answer(timeout, request)
        self._next()
        if reply.get("id") != asked or not ("code" in reply or _is_verdict(reply)):
            raise AttemptFailed("SCORER_DIED", "the process said what it was not asked for", retryable=False)
        return reply

    async def end(self) -> None:
        """Kills it and waits until it is gone."""
        with suppress(ProcessLookupError):
            self._process.kill()
        self._to.close()
        # What is left in the pipe would keep it open.
        with suppress(OSError):
            while await self._from.read(1 << 16):
                pass
        await self._process.wait()

    def _next(self) -> None:
        # Not to be guessed, so that a function cannot answer for a later call.
        self.identity = secrets.token_hex(8)

    async def _answer(self, seconds: float, request: bytes | None = None) -> dict[str, Any]:
        try:
            async with asyncio.timeout(seconds):
                if request is not None:
                    self._to.write(request)
                    await self._to.drain()
                return await self._receive()
        except TimeoutError as error:
            reason = f"the function took more than {seconds:g} seconds"
            raise AttemptFailed("TIMEOUT", reason, retryable=False) from error
        except (_Broken, OSError) as error:
            reason = str(error) if isinstance(error, _Broken) else "the process ended in the middle of the call"
            raise AttemptFailed("SCORER_DIED", reason, retryable=False) from error

    async def _send(self, document: dict[str, Any]) -> None:
        self._to.write(_framed(document))
        try:
            await self._to.drain()
        except OSError as error:
            raise _Broken("the process ended in the middle of the call") from error

    async def _receive(self) -> dict[str, Any]:
        try:
            size = int.from_bytes(await self._from.readexactly(4), "big")
            if size > MAX_REPLY_BYTES:
                raise _Broken(f"the process answered with more than {MAX_REPLY_BYTES} bytes")
            document = json.loads(await self._from.readexactly(size), parse_constant=_refuse)
        except asyncio.IncompleteReadError as error:
            raise _Broken("the process ended in the middle of the call") from error
        except (ValueError, RecursionError) as error:
            raise _Broken("the process said what cannot be read") from error
        if not isinstance(document, dict):
            raise _Broken("the process said what cannot be read")
        return document


class _Broken(Exception):
    """Nothing that can be used comes from the process."""


def _encoded(identity: str, names: list[str], given: Callable[[list[str]], dict[str, Any]]) -> bytes:
    request = _framed({"id": identity, "given": given(names)})
    if len(request) > MAX_REQUEST_BYTES:
        reason = f"the arguments have {len(request)} bytes; {MAX_REQUEST_BYTES} are the most"
        raise AttemptFailed("TEXT_TOO_LONG", reason, retryable=False)
    return request


def _framed(document: dict[str, Any]) -> bytes:
    data = json.dumps(document).encode()
    return len(data).to_bytes(4, "big") + data


def _is_verdict(reply: dict[str, Any]) -> bool:
    metadata = reply.get("metadata")
    return (
        reply.get("value") is not None
        and isinstance(reply.get("rationale"), str)
        and isinstance(metadata, dict)
        and all(isinstance(value, str) for value in metadata.values())
    )


def _line(message: object) -> str:
    return " ".join(str(message).split())[:500]


def _refuse(constant: str) -> Any:
    raise ValueError(constant)
