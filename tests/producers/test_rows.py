"""What real instrumentation packages sent, stored and read back: the canonical row of each call, field by field.

`expected.json` says what the provider was asked and answered. Where a row says otherwise, `DIFFERENCES` has the fields
and the reason; a difference that is gone must leave the list.
"""

import json
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from google.protobuf.message import Message
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from support import producers
from support.engines import fresh_stores
from tracestone.collector.receiver.nested import rewritten
from tracestone.collector.signals.logs import LOGS
from tracestone.collector.signals.traces import TRACES
from tracestone.collector.wal.frames import varint
from tracestone.protos.ingest.v1.logs_pb2 import Logs
from tracestone.protos.ingest.v1.traces_pb2 import Traces
from tracestone.schema import clock
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.stores.logs import LogStore
from tracestone.schema.stores.spans import SpanStore

_FIELDS = (
    "request_model response_model response_id input_tokens output_tokens cache_read_tokens cache_write_tokens"
    " reasoning_tokens session_id user_id error_type provider"
).split()

_NESTING = 64
_MESSAGES = "input_messages output_messages"
# Of a trace: what the provider counted, however many spans say so.
_COUNTED = ("input_tokens", "output_tokens")
_ONE_MODEL = "it sends one model name, the response's"
_OF_A_PROXY = "LiteLLM answers with a model name and an id of its own"
_CLASS_NAMES = "it names the exception by a class of its own"
_EMPTY = "of a failed request it sends an answer without parts"
_COMPLETED = "of a call it says what the provider's Responses API does, completed"
_PYDANTIC = {
    "input_messages": "of a failed request it sends the instructions alone, among model_request_parameters",
    "finish": "it says `stop` where the provider said tool_calls",
}
# For each recording, fields and why they differ.
DIFFERENCES: dict[str, dict[str, str]] = {
    "google-adk-schema1": {
        "input_messages": "it sends a tool's result as an object",
        "output_messages": "it sends the pieces of a stream as parts",
        "finish": "it says `stop` for calls, as Gemini does",
    },
    "google-adk-schema2": {
        "input_messages": "it sends a tool's result as an object",
        "output_messages": "it sends the pieces of a stream as parts",
        "finish": "it says `stop` for calls, as Gemini does",
    },
    "haystack": {
        "request_model": _ONE_MODEL,
        "input_messages output_messages": "of an agent's steps it sends them with the agent alone",
        "error_type": "it wraps the provider's exception",
        "span_type": "the class of a component, an agent or a prompt's, tells more than is expected",
    },
    "langfuse": {
        "request_model": _ONE_MODEL,
        "finish": "it sends why an answer ended of streams alone",
    },
    "langsmith": {
        "error_type": _CLASS_NAMES,
        "output_messages": _EMPTY,
        "span_type": "it calls a parser so, which spans have as chain",
    },
    "litellm-v1": {
        "response_model response_id": _OF_A_PROXY,
        "input_messages output_messages": "it sends calls and their results in no form of their own, or not at all",
        "span_type": "its span around an embedding says nothing else",
    },
    "litellm-v2": {
        "response_model response_id": _OF_A_PROXY,
        "input_messages": "it sends a cached system text as the user's, and what is embedded as a message",
    },
    "logfire": {"span_type": "its own spans say nothing of what they are"},
    "mlflow-genai": {
        "finish": "it says `stop`, or nothing, where the provider said tool_calls",
        "output_messages": "it sends reasoning as JSON in a text",
    },
    "mlflow-native": {
        "finish": _COMPLETED,
        "output_messages": "of a stream it cannot read it sends the object's name",
    },
    "openinference-langchain": {
        "error_type": _CLASS_NAMES,
        "output_messages": _EMPTY,
    },
    "openinference-llama-index": {
        "response_model": "it sends one model name, the request's",
        "span_type": "its spans around a call carry the model's name too",
    },
    "openinference-openai": {"finish": _COMPLETED},
    "openllmetry-anthropic": {"trace_usage": "it adds a stream's counts, the SDK's own span in a trace apart does not"},
    "openllmetry-openai-legacy": {"input_messages": "it sends what is embedded as a message"},
    "openllmetry-openai": {
        "input_messages": "it sends what is embedded as a message",
        "output_messages": "it sends reasoning after the answer, as JSON",
    },
    "otel-google-genai": {
        "input_messages": "it sends a tool's result as an object, and not where the SDK calls the tool by itself",
        "finish": "it says `stop` for calls, as Gemini does",
    },
    "pydantic-ai-v2": {"input_messages": _PYDANTIC["input_messages"]},
    "pydantic-ai-v5": _PYDANTIC,
    "pydantic-ai-v6": {"input_messages": _PYDANTIC["input_messages"]},
    "semantic-kernel": {
        "error_type": _CLASS_NAMES,
        "span_type": "nothing but the name tells of its loop",
    },
    "traceloop-sdk": {
        "input_messages": "it sends what is embedded as a message",
        "output_messages": "it sends reasoning after the answer, as JSON",
    },
    "vercel-ai-legacy": {"span_type": "its span around an embedding has the operation of one"},
}


