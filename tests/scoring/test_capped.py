"""Judges under budgets: nobody spends past a cap, capped work waits and goes on by itself."""

import asyncio
from datetime import UTC, timedelta
from pathlib import Path

import pytest

from support.judged import ONE_CALL, Judged, good, judge
from support.openai_server import Failure, OpenAIServer, Slow
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.prices.price import Price
from tracestone.scoring.llm import LiteLLM


@pytest.fixture
def judged(
    pool: Pool, columnar: Columnar, litellm_provider: LiteLLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Judged:
    monkeypatch.setattr("tracestone.scoring.calls.budgeted._AGAIN_SECONDS", 0.1)
    return Judged(pool, columnar, litellm_provider, tmp_path)


async def until_settled(judged: Judged, number: int) -> float:
    """What a budget has spent once nothing is reserved."""
    async with asyncio.timeout(30):
        while (state := await judged.state(number)).reserved:
            await asyncio.sleep(0.05)
    return state.spent


async def test_fifty_workers_never_pass_a_cap_and_go_on_when_it_is_raised(
    judged: Judged, provider_server: OpenAIServer
) -> None:
    provider_server.answer = lambda body: Slow(0.05, good(input_tokens=1000, output_tokens=100))
    numbers, one = range(1, 81), 10 * ONE_CALL
    await judged.enqueue(judge(provider_server), numbers)
    day = await judged.budget(usd=40 * one)
    async with judged.working(50, concurrency=2):
        # What is left is less than one call may cost, which none in flight can change.
        async with asyncio.timeout(60):
            while set(await judged.states()) != {"waiting_for_budget"} or (await judged.state(day)).reserved:
                await asyncio.sleep(0.1)
        state, calls = await judged.state(day), len(provider_server.received)
        assert state.spent == pytest.approx(calls * one)
        assert 30 <= calls <= 40
        assert state.waiting == 80 - calls
        assert provider_server.most_at_once > 1
        await judged.budget(usd=1)
        await judged.until()
    verdicts = await judged.verdicts(numbers)
    assert len(verdicts) == len(provider_server.received) == 80
    assert {(verdict.value, verdict.error) for verdict in verdicts} == {(True, None)}
    assert sum(verdict.cost_usd or 0 for verdict in verdicts) == pytest.approx(80 * one)
    assert (await judged.state(day)).spent == pytest.approx(80 * one)


async def test_a_provider_that_reports_too_much_passes_the_cap_by_the_calls_in_flight(
    judged: Judged, provider_server: OpenAIServer
) -> None:
    provider_server.answer = lambda body: Slow(0.1, good(input_tokens=50_000))
    await judged.enqueue(judge(provider_server), range(1, 21))
    one = 50_000 + 10
    day = await judged.budget(tokens=100_000)
    async with judged.working(4, concurrency=1):
        async with asyncio.timeout(60):
            while set(await judged.states()) != {"waiting_for_budget"}:
                await asyncio.sleep(0.05)
    spent = await until_settled(judged, day)
    assert spent == len(provider_server.received) * one
    assert 100_000 < spent <= 100_000 + 4 * one


async def test_a_new_period_lets_capped_work_go_on(judged: Judged, provider_server: OpenAIServer, pool: Pool) -> None:
    provider_server.answer = lambda body: good()
    await judged.enqueue(judge(provider_server), [1, 2])
    day = await judged.budget(usd=0.0005, scorer="tone")
    await pool.execute(
        "INSERT INTO budget_periods (budget_id, starts, spent)"
        " VALUES ($1, date_trunc('day', now() AT TIME ZONE 'UTC')::date, 0.0004999)"
        " ON CONFLICT (budget_id, starts) DO UPDATE SET spent = excluded.spent",
        day,
    )
    async with judged.working():
        await judged.until(waiting_for_budget=2)
        state = await judged.state(day)
        rows = await pool.fetch("SELECT available_at, waiting_reason, failures, deliveries FROM scoring_jobs")
        for row in rows:
            assert tuple(row) == (state.ends, f"budget {day}: the budget of this period is spent", 0, 0)
        assert state.ends.astimezone(UTC).time().isoformat() == "00:00:00"
        assert provider_server.received == []
        # A day goes by.
        await pool.execute("UPDATE budget_periods SET starts = starts - 1")
        await pool.execute("UPDATE scoring_jobs SET available_at = available_at - $1::interval", timedelta(days=1))
        await judged.until()
    assert len(await judged.verdicts([1, 2])) == 2


async def test_removing_a_budget_lets_capped_work_go_on(judged: Judged, provider_server: OpenAIServer) -> None:
    provider_server.answer = lambda body: good()
    await judged.enqueue(judge(provider_server), [1])
    day = await judged.budget(tokens=0)
    async with judged.working():
        await judged.until(waiting_for_budget=1)
        await judged.budgets.remove(day)
        await judged.until()
    (verdict,) = await judged.verdicts([1])
    assert (verdict.value, verdict.metadata) == (True, {"model": "gpt-4o-mini", "calls": "1"})


async def test_a_model_without_a_price_waits_for_one_under_a_cap_in_usd(
    judged: Judged, provider_server: OpenAIServer, pool: Pool
) -> None:
    provider_server.answer = lambda body: good()
    await judged.enqueue(judge(provider_server, model="openai/our-own", params={}), [1, 2])
    day = await judged.budget(usd=1)
    async with judged.working():
        await judged.until(waiting_for_budget=2)
        reason = await pool.fetchval("SELECT waiting_reason FROM scoring_jobs LIMIT 1")
        assert reason == (
            f"budget {day}: no price of openai/our-own is known, and a budget in USD applies:"
            " set one with `tracestone prices set`"
        )
        assert provider_server.received == []
        price = Price("", "Our-Own", {"input": 10.0, "output": 20.0}, scope="deployment", source="set")
        await judged.prices.set([price])
        await judged.until()
    verdicts = await judged.verdicts([1, 2])
    one = (100 * 10 + 10 * 20) / 1e6
    assert [verdict.cost_usd for verdict in verdicts] == [pytest.approx(one)] * 2
    assert await until_settled(judged, day) == pytest.approx(2 * one)
    # Nothing else bounds what it says.
    assert {received.body["max_tokens"] for received in provider_server.received} == {4096}


async def test_other_scorers_and_experiments_go_on(judged: Judged, provider_server: OpenAIServer) -> None:
    provider_server.answer = lambda body: good()
    await judged.enqueue(judge(provider_server), [1, 2])
    await judged.enqueue(judge(provider_server), [1, 2], "other")
    await judged.budget(usd=0, scorer="tone")
    await judged.budget(99, usd=0, scorer="other")
    async with judged.working():
        await judged.until(waiting_for_budget=2)
    assert [verdict.name for verdict in await judged.verdicts([1, 2])] == ["other", "other"]


async def test_a_call_that_fails_spends_nothing(judged: Judged, provider_server: OpenAIServer) -> None:
    provider_server.script = [Failure(500), Failure(500), good()]
    await judged.enqueue(judge(provider_server), [1])
    day = await judged.budget(usd=1)
    async with judged.working():
        await judged.until()
    assert await until_settled(judged, day) == pytest.approx(ONE_CALL)


async def test_a_stopped_worker_lets_its_reservations_go(judged: Judged, provider_server: OpenAIServer) -> None:
    provider_server.answer = lambda body: Slow(30, good())
    await judged.enqueue(judge(provider_server), [1, 2])
    day = await judged.budget(usd=1)
    async with judged.working():
        while len(provider_server.received) < 2:
            await asyncio.sleep(0.02)
        assert (await judged.state(day)).reserved > 0
    state = await judged.state(day)
    assert (state.spent, state.reserved) == (0, 0)


@pytest.mark.parametrize("raised_first", [False, True])
async def test_no_change_falls_between_a_refusal_and_the_sleep(
    judged: Judged, provider_server: OpenAIServer, pool: Pool, raised_first: bool
) -> None:
    """The cap is raised while a worker that was refused puts its job to sleep."""
    provider_server.answer = lambda body: good()
    await judged.enqueue(judge(provider_server), [1])
    await judged.budget(usd=0)
    defer = judged.jobs.defer
    raised = False

    async def raise_around(job, spent, wait):  # type: ignore[no-untyped-def]
        nonlocal raised
        if raised:
            return await defer(job, spent, wait)
        raised = True
        if raised_first:
            await judged.budget(usd=1)
            return await defer(job, spent, wait)
        async with pool.acquire() as connection:
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute("UPDATE budgets SET cap = 1")
            deferring = asyncio.create_task(defer(job, spent, wait))
            await asyncio.sleep(0.3)
            assert not deferring.done()  # it waits for the change
            await transaction.commit()
            return await deferring

    judged.jobs.defer = raise_around  # type: ignore[method-assign]
    async with judged.working():
        await judged.until()
    assert raised
    assert len(await judged.verdicts([1])) == 1
