"""The clock jumps, by hours and mostly back: while Tracestone runs, across a stop, across a kill.

A version of a span that is sent after another was acknowledged replaces it, whatever the clock says then and whichever
process takes it. Python's clock is shifted (tests/support/shifted); that of ClickHouse and Postgres goes on.
"""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from support.load import grpc_sender, http_sender, request
from support.program import Program
from tracestone.schema import clock

SHIFTED = Path(__file__).parents[1] / "support" / "shifted"
START = clock.now_ns()


class Versions:
    """One span, sent again and again, each time with another name and over a new connection."""

    def __init__(self, program: Program, offset: Path) -> None:
        self._program = program
        self._offset = offset
        self._dice = random.Random(1)
        self._hours = 0
        self.sent = 0

    def jump(self) -> None:
        """Sets the clock: mostly back."""
        self._hours += self._dice.choice([-7, -3, -1, 1])
        # One write: a process may read it at any moment.
        new = self._offset.with_suffix(".new")
        new.write_text(str(self._hours * 3600 * 10**9))
        new.rename(self._offset)

    async def send(self) -> None:
        """The next version, after the clock has jumped."""
        self.jump()
        self.sent += 1
        span = Span(trace_id=bytes(range(16)), span_id=bytes(range(8)), name=f"version {self.sent}")
        span.start_time_unix_nano, span.end_time_unix_nano = START, START + self.sent
        send, close = (grpc_sender, http_sender)[self.sent % 2](self._program)
        await send(request([span]).data)
        await close()

    async def check(self) -> None:
        """The last one counts, in `spans` and in `traces`."""
        end = clock.monotonic() + 30
        wanted = [[f"version {self.sent}", str(self.sent), f"version {self.sent}", "1"]]
        query = """SELECT s.name, toString(s.duration_ns), t.root_name, toString(t.span_count)
            FROM spans AS s JOIN traces AS t ON s.trace_id = t.trace_id"""
        while (found := await self._program.sql(query)) != wanted and clock.monotonic() < end:
            await asyncio.sleep(0.1)
        assert found == wanted


@pytest.mark.timeout(200)
@pytest.mark.parametrize("receivers", [1, 3])
async def test_the_version_sent_last_counts_whatever_the_clock_says(
    make_program: Callable[..., Program], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, receivers: int
) -> None:
    tmp_path.chmod(0o755)
    offset = tmp_path / "offset"
    offset.write_text("0")
    monkeypatch.setenv("PYTHONPATH", str(SHIFTED))
    monkeypatch.setenv("SHIFTED_BY", str(offset))
    program = make_program(receivers=receivers)
    versions = Versions(program, offset)
    await program.start()
    for _ in range(12):
        await versions.send()
    await versions.check()
    await program.kill()
    versions.jump()
    await program.start()
    await versions.send()
    await versions.check()
    assert await program.terminate() == 0
    versions.jump()
    await program.start()
    for _ in range(4):
        await versions.send()
    await versions.check()
    status, health = await program.health()
    assert status == 200, health
    assert await program.terminate() == 0
