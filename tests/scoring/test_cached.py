"""Judges' questions that were answered before: paid once, shared at the same time, and bounded."""

import asyncio
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.judged import ONE_CALL, Judged, good, judge
from support.openai_server import Answer, Failure, Held, OpenAIServer
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.scorers.definition import define
from tracestone.schema.stores.judge_replies import MAX_CHARACTERS, JudgeReply, JudgeReplyStore
from tracestone.scoring.calls.account import charged
from tracestone.scoring.calls.cached import FREE, Cached, digest
from tracestone.scoring.llm import Call, CallFailed, LiteLLM


@pytest.fixture
def judged(pool: Pool, columnar: Columnar, litellm_provider: LiteLLM, tmp_path: Path) -> Judged:
    return Judged(pool, columnar, litellm_provider, tmp_path)


@pytest.fixture
def replies(pool: Pool) -> JudgeReplyStore:
    return JudgeReplyStore(pool, seconds=3600, most=1000)


def call(server: OpenAIServer, content: str = "?", **fields: Any) -> Call:
    return replace(
        Call("openai/gpt-4o-mini", [{"role": "user", "content": content}], {}, {"seed": 1}, 30.0, server.url), **fields
    )


async def test_equal_traces_are_judged_for_the_price_of_one(judged: Judged, provider_server: OpenAIServer) -> None:
    provider_server.answer = lambda body: good()
    day = await judged.budget(usd=1)
    numbers = range(1, 21)
    await judged.enqueue(judge(provider_server), numbers, differing=False)
    async with judged.working(2, concurrency=5, cache=True):
        await judged.until()
        await judged.enqueue(judge(provider_server), range(21, 31), differing=False)
        await judged.until()
    verdicts = await judged.verdicts(range(1, 31))
    calls = len(provider_server.received)
    assert 1 <= calls <= 2  # two processes may ask at the same moment
    assert {(verdict.value, verdict.rationale, verdict.error) for verdict in verdicts} == {(True, "It is.", None)}
    told = sorted(
        (v.cost_usd, v.input_tokens, v.metadata.get("calls"), v.metadata.get("cached_calls")) for v in verdicts
    )
    free = (0.0, 0, None, "1")
    assert told[: 30 - calls] == [free] * (30 - calls)
    assert told[30 - calls :] == [(pytest.approx(ONE_CALL), 100, "1", None)] * calls
    assert (await judged.state(day)).spent == pytest.approx(calls * ONE_CALL)


async def test_what_led_to_no_verdict_is_asked_anew(judged: Judged, provider_server: OpenAIServer) -> None:
    provider_server.script = [Answer("Hm.", 100, 10)] * 2
    provider_server.answer = lambda body: good()
    await judged.enqueue(judge(provider_server, retries=1), [1])
    async with judged.working(cache=True):
        await judged.until()
        (verdict,) = await judged.verdicts([1])
        assert (verdict.value, verdict.metadata["calls"]) == (True, "3")
        await judged.enqueue(judge(provider_server, retries=1), [1], "again")
        await judged.until()
    other = next(each for each in await judged.verdicts([1]) if each.name == "again")
    assert (other.value, other.metadata["cached_calls"], other.cost_usd) == (True, "1", 0.0)
    assert len(provider_server.received) == 3


async def test_an_ensemble_that_is_tried_again_pays_only_the_member_that_failed(
    judged: Judged, provider_server: OpenAIServer
) -> None:
    """The first member asks about politeness, the second about brevity, whose provider fails twice."""
    failures = [Failure(500, "down"), Failure(500, "down")]

    def answer(body: dict[str, Any]) -> Answer | Failure:
        return failures.pop() if "brevity" in str(body["messages"]) and failures else good()

    provider_server.answer = answer
    members = []
    for name, asked in (("polite", "Is {{ outputs }} polite?"), ("short", "Rate the brevity of {{ outputs }}.")):
        await judged.scorers.define(define(name, "judge", judge(provider_server, instructions=asked)))
        members.append({"name": name, "version": 1})
    await judged.enqueue({"combine": "all", "members": members}, [1], kind="ensemble")
    async with judged.working(cache=True):
        await judged.until()
    (verdict,) = await judged.verdicts([1])
    assert (verdict.value, verdict.error) == (True, None)
    assert (verdict.metadata["failed_attempts"], verdict.metadata["cached_calls"]) == ("2", "1")
    short = ["brevity" in str(each.body["messages"]) for each in provider_server.received]
    assert (short.count(True), short.count(False)) == (3, 1)


