"""How many calls are made at once, and when none is: lanes, breakers, and what becomes of the jobs."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from support.judged import Judged, good, judge
from support.openai_server import Answer, Behaviour, Failure, Held, OpenAIServer, Slow
from tracestone.collector.open_files import raise_limit
from tracestone.schema.call_limits import CallLimit
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.errors import NotFound
from tracestone.scoring.calls.account import Deferred
from tracestone.scoring.calls.breaker import Breaker
from tracestone.scoring.calls.lane import Lane, Slot
from tracestone.scoring.calls.limited import Limited
from tracestone.scoring.llm import Call, CallFailed, LiteLLM


@pytest.fixture
def judged(pool: Pool, columnar: Columnar, litellm_provider: LiteLLM, tmp_path: Path) -> Judged:
    return Judged(pool, columnar, litellm_provider, tmp_path)


async def entered(lane: Lane, seconds: float = 5.0) -> Slot:
    slot = await lane.enter(seconds)
    assert slot is not None
    return slot


async def test_a_lane_holds_so_many_and_serves_who_waits() -> None:
    lane = Lane(2)
    first, _ = await entered(lane), await entered(lane)
    waiting = [asyncio.create_task(lane.enter(5)) for _ in range(3)]
    await asyncio.sleep(0.01)
    assert lane.running == 2
    waiting[0].cancel()  # its turn goes to the next
    lane.leave(first)
    slot = await waiting[1]
    assert slot is not None
    assert (lane.running, waiting[2].done()) == (2, False)
    lane.leave(slot)
    assert await waiting[2] is not None
    assert await lane.enter(0.01) is None
    assert lane.running == 2


async def test_a_lane_halves_once_for_calls_that_ran_together_and_grows_by_one_a_round() -> None:
    lane = Lane(16)
    slots = [await entered(lane) for _ in range(16)]
    for slot in slots:
        lane.refused(slot, 0.001)
        lane.leave(slot)
    assert lane.limit == 8

    async def refuse() -> None:
        await asyncio.sleep(0.005)
        slot = await entered(lane)
        lane.refused(slot, 0.001)
        lane.leave(slot)

    await refuse()
    assert lane.limit == 4
    for _ in range(4):
        lane.answered()
    assert 4.7 < lane.limit <= 5
    for _ in range(1000):
        lane.answered()
    assert lane.limit == 16
    for _ in range(10):
        await refuse()
    assert lane.limit == 1


async def test_a_paused_lane_lets_nobody_in_and_then_everybody() -> None:
    lane = Lane(4)
    slot = await entered(lane)
    lane.refused(slot, 0.2)
    lane.leave(slot)
    assert await lane.enter(0.05) is None  # it is known that waiting does not help
    together = await asyncio.gather(lane.enter(5), lane.enter(5))
    assert None not in together


def test_a_breaker_opens_when_nearly_all_fail_and_closes_after_one_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("tracestone.schema.clock.monotonic", lambda: now)
    breaker = Breaker(open_seconds=10)
    for _ in range(9):
        breaker.failed("down")
    assert breaker.closed
    breaker.failed("down")
    assert not breaker.closed
    assert breaker.refuses_for() == 10
    now = 11
    assert breaker.refuses_for() == 0  # this one may try
    assert breaker.refuses_for() == 1  # and no other meanwhile
    breaker.gave_up()
    assert breaker.refuses_for() == 0
    breaker.failed("still down")
    assert breaker.refuses_for() == 20
    now = 40
    assert breaker.refuses_for() == 0
    breaker.worked()
    assert breaker.closed
    for _ in range(20):
        breaker.worked()
    for _ in range(35):
        breaker.failed("down")
    assert breaker.closed  # 35 of the last 40
    breaker.failed("down")
    assert not breaker.closed


@pytest.mark.parametrize("given", [{"in_flight": 1}, {"in_flight": 1, "model": "a", "provider": "b"}, {"model": "a"}])
def test_a_limit_is_of_a_model_or_of_a_provider(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CallLimit(**given)


async def test_limits_hold_for_models_and_for_providers(
    litellm_provider: LiteLLM, provider_server: OpenAIServer
) -> None:
    provider_server.answer = lambda body: Slow(0.1, good())
    most: dict[str, int] = {}
    limits = [CallLimit(model="openai/a", in_flight=2), CallLimit(provider="openai", in_flight=4)]
    limited = Limited(litellm_provider, limits, 3)

    async def ask(model: str) -> None:
        await limited.complete(Call(model, [{"role": "user", "content": "?"}], {}, {}, 30.0, provider_server.url))

    async def watch() -> None:
        while True:
            for model, (running, _, _) in limited.states().items():
                most[model] = max(most.get(model, 0), running)
            await asyncio.sleep(0.005)

    watching = asyncio.create_task(watch())
    await asyncio.gather(*(ask(f"openai/{name}") for name in "ab" for _ in range(8)))
    watching.cancel()
    assert len(provider_server.received) == 16
    assert (most["openai/a"], most["openai/b"]) == (2, 3)
    assert provider_server.most_at_once <= 4


async def test_a_provider_that_takes_few_calls_gets_few_and_no_job_fails(
    judged: Judged, provider_server: OpenAIServer
) -> None:
    def at_most_three(body: dict[str, Any]) -> Behaviour:
        if provider_server.at_once > 3:
            return Failure(429, "slow down", {"retry-after": "0.1"})
        return Slow(0.05, good())

    provider_server.answer = at_most_three
    numbers = range(1, 41)
    await judged.enqueue(judge(provider_server, retries=0), numbers)
    async with judged.working(concurrency=40):
        await judged.until()
    verdicts = await judged.verdicts(numbers)
    assert {(verdict.value, verdict.error) for verdict in verdicts} == {(True, None)}
    assert {verdict.metadata["calls"] for verdict in verdicts} == {"1"}
    refused = len(provider_server.received) - 40
    assert 0 < refused < 160


async def test_a_provider_that_is_down_is_left_alone_and_its_jobs_wait_without_using_up_tries(
    judged: Judged, provider_server: OpenAIServer, pool: Pool
) -> None:
    provider_server.answer = lambda body: Failure(503, "down for repair, api_key=verysecret1")
    await judged.enqueue(judge(provider_server, retries=10), range(1, 31))
    async with judged.working(concurrency=30):
        await judged.until(waiting_for_provider=30)
        rows = await pool.fetch("SELECT waiting_reason, deliveries - failures AS lost FROM scoring_jobs")
        assert {row["lost"] for row in rows} == {0}
        assert {row["waiting_reason"].split(":")[0] for row in rows} == {"calls of openai are stopped"}
        assert all("verysecret1" not in row["waiting_reason"] for row in rows)
        (waiting,) = await judged.jobs.waits()
        assert (waiting.scorer_name, waiting.waiting_for, waiting.jobs) == ("tone", "provider", 30)
        failures = await pool.fetchval("SELECT max(failures) FROM scoring_jobs")
        await asyncio.sleep(1.5)  # some tries
        assert await pool.fetchval("SELECT max(failures) FROM scoring_jobs") == failures
        assert len(provider_server.received) <= 50
        provider_server.answer = lambda body: good()
        await judged.until()
    assert {verdict.value for verdict in await judged.verdicts(range(1, 31))} == {True}


async def test_a_job_waits_for_a_provider_so_long_and_can_be_replayed(
    judged: Judged, provider_server: OpenAIServer
) -> None:
    provider_server.answer = lambda body: Failure(429, "quota is used up", {"retry-after": "3000"})
    await judged.enqueue(judge(provider_server), [1, 2])
    async with judged.working(provider_wait_seconds=100):
        await judged.until()
        errors = [verdict.error and verdict.error.code for verdict in await judged.verdicts([1, 2])]
        assert errors == ["PROVIDER_UNAVAILABLE"] * 2
        dead = await judged.dead.page()
        assert [(job.scorer_name, job.code, job.experiment_id) for job in dead] == [
            ("tone", "PROVIDER_UNAVAILABLE", 0)
        ] * 2
        assert "quota is used up" in dead[0].message
        assert await judged.dead.get(dead[0].dead_id) == dead[0]
    provider_server.answer = lambda body: good()
    assert await judged.dead.replay([dead[0].dead_id]) == 1
    assert await judged.dead.replay([dead[0].dead_id]) == 0
    async with judged.working():
        await judged.until()
    verdicts = {verdict.trace_id: verdict for verdict in await judged.verdicts([1, 2])}
    assert (verdicts[dead[0].trace_id].value, verdicts[dead[0].trace_id].error) == (True, None)
    assert verdicts[dead[1].trace_id].error is not None
    (count,) = await judged.dead.counts()
    assert (count.scorer_name, count.code, count.jobs) == ("tone", "PROVIDER_UNAVAILABLE", 1)
    assert await judged.dead.drop(None, scorer="other") == 0
    assert await judged.dead.drop(None, scorer="tone", code="PROVIDER_UNAVAILABLE") == 1
    assert await judged.dead.page() == []
    with pytest.raises(NotFound, match="There is no dead job"):
        await judged.dead.get(dead[1].dead_id)
    assert len(await judged.verdicts([1, 2])) == 2


async def test_a_replayed_job_keeps_what_it_has_cost(judged: Judged, provider_server: OpenAIServer, pool: Pool) -> None:
    provider_server.script = [Answer("no verdict", 100, 10)] * 2
    provider_server.answer = lambda body: good()
    await judged.enqueue(judge(provider_server, retries=0), [1])
    async with judged.working():
        await judged.until()
        (verdict,) = await judged.verdicts([1])
        assert verdict.error is not None and verdict.error.code == "INVALID_VERDICT"
        assert await judged.dead.replay(None) == 1
        await judged.until()
    (verdict,) = await judged.verdicts([1])
    assert (verdict.value, verdict.metadata["calls"], verdict.input_tokens) == (True, "3", 300)
    was = await pool.fetchval("SELECT was ->> 'error_code' FROM assessment_history WHERE operation = 'DELETE'")
    assert was == "INVALID_VERDICT"


async def test_a_refusal_of_what_is_asked_opens_no_breaker(
    litellm_provider: LiteLLM, provider_server: OpenAIServer
) -> None:
    provider_server.answer = lambda body: Failure(400, "no")
    limited = Limited(litellm_provider, [], 10)
    for _ in range(12):
        with pytest.raises(CallFailed) as failed:
            await limited.complete(
                Call("openai/a", [{"role": "user", "content": "?"}], {}, {}, 30.0, provider_server.url)
            )
        assert failed.value.code == "REQUEST_REFUSED"
    provider_server.answer = lambda body: Failure(500)
    with pytest.raises(Deferred, match="stopped: PROVIDER_ERROR"):
        for _ in range(200):
            try:
                await limited.complete(
                    Call("openai/a", [{"role": "user", "content": "?"}], {}, {}, 30.0, provider_server.url)
                )
            except CallFailed:
                continue
    assert len(provider_server.received) < 12 + 45


@pytest.mark.timeout(180)
async def test_a_thousand_calls_are_in_flight_in_one_worker(judged: Judged, provider_server: OpenAIServer) -> None:
    raise_limit(1)
    all_in = threading.Event()
    provider_server.answer = lambda body: Held(all_in, good())
    numbers = range(1, 1001)
    await judged.enqueue(judge(provider_server, timeout=600), numbers)
    day = await judged.budget(usd=100)
    async with judged.working(concurrency=1000):
        async with asyncio.timeout(150):
            while provider_server.at_once < 1000:
                await asyncio.sleep(0.1)
        all_in.set()
        await judged.until()
    assert provider_server.most_at_once == len(provider_server.received) == 1000
    verdicts = await judged.verdicts(numbers)
    assert len(verdicts) == 1000
    assert {verdict.value for verdict in verdicts} == {True}
    state = await judged.state(day)
    assert (state.spent, state.reserved) == (pytest.approx(sum(v.cost_usd or 0 for v in verdicts)), 0)
