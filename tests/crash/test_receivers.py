"""Several receiver processes: kills of any of them, and of the main process, cost nothing that was acknowledged."""

import asyncio
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest

from support.load import Senders, check_exact, grpc_sender, request, requests
from support.program import Program

RECEIVERS = 2


@pytest.fixture
def several(make_program: Callable[..., Program]) -> Program:
    """The program with several receivers."""
    return make_program(receivers=RECEIVERS)


def receivers(program: Program) -> list[psutil.Process]:
    """Its receiver processes."""
    assert program.process is not None
    return [
        child
        for child in psutil.Process(program.process.pid).children()
        if "tracestone.collector.processes.receiver" in child.cmdline()
    ]


@pytest.mark.timeout(200)
async def test_kills_of_receivers_and_of_the_main_process_lose_and_double_nothing(several: Program) -> None:
    dice = random.Random(5)
    senders = Senders(several, count=8)
    await several.start()
    await senders.start()
    for turn in range(7):
        await asyncio.sleep(dice.uniform(0.1, 0.8))
        if turn % 4 == 3:
            orphans = receivers(several)
            await several.kill()
            await several.start()
            assert not any(orphan.is_running() for orphan in orphans), "the next start waits until they have ended"
        else:
            victims = receivers(several)
            dice.choice(victims).kill()
            if turn % 4 == 2:
                victims[0].kill()
        senders.check()
    account = await senders.stop()
    await check_exact(several, account)
    assert account.failures > 8
    assert account.spans > 1000
    await _serving(several)
    assert await several.terminate() == 0, several.tail()


@pytest.mark.timeout(120)
async def test_fewer_receivers_read_what_more_left(make_program: Callable[..., Program]) -> None:
    many = make_program(receivers=3, batch_max_age_ms=60_000)
    senders = Senders(many, count=12)
    await many.start()
    await senders.start()
    await asyncio.sleep(1.0)
    account = await senders.stop()
    await many.kill()
    logs = [many.data / "wal" / str(number) / "traces" for number in (1, 2, 3)]
    held = [log for log in logs if _segment_bytes(log) > 1000]
    assert held, "something waits in the logs"
    one = make_program()
    await one.start()
    await check_exact(one, account)
    async with asyncio.timeout(30):
        while any(_segment_bytes(log) for log in logs):
            await asyncio.sleep(0.1)
    assert await one.terminate() == 0


@pytest.mark.timeout(120)
async def test_a_stop_under_load_loses_nothing_and_what_is_acknowledged_is_found_at_once(several: Program) -> None:
    await several.start()
    senders = Senders(several, count=6)
    await senders.start()
    await asyncio.sleep(0.5)
    assert await several.terminate(within=10) == 0, several.tail()
    await several.start()
    account = await senders.stop()
    await check_exact(several, account)
    assert "Traceback" not in several.tail()
    assert await asyncio.gather(*(_read_own_writes(several, 70 + number) for number in range(4))) == [5] * 4
    command_lines = [" ".join(process.cmdline()) for process in receivers(several)]
    assert len(command_lines) == RECEIVERS
    assert not any("postgres" in line for line in command_lines), "settings hold secrets"


@pytest.mark.timeout(60)
async def test_receivers_end_with_the_main_process(several: Program) -> None:
    await several.start()
    children = receivers(several)
    assert len(children) == RECEIVERS
    children[0].send_signal(signal.SIGSTOP)
    await several.kill()
    async with asyncio.timeout(20):
        while children[1].is_running():
            await asyncio.sleep(0.05)
    children[0].send_signal(signal.SIGCONT)
    async with asyncio.timeout(20):
        while children[0].is_running():
            await asyncio.sleep(0.05)


async def _serving(program: Program) -> None:
    async with asyncio.timeout(30):
        while (answer := await program.health())[0] != 200:
            await asyncio.sleep(0.1)
    parts = answer[1]["parts"]
    assert {f"receiver_{number}" for number in range(1, RECEIVERS + 1)} <= parts.keys()


async def _read_own_writes(program: Program, seed: int) -> int:
    stream = requests(seed, traces=1)
    found = 0
    async with httpx.AsyncClient(base_url=program.main, timeout=60) as http:
        for _ in range(5):
            send, close = grpc_sender(program)  # a connection of its own, so any receiver may take it
            spans = [*next(stream).spans, *next(stream).spans]
            await send(request(spans).data)
            await close()
            answer = await http.get("/api/3.0/mlflow/traces/get", params={"trace_id": f"tr-{spans[0].trace_id.hex()}"})
            found += answer.status_code == 200 and len(answer.json()["trace"]["spans"]) == len(spans)
    return found


def _segment_bytes(log: Path) -> int:
    return sum(os.stat(path).st_size for path in log.glob("*.wal"))