@pytest_asyncio.fixture(scope="module")
async def clickhouse(postgres_server: str, chdb_url: str) -> AsyncIterator[Columnar]:
    """One database for the module."""
    async with fresh_stores(postgres_server, chdb_url) as (_, columnar):
        yield columnar


@pytest.mark.parametrize("name", producers.names())
async def test_rows(clickhouse: Columnar, name: str) -> None:
    recording = producers.recording(name)
    experiment = producers.names().index(name) + 1
    await _store(clickhouse, recording, experiment)
    found = await clickhouse.query("SELECT * FROM spans WHERE experiment_id = {e:UInt32}", {"e": experiment})
    rows = {(row["trace_id"], row["span_id"]): row for row in found}
    assert len(rows) == len(found) == len(recording.expected["spans"])
    await _check_plain(clickhouse, experiment, rows)
    differing: dict[str, list[Any]] = defaultdict(list)
    for call in recording.expected["calls"]:
        if call["span_id"] is not None:
            for field, expected, got in _call(call, rows[(call["trace_id"], call["span_id"])]):
                differing[field].append((call["scenario"], expected, got))
    for span in recording.expected["spans"]:
        row = rows[(span["trace_id"], span["span_id"])]
        if span["span_type"] != row["span_type"]:
            differing["span_type"].append((row["name"], span["span_type"], row["span_type"]))
    traces = await clickhouse.query("SELECT * FROM traces WHERE experiment_id = {e:UInt32}", {"e": experiment})
    usage = {row["trace_id"]: [row[name] or 0 for name in _COUNTED] for row in traces}
    for trace in recording.expected["traces"]:
        expected = [trace[name] or 0 for name in _COUNTED]
        if usage[trace["trace_id"]] != expected:
            differing["trace_usage"].append((trace["scenarios"], expected, usage[trace["trace_id"]]))
    explained = {field for fields in DIFFERENCES.get(name, {}) for field in fields.split()}
    unexplained = {field: differing[field][:3] for field in differing.keys() - explained}
    assert (unexplained, explained - differing.keys()) == ({}, set())


async def _check_plain(columnar: Columnar, experiment: int, rows: dict[tuple[str, str], dict[str, Any]]) -> None:
    """`spans_plain` says what `spans` says, and where else to look for input and output."""
    found = await columnar.query("SELECT * FROM spans_plain WHERE experiment_id = {e:UInt32}", {"e": experiment})
    assert len(found) == len(rows)
    for plain in found:
        row = rows[(plain["trace_id"], plain["span_id"])]
        elsewhere = plain.pop("messages_elsewhere")
        assert {name: row[name] for name in plain} == plain
        for side in ("input", "output"):
            assert row[side] or elsewhere or not row[f"{side}_messages"]


