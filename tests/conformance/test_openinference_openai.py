"""A real `openai` client, instrumented with OpenInference, against a local server: to the canonical columns."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import openai
import pytest
import pytest_asyncio
from openinference.instrumentation import using_session, using_user
from openinference.instrumentation.openai import OpenAIInstrumentor
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from support.engines import fresh_stores
from support.openai_server import Answer, Failure, OpenAIServer, openai_server
from support.running import Running, running

QUESTION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is the capital of Belgium?"},
]
TOOL = {
    "type": "function",
    "function": {"name": "lookup", "description": "Looks up.", "parameters": {"type": "object", "properties": {}}},
}


@pytest_asyncio.fixture(scope="module")
async def collector(
    postgres_server: str, chdb_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Running]:
    """A collector for the module."""
    async with (
        fresh_stores(postgres_server, chdb_url) as (pool, columnar),
        running(pool, columnar, tmp_path_factory.mktemp("collector")) as started,
    ):
        yield started


@pytest.fixture(scope="module")
def server() -> Iterator[OpenAIServer]:
    """The model provider."""
    with openai_server() as started:
        yield started


Ask = Callable[..., Any]


@pytest_asyncio.fixture
async def ask(collector: Running, server: OpenAIServer) -> AsyncIterator[Ask]:
    """Calls `chat.completions.create` in a thread, and returns the row of the span it left."""
    provider = TracerProvider(resource=Resource.create({"service.name": "openai-app"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=collector.traces_url)))
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    client = openai.OpenAI(base_url=server.url, api_key="sk-test", max_retries=0)
    (before,) = await collector.rows("SELECT max(start_time) AS t FROM spans")

    def call(**request: Any) -> None:
        with using_session("chat-7"), using_user("ann"):
            answer = client.chat.completions.create(model="gpt-4.1-mini", **request)
            if request.get("stream"):
                for _ in answer:
                    pass

    async def run(**request: Any) -> dict[str, Any]:
        try:
            await asyncio.to_thread(call, **request)
        except openai.APIError:
            assert request.pop("fails", True)
        assert await asyncio.to_thread(provider.force_flush, 20_000)
        rows = await collector.rows("SELECT * FROM spans ORDER BY received_at DESC LIMIT 1")
        assert rows[0]["start_time"] > before["t"]
        return rows[0]

    yield run
    instrumentor.uninstrument()
    provider.shutdown()
    client.close()


async def test_a_chat(ask: Ask, server: OpenAIServer) -> None:
    server.script.append(Answer("Brussels.", prompt_tokens=21, completion_tokens=2, model="gpt-4.1-mini-2025-04-14"))
    row = await ask(messages=QUESTION, temperature=0.5)
    expected = {
        "span_type": "llm",
        "provider": "openai",
        "response_model": "gpt-4.1-mini-2025-04-14",
        "request_model": "gpt-4.1-mini",
        "input_tokens": 21,
        "output_tokens": 2,
        "total_tokens": 23,
        "session_id": "chat-7",
        "user_id": "ann",
        "service_name": "openai-app",
        "status_code": "OK",
        "error_type": "",
        "output_preview": "Brussels.",
    }
    assert {name: row[name] for name in expected} == expected
    assert json.loads(row["input_messages"]) == [
        {"role": "system", "parts": [{"type": "text", "content": "Be brief."}]},
        {"role": "user", "parts": [{"type": "text", "content": "What is the capital of Belgium?"}]},
    ]
    assert json.loads(row["output_messages"]) == [
        {"role": "assistant", "parts": [{"type": "text", "content": "Brussels."}]}
    ]
    assert json.loads(row["input"])["messages"] == QUESTION
    assert json.loads(row["attributes"]["llm.invocation_parameters"])["temperature"] == 0.5


async def test_tools(ask: Ask, server: OpenAIServer) -> None:
    server.script.append(Answer("Done."))
    called = {"id": "call_1", "type": "function", "function": {"name": "lookup", "arguments": '{"q": "Ghent"}'}}
    messages = [
        {"role": "user", "content": "Look it up."},
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "call_1", "content": "It rains."},
    ]
    row = await ask(messages=messages, tools=[TOOL])
    assert [tool["function"]["name"] for tool in json.loads(row["tool_definitions"])] == ["lookup"]
    assert json.loads(row["input_messages"])[1:] == [
        {
            "role": "assistant",
            "parts": [{"type": "tool_call", "id": "call_1", "name": "lookup", "arguments": {"q": "Ghent"}}],
        },
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "call_1", "response": "It rains."}]},
    ]
    assert row["span_type"] == "llm"


async def test_a_stream(ask: Ask, server: OpenAIServer) -> None:
    server.script.append(Answer("One two three.", prompt_tokens=9, completion_tokens=3))
    row = await ask(messages=QUESTION, stream=True, stream_options={"include_usage": True})
    assert (row["input_tokens"], row["output_tokens"], row["total_tokens"]) == (9, 3, 12)
    assert json.loads(row["output_messages"]) == [
        {"role": "assistant", "parts": [{"type": "text", "content": "One two three."}]}
    ]


async def test_an_error(ask: Ask, server: OpenAIServer) -> None:
    server.script.append(Failure(429, "slow down"))
    row = await ask(messages=QUESTION)
    assert (row["status_code"], row["error_type"]) == ("ERROR", "openai.RateLimitError")
    assert "slow down" in row["status_message"]
    assert row["input_tokens"] is None


async def test_the_trace_of_a_chat(ask: Ask, server: OpenAIServer, collector: Running) -> None:
    server.script.append(Answer("Yes.", prompt_tokens=5, completion_tokens=1))
    span = await ask(messages=QUESTION)
    (row,) = await collector.rows("SELECT * FROM traces WHERE trace_id = {id:String}", id=span["trace_id"])
    expected = {
        "root_name": span["name"],
        "span_count": 1,
        "state": "OK",
        "input_tokens": 5,
        "output_tokens": 1,
        "models": ["gpt-4.1-mini"],
        "session_id": "chat-7",
        "user_id": "ann",
        "output_preview": "Yes.",
    }
    assert {name: row[name] for name in expected} == expected
