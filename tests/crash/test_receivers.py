"""Several receiver processes: kills of any of them, and of the main process, cost nothing that was acknowledged."""

import asyncio
import random
from collections.abc import Callable

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
async def test_kills_of_receivers_and_of_the_main_process_lose_and_double_nothing(
    several: Program, make_program: Callable[..., Program]
) -> None:
    dice = random.Random(5)
    senders = Senders(several, count=8)
    await several.start()
    await senders.start()
    for turn in range(6):
        await asyncio.sleep(dice.uniform(0.1, 0.8))
        if turn == 3:
            await _kill_and_start(several, several)
        else:
            victims = receivers(several)
            dice.choice(victims).kill()
            if turn == 2:
                victims[0].kill()
        senders.check()
    await _serving(several)
    account = await senders.stop()
    one = make_program()  # reads what more receivers left
    await _kill_and_start(several, one)
    await check_exact(one, account)
    assert account.failures > 8
    assert account.spans > 1000
    logs = [one.data / "wal" / str(number + 1) / "traces" for number in range(RECEIVERS)]
    assert all((log / "cursor").exists() for log in logs)
    async with asyncio.timeout(30):
        while any(list(log.glob("*.wal")) for log in logs):
            await asyncio.sleep(0.1)
    assert await one.terminate() == 0, one.tail()


async def _kill_and_start(program: Program, other: Program) -> None:
    """Kills the main process and starts another at once, which has to wait until the receivers have ended."""
    orphans = receivers(program)
    assert orphans
    await program.kill()
    await other.start()
    assert not any(map(_lives, orphans))


def _lives(process: psutil.Process) -> bool:
    """False also for one that has ended and that nobody has asked for its exit code yet, as an orphan may be."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


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
