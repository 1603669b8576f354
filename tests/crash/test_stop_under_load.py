"""SIGTERM under load: ended within 10 s with exit code 0, nothing acknowledged lost, nothing counted twice."""

import asyncio

import pytest

from support.load import Senders, check_exact
from support.program import Program

ROUNDS = 4


@pytest.mark.timeout(300)
async def test_a_stop_under_load_loses_nothing(program: Program) -> None:
    senders = Senders(program)
    await program.start()
    await senders.start()
    for number in range(ROUNDS):
        await asyncio.sleep(0.2 + 0.4 * number)
        assert await program.terminate(within=10) == 0, program.tail()
        assert program.postmaster() is None
        senders.check()
        await program.start()
    account = await senders.stop()
    await check_exact(program, account)
    assert account.spans > 100 * ROUNDS
    assert "Traceback" not in program.tail()


@pytest.mark.timeout(120)
async def test_a_stop_while_it_starts_is_a_clean_one(program: Program) -> None:
    await program.start()
    assert await program.terminate() == 0
    for delay in (0.8, 1.2, 1.6):
        await program.launch()
        await asyncio.sleep(delay)
        assert await program.terminate(within=10) in (0, -15), program.tail()  # -15: before Python was there
    await program.start()
    assert await program.terminate() == 0
