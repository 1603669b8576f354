"""Calls through the real litellm to a local server."""

import asyncio
import importlib
import json
import subprocess
import sys
from typing import Any

import pytest

from support.openai_server import Answer, Behaviour, Failure, OpenAIServer, Raw, Slow, embedding
from tracestone.schema.stores.jobs import Usage
from tracestone.scoring.llm import MAX_MESSAGE_CHARACTERS, Call, CallFailed, EmbeddingCall, LiteLLM, redact

FORMAT = {
    "type": "json_schema",
    "json_schema": {
        "name": "verdict",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"value": {"type": "boolean"}},
            "required": ["value"],
            "additionalProperties": False,
        },
    },
}


def call(server: OpenAIServer, **fields: Any) -> Call:
    plain: dict[str, Any] = {
        "model": "openai/gpt-4o-mini",
        "messages": [{"role": "user", "content": "Is it true?"}],
        "response_format": FORMAT,
        "params": {"temperature": 0, "max_tokens": 50},
        "timeout": 20.0,
        "api_base": server.url,
    }
    return Call(**(plain | fields))


async def test_a_call_asks_for_the_format_and_counts_tokens_and_usd(
    provider_server: OpenAIServer, litellm_provider: LiteLLM
) -> None:
    provider_server.script = [Answer('{"value": false}', 1000, 100)]
    reply = await litellm_provider.complete(call(provider_server))
    assert json.loads(reply.text) == {"value": False}
    # gpt-4o-mini costs 0.15 USD per million tokens in and 0.60 out.
    assert reply.usage == Usage(1, pytest.approx(1000 * 0.15e-6 + 100 * 0.6e-6), 1000, 100)
    body = provider_server.received[0].body
    assert body["response_format"] == FORMAT
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("gpt-4o-mini", 0, 50)


async def test_a_model_without_a_price_has_unknown_cost_and_known_tokens(
    provider_server: OpenAIServer, litellm_provider: LiteLLM
) -> None:
    provider_server.script = [Answer("{}", 7, 3)]
    reply = await litellm_provider.complete(call(provider_server, model="openai/our-own-model"))
    assert reply.usage == Usage(1, None, 7, 3)


@pytest.mark.parametrize(
    ("behaviour", "code", "retryable", "retry_after"),
    [
        (Failure(429, "slow down", {"retry-after": "7"}), "RATE_LIMITED", True, 7.0),
        (Failure(429, "slow down"), "RATE_LIMITED", True, None),
        (Failure(429, "slow", {"retry-after": "99999999"}), "RATE_LIMITED", True, 3600.0),
        (Failure(429, "slow", {"retry-after": "soon"}), "RATE_LIMITED", True, None),
        (Failure(500), "PROVIDER_ERROR", True, None),
        (Failure(503, headers={"retry-after": "2"}), "PROVIDER_ERROR", True, 2.0),
        (Failure(400, "no"), "REQUEST_REFUSED", False, None),
        (Failure(401, "bad key"), "UNAUTHENTICATED", False, None),
        (Failure(403, "not you"), "PERMISSION_DENIED", False, None),
        (Failure(404, "no such model"), "MODEL_NOT_FOUND", False, None),
        (Raw(b"{not json"), "PROVIDER_ERROR", True, None),
        (Raw(b"{}"), "PROVIDER_ERROR", True, None),
    ],
    ids=str,
)
async def test_a_failure_says_whether_another_try_may_help(
    provider_server: OpenAIServer,
    litellm_provider: LiteLLM,
    behaviour: Behaviour,
    code: str,
    retryable: bool,
    retry_after: float | None,
) -> None:
    provider_server.script = [behaviour]
    with pytest.raises(CallFailed) as failed:
        await litellm_provider.complete(call(provider_server))
    assert (failed.value.code, failed.value.retryable) == (code, retryable)
    assert failed.value.retry_after == retry_after
    assert len(provider_server.received) == 1  # litellm and its client must not retry by themselves


async def test_a_call_ends_at_its_timeout(provider_server: OpenAIServer, litellm_provider: LiteLLM) -> None:
    await litellm_provider.complete(call(provider_server))
    provider_server.script = [Slow(30, Answer("{}"))]
    with pytest.raises(CallFailed) as failed:
        async with asyncio.timeout(15):
            await litellm_provider.complete(call(provider_server, timeout=0.2))
    assert (failed.value.code, failed.value.retryable) == ("TIMEOUT", True)


async def test_nobody_listening_may_be_tried_again(provider_server: OpenAIServer, litellm_provider: LiteLLM) -> None:
    with pytest.raises(CallFailed) as failed:
        await litellm_provider.complete(call(provider_server, api_base="http://127.0.0.1:9/v1"))
    assert (failed.value.code, failed.value.retryable) == ("PROVIDER_ERROR", True)


