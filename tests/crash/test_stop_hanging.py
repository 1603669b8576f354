"""SIGTERM while something hangs: ended within 10 s with exit code 0 all the same, Postgres included."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from support.judging import KEY, chosen, judging_half, send_dialogues, verdicts
from support.load import Senders, check_exact
from support.openai_server import Answer, Slow, openai_server
from support.program import Program

# One function over one row: the engine looks for a KILL between blocks only, so this runs to its end.
LONG = """
SELECT arraySum(x -> editDistance(concat(repeat('ab', 32000), toString(x)), repeat('ba', 32000)), range(100))
"""


@pytest.mark.timeout(180)
async def test_a_statement_that_cannot_be_ended_does_not_hold_up_the_stop(program: Program) -> None:
    await program.start()
    senders = Senders(program, pause=0.05)
    await senders.start()
    async with httpx.AsyncClient(timeout=60) as client:
        asking = asyncio.create_task(client.post(f"http://127.0.0.1:{program.sql_port}/", content=LONG))
        await asyncio.sleep(2)
        assert not asking.done(), asking.result().text
        assert await program.terminate(within=10) == 0, program.tail()
        await asyncio.gather(asking, return_exceptions=True)
    assert program.postmaster() is None
    assert "Traceback" not in program.tail()
    await program.start()
    await check_exact(program, await senders.stop())
    assert await program.terminate() == 0


@pytest.mark.timeout(180)
async def test_a_judge_that_does_not_answer_does_not_hold_up_the_stop(
    make_program: Callable[..., Program], data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with openai_server(require_key=KEY) as server:
        server.answer = lambda body: Slow(60, Answer("never read"))
        program = make_program(config=judging_half(server, data_folder.parent))
        await program.start()
        await send_dialogues(program, 6)
        async with asyncio.timeout(60):
            while not server.received:
                await asyncio.sleep(0.05)
        assert await program.terminate(within=10) == 0, program.tail()
        assert program.postmaster() is None
        assert "Traceback" not in program.tail()
        # What was given up is taken up again: every chosen trace is judged once.
        server.answer = lambda body: Answer(json.dumps({"rationale": "It is.", "value": True}), 100, 10)
        await program.start()
        expected = await chosen(program)
        async with asyncio.timeout(60):
            while len(await verdicts(program)) < len(expected):
                await asyncio.sleep(0.1)
        assert [row[0] for row in await verdicts(program)] == expected
        assert await program.terminate() == 0
