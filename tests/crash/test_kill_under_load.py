"""kill -9 of the whole program under load: nothing acknowledged is lost, nothing is counted twice (C1, C2).

Senders keep the requests coming over gRPC and HTTP and repeat each until it is acknowledged, so after a kill many
requests come a second time that the log holds already.
"""

import asyncio
import os
import random
import signal

import pytest

from support.load import Senders, check_exact
from support.program import Program

KILLS = 20


@pytest.mark.timeout(400)
async def test_nothing_acknowledged_is_lost_or_doubled_by_kills(program: Program) -> None:
    await _kill_under_load(program, Senders(program), random.Random(11), KILLS)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(3))
async def test_nothing_acknowledged_is_lost_or_doubled_by_many_kills(program: Program, seed: int) -> None:
    senders = Senders(program, count=8, seed=seed, traces=20, text_bytes=1000)
    await _kill_under_load(program, senders, random.Random(seed), 5 * KILLS)


async def _kill_under_load(program: Program, senders: Senders, dice: random.Random, kills: int) -> None:
    await program.start()
    await senders.start()
    starting = set(dice.sample(range(kills), kills // 3))
    for kill in range(kills):
        if kill in starting:
            await asyncio.sleep(dice.uniform(0.0, 3.0))  # while it starts, or recovers its log
        else:
            if kill:
                await program.ready()
            await asyncio.sleep(dice.uniform(0.0, 1.0))
        await program.kill()
        senders.check()
        await program.launch()
    await program.ready()
    account = await senders.stop()
    await check_exact(program, account)
    assert account.failures > kills
    assert account.spans > 100 * kills
    assert await program.terminate() == 0
    assert program.postmaster() is None


@pytest.mark.timeout(200)
async def test_a_killed_postgres_comes_back_and_costs_no_span(program: Program) -> None:
    senders = Senders(program, count=2, pause=0.01)
    await program.start()
    await senders.start()
    await asyncio.sleep(0.5)
    postmaster = program.postmaster()
    assert postmaster is not None
    os.kill(postmaster, signal.SIGKILL)
    await _healthy(program)
    assert program.postmaster() not in (None, postmaster)
    account = await senders.stop()
    await check_exact(program, account)
    assert await program.terminate() == 0


@pytest.mark.timeout(200)
async def test_a_kill_during_the_first_start_leaves_nothing_half_made(program: Program) -> None:
    for delay in (1.0, 1.4, 1.8, 2.2):
        await program.launch()
        await asyncio.sleep(delay)
        await program.kill()
    senders = Senders(program, count=2)
    await program.start()
    await senders.start()
    await asyncio.sleep(0.5)
    await check_exact(program, await senders.stop())
    assert await program.terminate() == 0


async def _healthy(program: Program) -> None:
    async with asyncio.timeout(60):
        await asyncio.sleep(1)
        while (await program.health())[0] != 200:
            await asyncio.sleep(0.2)