async def test_a_refused_key_is_not_shown(
    provider_server: OpenAIServer, litellm_provider: LiteLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "a-key-of-no-known-form")
    with pytest.raises(CallFailed) as failed:
        await litellm_provider.complete(call(provider_server))
    assert failed.value.code == "UNAUTHENTICATED"
    assert "a-key-of-no-known-form" not in str(failed.value)
    assert "[redacted]" in failed.value.message


async def test_texts_are_embedded_in_one_call_with_tokens_and_usd(
    provider_server: OpenAIServer, litellm_provider: LiteLLM
) -> None:
    texts = ["a cab", "zoo" * 100]
    call = EmbeddingCall("openai/text-embedding-3-small", texts, 20.0, provider_server.url)
    found = await litellm_provider.embed(call)
    assert found.vectors == tuple(tuple(embedding(text)) for text in texts)
    # text-embedding-3-small costs 0.02 USD per million tokens.
    assert found.usage == Usage(1, pytest.approx(76 * 0.02e-6), 76, 0)
    (received,) = provider_server.received
    assert (received.body["model"], received.body["input"]) == ("text-embedding-3-small", texts)
    assert litellm_provider.spent == {"ok": 1.0, "failed": 0.0, "cost_usd": pytest.approx(76 * 0.02e-6)}


@pytest.mark.parametrize(
    ("behaviour", "code", "retryable"),
    [
        (Failure(429, "slow down"), "RATE_LIMITED", True),
        (Failure(401, "bad key"), "UNAUTHENTICATED", False),
        (Raw(b'{"object": "list", "data": [], "usage": {"prompt_tokens": 1}}'), "PROVIDER_ERROR", True),
    ],
    ids=str,
)
async def test_a_failed_embedding_says_whether_another_try_may_help(
    provider_server: OpenAIServer, litellm_provider: LiteLLM, behaviour: Behaviour, code: str, retryable: bool
) -> None:
    provider_server.script = [behaviour]
    with pytest.raises(CallFailed) as failed:
        await litellm_provider.embed(EmbeddingCall("openai/text-embedding-3-small", ["a"], 20.0, provider_server.url))
    assert (failed.value.code, failed.value.retryable) == (code, retryable)
    assert litellm_provider.spent["failed"] == 1.0


@pytest.mark.parametrize(
    "secret",
    [
        "sk-proj-abc123def456",
        "Bearer eyJhbGciOi.abc.def",
        "AIzaSyA-1234567890abcdef",
        "AKIAIOSFODNN7EXAMPLE",
        "api_key=topsecret99",
        "'api-key': 'topsecret99'",
        "https://me:hunter22@host/v1",
    ],
)
def test_what_looks_like_a_secret_is_hidden(secret: str) -> None:
    shown = redact(f"the call with {secret} was refused")
    for part in ("abc123", "eyJ", "SyA-", "FODNN", "topsecret", "hunter22"):
        assert part not in shown
    assert shown.endswith("was refused")


def test_a_stored_message_is_one_short_line() -> None:
    shown = redact("a\nb\t" + "x " * 5000)
    assert shown.startswith("a b x")
    assert len(shown) <= MAX_MESSAGE_CHARACTERS


def test_litellm_is_not_imported_before_the_first_call() -> None:
    code = (
        "import sys; import tracestone.scoring.app, tracestone.scoring.llm as llm; llm.LiteLLM();"
        "print('litellm' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"


async def test_closing_leaves_no_task_behind(provider_server: OpenAIServer) -> None:
    before = asyncio.all_tasks()
    provider = LiteLLM()
    await provider.complete(call(provider_server))
    await provider.close()
    await provider.close()
    await asyncio.sleep(0)
    assert {task.get_name() for task in asyncio.all_tasks() - before} == set()


async def test_calls_go_through_the_proxy_that_the_environment_names(
    provider_server: OpenAIServer, litellm_provider: LiteLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.close()

    async with await asyncio.start_server(proxy, "127.0.0.1", 0) as server:
        for name in ("no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY", "HTTP_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        with pytest.raises(CallFailed):
            await litellm_provider.complete(call(provider_server, api_base="http://model.example/v1"))
    assert asked[0] == b"POST http://model.example/v1/chat/completions HTTP/1.1\r\n"


async def test_litellm_prepares_nothing_for_callbacks_that_nobody_set(
    provider_server: OpenAIServer, litellm_provider: LiteLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    await litellm_provider.complete(call(provider_server))
    logging = importlib.import_module("litellm.litellm_core_utils.litellm_logging").Logging
    prepared: list[str] = []
    for name in ("async_success_handler", "failure_handler"):
        monkeypatch.setattr(logging, name, lambda *_, name=name, **__: prepared.append(name))
    provider_server.script = [Failure(500)]
    with pytest.raises(CallFailed):
        await litellm_provider.complete(call(provider_server))
    await litellm_provider.complete(call(provider_server))
    assert prepared == []