def _framed(*parts: Message) -> bytes:
    """One record as the log stores it."""
    record = b"".join(part.SerializeToString() for part in parts)
    return varint(len(record)) + record


async def _store(columnar: Columnar, recording: producers.Recording, experiment: int) -> None:
    spans, logs = SpanStore(columnar), LogStore(columnar)
    for number, request in enumerate(recording.requests):
        message, batch = request.message(), f"{recording.name}/{number}"
        if isinstance(message, ExportTraceServiceRequest):
            ours = Traces(experiment_ids=[experiment] * len(message.resource_spans), received_at=clock.now_ns())
            await spans.insert(_framed(rewritten(TRACES, message, _NESTING), ours), batch)
            await spans.refresh_traces([batch])
        else:
            told = Logs(experiment_ids=[experiment] * len(message.resource_logs), received_at=clock.now_ns())
            await logs.insert(_framed(rewritten(LOGS, message, _NESTING), told), batch)
            await spans.refresh_traces_of_logs([batch])


def _call(call: dict[str, Any], row: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """The fields in which a row differs from what is expected of it."""
    pairs = [(field, call[field], row[field]) for field in _FIELDS if field in call]
    pairs.append(("finish", call.get("finish"), ",".join(row["finish_reasons"]).replace("tool_call", "tool_calls")))
    pairs += [(field, _expected(call.get(field)), _read(row, field)) for field in _MESSAGES.split()]
    return [(field, expected, got) for field, expected, got in pairs if not _same(field, expected, got)]


def _same(field: str, expected: Any, got: Any) -> bool:
    if field == "error_type" and expected and got:
        return str(got).rsplit(".", 1)[-1] == str(expected).rsplit(".", 1)[-1]
    # 0 is what the provider said and a sender may leave out
    return got == expected or (expected in (None, 0, "") and got in (None, "", 0))


def _expected(messages: list[dict[str, Any]] | None) -> Any:
    return _joined([(message["role"], [_part(part) for part in message["parts"]]) for message in messages or []])


def _read(row: dict[str, Any], field: str) -> Any:
    messages = [
        (message["role"], [_part(part) for part in message["parts"]]) for message in json.loads(row[field] or "[]")
    ]
    if field == "input_messages" and row["system_instructions"]:
        given = row["system_instructions"]
        parts = json.loads(given) if given.startswith(("[", "{", '"')) else given
        texts = [
            part if isinstance(part, str) else part["content"]
            for part in (parts if isinstance(parts, list) else [parts])
        ]
        messages = [("system", [("text", text) for text in texts]), *messages]
    return _joined(messages)


def _part(part: dict[str, Any]) -> Any:
    kind = part["type"]
    if kind in ("text", "reasoning"):
        return (kind, part.get("text", part.get("content")))
    if kind == "tool_call":
        return (kind, part["name"], part["arguments"])
    if kind in ("tool_result", "tool_call_response"):
        return ("tool_result", _told(part.get("response", part.get("result", part.get("content")))))
    return (kind, part)


def _told(result: Any) -> Any:
    """A tool's result: JSON or text, alone or as the only text part."""
    if isinstance(result, list) and len(result) == 1 and isinstance(result[0], dict):
        result = result[0].get("text", result[0].get("content", result))
    if isinstance(result, str) and result[:1] in ("{", "["):
        return json.loads(result)
    return result


def _joined(messages: list[tuple[str, list[Any]]]) -> list[tuple[str, list[Any]]]:
    """Messages of one side that follow each other are one; the wire forms differ in where they cut."""
    joined: list[tuple[str, list[Any]]] = []
    for role, parts in messages:
        # a tool's result stands under the tool's role or the user's
        role = "system" if role == "developer" else role
        side = "tool" if parts and all(part[0] == "tool_result" for part in parts) else role
        if joined and joined[-1][0] == side:
            joined[-1][1].extend(parts)
        else:
            joined.append((side, list(parts)))
    return joined
