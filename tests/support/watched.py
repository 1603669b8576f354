"""Whether Tracestone stands an attack: its memory, and how long honest senders wait while it goes on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from support.attacks import Attack
from support.load import Senders
from support.program import Program
from tracestone.schema import clock

MIB = 1024 * 1024
_SAMPLE_SECONDS = 0.1


@dataclass(frozen=True)
class Seen:
    """What was seen during an attack. `silence` is the longest time without an acknowledgement, in seconds."""

    seconds: float
    acknowledged: int
    silence: float
    memory_before: int
    memory_most: int
    memory_after: int

    def __str__(self) -> str:
        memory = [f"{size // MIB}" for size in (self.memory_before, self.memory_most, self.memory_after)]
        return (
            f"{self.seconds:.1f} s, {self.acknowledged} requests of others acknowledged, longest wait "
            f"{self.silence:.2f} s, resident {' → '.join(memory)} MiB (before, most, after)"
        )


class Watched:
    """A running Tracestone with honest senders."""

    def __init__(self, program: Program, senders: Senders) -> None:
        self.program = program
        self._senders = senders

    async def during(self, attack: Attack, number: int) -> Seen:
        """Attacks, and tells what was seen. Fails when the process or a sender ends."""
        account, program = self._senders.account, self.program
        begun = last = clock.monotonic()
        before = most = program.resident_bytes()
        first = acknowledged = account.requests
        silence = 0.0
        attacking = asyncio.create_task(attack(program, number))  # type: ignore[arg-type]
        try:
            while not attacking.done() or account.requests == acknowledged:
                await asyncio.wait([attacking], timeout=_SAMPLE_SECONDS)
                self._senders.check()
                assert program.process is not None
                assert program.process.returncode is None, program.tail()
                now = clock.monotonic()
                if account.requests > acknowledged:
                    acknowledged, last = account.requests, now
                silence = max(silence, now - last)
                most = max(most, program.resident_bytes())
                if attacking.done():
                    await asyncio.sleep(_SAMPLE_SECONDS)
            await attacking
        finally:
            attacking.cancel()
        seconds = clock.monotonic() - begun
        return Seen(seconds, acknowledged - first, silence, before, most, program.resident_bytes())


@asynccontextmanager
async def watched(program: Program, pause: float = 0.05) -> AsyncIterator[Watched]:
    """Honest senders over both transports; at the end all that was acknowledged to them must be there, once."""
    senders = Senders(program, count=2, pause=pause)  # type: ignore[arg-type]
    await senders.start()
    try:
        await asyncio.sleep(2)
        yield Watched(program, senders)
    finally:
        account = await senders.stop()
    expected = {trace_id: len(trace.spans) for trace_id, trace in account.traces.items()}
    async with asyncio.timeout(60):
        while await _stored(program, expected) != expected:
            await asyncio.sleep(0.5)


async def _stored(program: Program, expected: dict[str, int]) -> dict[str, int]:
    rows = await program.sql("SELECT trace_id, span_count FROM traces")
    return {trace_id: int(count) for trace_id, count in rows if trace_id in expected}
