"""Postgres does not answer: telemetry is taken and stored, what needs Postgres waits, and nothing is lost (C4).

It is gone, or it hangs: a stopped process still accepts connections, and answers none.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil
import pytest
import pytest_asyncio
import yaml

from support.api_keys import bearer, new_key
from support.load import EXPORT, Account, Senders, check_exact, request, requests
from support.program import Program
from support.signals import START, log, logs_request
from tracestone.schema import clock, keys
from tracestone.schema.engines.embedded_postgres import EmbeddedPostgres
from tracestone.schema.engines.postgres import open_pool

PROTOBUF = {"content-type": "application/x-protobuf"}
SCORERS = {
    "scorers": [{"name": "failed", "kind": "error", "online": {"sample_rate": 1.0}}],
    "settle_ms": 0,
    "watch_interval_ms": 100,
}


@dataclass
class Outside:
    """A Postgres that the test holds, beside the program."""

    server: EmbeddedPostgres
    folder: Path
    url: str

    async def leave(self, how: str) -> None:
        """It is away from now on."""
        if how == "gone":
            await self.server.stop()
        else:
            self._signal(signal.SIGSTOP)

    async def come_back(self, how: str) -> None:
        """It answers again, under the same address."""
        if how == "gone":
            assert await self.server.start() == self.url
        else:
            self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        postmaster = int((self.folder / "postmaster.pid").read_text().split()[0])
        for child in psutil.Process(postmaster).children():
            os.kill(child.pid, number)
        os.kill(postmaster, number)


@pytest_asyncio.fixture
async def outside(data_folder: Path) -> AsyncIterator[Outside]:
    folder = data_folder.with_name("postgres")
    server = EmbeddedPostgres(folder)
    outside = Outside(server, folder, await server.start())
    yield outside
    if outside.server.running_url() is not None:
        outside._signal(signal.SIGCONT)
    await server.stop()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", ["gone", "hangs"])
async def test_ingest_goes_on_without_postgres(
    outside: Outside, make_program: Callable[..., Program], data_folder: Path, how: str
) -> None:
    await _away(outside, make_program, data_folder.parent, how, seconds=5)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("how", ["gone", "hangs"])
async def test_ingest_goes_on_without_postgres_for_minutes(
    outside: Outside, make_program: Callable[..., Program], data_folder: Path, how: str
) -> None:
    # Longer than anything that is remembered of Postgres is taken for fresh.
    await _away(outside, make_program, data_folder.parent, how, seconds=200)


async def _away(outside: Outside, make_program: Callable[..., Program], around: Path, how: str, seconds: float) -> None:
    config = around / "tracestone.yaml"
    config.write_text(yaml.safe_dump(SCORERS))
    program = make_program(postgres_url=outside.url, config=config, auth="on")
    await program.start()
    pool = await open_pool(outside.url, max_size=1)
    program.key = await new_key(pool, "ingest", "read")
    await pool.close()
    senders = Senders(program, count=2, pause=0.4)  # each trace is judged, so few will do
    await senders.start()
    first = await _evaluate(program, 0)
    await _until(lambda: _count(program, "assessments", "source_type = 'CODE' AND scorer_name = ''"), first)

    await outside.leave(how)
    began = clock.monotonic()
    evaluated = await _evaluate(program, first)
    await _until(lambda: _broken(program), {"postgres", "mirror"})
    await _known_and_unknown_keys(program)
    await _new_service_must_wait(program)
    while clock.monotonic() < began + seconds:
        await _taken_and_stored(program, senders)
        await asyncio.sleep(1)
    assert senders.account.failures == 0
    assert await _count(program, "assessments", "source_type = 'CODE' AND scorer_name = ''") == first
    status, health = await program.health()
    assert status == 503
    assert health["backlog"]["traces"]["state"] in ("idle", "loading")
    assert health["backlog"]["logs"]["waiting_bytes"] > 0

    await outside.come_back(how)
    both = requests(77)
    late = request([*next(both).spans, *next(both).spans], service="new")
    await _until(lambda: _send(program, late.data), 200)
    account = await senders.stop()
    account.acknowledge(late)
    await check_exact(program, account)
    await _until(lambda: _count(program, "assessments", "scorer_name = ''"), first + evaluated)
    await _one_verdict_each(program, account)
    await _until(lambda: _broken(program), set())
    assert await program.terminate() == 0


async def _taken_and_stored(program: Program, senders: Senders) -> None:
    """Returns once more was acknowledged, and more can be queried, than was at first."""
    taken, stored = senders.account.requests, await _count(program, "spans")

    async def more() -> bool:
        senders.check()
        return senders.account.requests > taken and await _count(program, "spans") > stored

    await _until(more, True)


async def _evaluate(program: Program, known: int) -> int:
    """Sends evaluations, other ones than the `known` of the calls before; how many."""
    named = {"gen_ai.evaluation.name": "score", "gen_ai.evaluation.score.value": 1}
    events = [
        log(None, 1, 1, at=START + known + number, event_name="gen_ai.evaluation.result", attributes=named)
        for number in range(20)
    ]
    body = logs_request(*events, service="crash").SerializeToString()
    async with httpx.AsyncClient(timeout=20, headers={**PROTOBUF, **program.headers}) as http:
        answer = await http.post(f"{program.http_root}/v1/logs", content=body)
    assert (answer.status_code, answer.content) == (200, b""), answer.content + program.tail().encode()
    return len(events)


async def _known_and_unknown_keys(program: Program) -> None:
    """Known keys are good, and what is none is refused; about others nothing can be said."""
    data = next(requests(55)).data
    unknown = keys.new_token()[1]
    assert await _send(program, data, {}) == 401
    assert await _send(program, data, bearer("ts_nonsense")) == 401
    assert await _send(program, data, bearer(unknown)) == 503
    async with grpc.aio.insecure_channel(program.grpc) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_unary(EXPORT)(data, metadata=[("x-api-key", unknown)], timeout=20)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


async def _new_service_must_wait(program: Program) -> None:
    """A name that nobody can tell the experiment of is to be sent again, soon."""
    data = request(list(next(requests(66)).spans), service="new").data
    assert await _send(program, data) == 503


async def _send(program: Program, data: bytes, headers: dict[str, str] | None = None) -> int:
    given = program.headers if headers is None else headers
    async with httpx.AsyncClient(timeout=20, headers={**PROTOBUF, **given}) as http:
        return (await http.post(program.http, content=data)).status_code


async def _count(program: Program, table: str, condition: str = "1") -> int:
    return int((await program.sql(f"SELECT count() FROM {table} WHERE {condition}"))[0][0])


async def _broken(program: Program) -> set[str]:
    return set((await program.health())[1]["broken"]) - {"loader", "scoring"}


async def _one_verdict_each(program: Program, account: Account) -> None:
    """Every trace is judged, once; the watcher may be some way behind."""
    question = "SELECT count(), uniqExact(trace_id) FROM assessments WHERE scorer_name = 'failed'"
    wanted = [len(account.traces)] * 2

    async def judged() -> list[int]:
        return [int(value) for value in (await program.sql(question))[0]]

    await _until(judged, wanted, within=300)


async def _until(ask: Callable[[], Any], wanted: Any, within: float = 30) -> None:
    end = clock.monotonic() + within
    while (found := await ask()) != wanted:
        assert clock.monotonic() < end, f"{found} is not {wanted}"
        await asyncio.sleep(0.2)