async def test_calls_at_the_same_time_share_one_and_its_failure(
    litellm_provider: LiteLLM, provider_server: OpenAIServer, replies: JudgeReplyStore
) -> None:
    cached = Cached(litellm_provider, replies)
    provider_server.answer = lambda body: Failure(400, "no")
    failed = await asyncio.gather(*(cached.complete(call(provider_server)) for _ in range(5)), return_exceptions=True)
    assert [type(each) for each in failed] == [CallFailed] * 5
    assert len(provider_server.received) == 1
    provider_server.answer = lambda body: good()
    found = await asyncio.gather(*(cached.complete(call(provider_server)) for _ in range(5)))
    assert [reply.usage == FREE for reply in found].count(True) == 4
    assert {reply.text for reply in found} == {good().text}
    assert len(provider_server.received) == 2
    await cached.close()


async def test_who_shares_the_call_of_one_that_is_stopped_asks_for_himself(
    litellm_provider: LiteLLM, provider_server: OpenAIServer, replies: JudgeReplyStore
) -> None:
    cached, go = Cached(litellm_provider, replies), threading.Event()
    provider_server.answer = lambda body: Held(go, good())
    first = asyncio.create_task(cached.complete(call(provider_server)))
    async with asyncio.timeout(30):
        while not provider_server.received:
            await asyncio.sleep(0.01)
    others = [asyncio.create_task(cached.complete(call(provider_server))) for _ in range(3)]
    await asyncio.sleep(0.05)
    first.cancel()
    go.set()
    found = await asyncio.gather(*others)
    assert len({reply.text for reply in found}) == 1
    assert len(provider_server.received) == 2
    await cached.close()


async def test_an_answer_is_kept_when_its_attempt_ends_well(
    litellm_provider: LiteLLM, provider_server: OpenAIServer, replies: JudgeReplyStore
) -> None:
    provider_server.answer = lambda body: good()
    asked = call(provider_server)
    for well in (False, True):
        cached = Cached(litellm_provider, replies)
        with charged("tone", 0) as account:
            await cached.complete(asked)
        if well:
            account.ended_well()
        await cached.close()
        assert bool(await replies.find([digest(asked)])) == well


@pytest.mark.parametrize(
    "change",
    [
        {"model": "openai/gpt-4o"},
        {"api_base": None},
        {"params": {"seed": 2}},
        {"messages": [{"role": "user", "content": "??"}]},
        {"messages": [{"role": "system", "content": "?"}]},
        {"response_format": {"type": "json_object"}},
    ],
)
def test_whatever_decides_about_the_answer_makes_another_question(
    provider_server: OpenAIServer, change: dict[str, Any]
) -> None:
    asked = call(provider_server)
    assert digest(replace(asked, **change)) != digest(asked) == digest(replace(asked, timeout=1.0))


async def test_what_is_kept_is_bounded(pool: Pool) -> None:
    store = JudgeReplyStore(pool, seconds=3600, most=3)
    kept = [JudgeReply(bytes([number]), f"answer {number}", "m") for number in range(6)]
    for reply in kept:
        await store.keep([reply])
    too_much = [
        JudgeReply(b"x", "x" * (MAX_CHARACTERS + 1), "m"),
        JudgeReply(b"y", "\x00", "m"),
        JudgeReply(b"z", "\ud800", "m"),
    ]
    await store.keep([*too_much, kept[5], kept[5]])
    assert await store.find([b"x", b"y", b"z"]) == {}
    await store.forget()
    assert set(await store.find([reply.digest for reply in kept])) == {bytes([3]), bytes([4]), bytes([5])}
    await pool.execute("UPDATE judge_replies SET created_at = now() - interval '2 hours' WHERE digest = $1", bytes([4]))
    assert bytes([4]) not in await store.find([bytes([4])])
    await store.forget()
    assert await pool.fetchval("SELECT count(*) FROM judge_replies") == 2
