"""The map from attributes to canonical columns: which one wins, what a missing one means, span types, previews."""

import csv
import json
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import pytest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from support.mapped_spans import Stored, StoredMany
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.mapping import fields, tables
from tracestone.schema.mapping.stored import PREVIEW_CHARACTERS, TEXT_FROM_BYTES


def test_every_row_of_the_map_is_used_once() -> None:
    sources = tables.read().sources
    assert len({(source.column, source.key, source.form) for source in sources}) == len(sources)


_SAMPLES: dict[str, tuple[Any, Any]] = {
    "text": ("some text", "some text"),
    "texts": ("some reason", ["some reason"]),
    "integer": (17, 17),
    "number": (0.125, 0.125),
    "seconds": (1.5, 1_500_000_000),
    "milliseconds": (1.5, 1_500_000),
    "content": ("some content", "some content"),
}
# They are no columns of `spans`, or are that of a resource too.
_HIDDEN = ("span_kind", "component_type", "component_class", "logfire_type", "pending_parent", "environment", "release")
_NEEDS = {convention.name: {convention.needs: "x"} for convention in tables.read().conventions if convention.needs}


_KIND = {"gen_ai.operation.name": "chat"}


def _sent(source: tables.Source, value: Any) -> dict[str, Any]:
    """The attribute that holds a value for a source, JSON where its key says so."""
    key = fields.read(source.key)
    for field in reversed(key.path):
        value = [value] if field in ("*", "1") else {field: value} if field else value
    kind = _KIND if source.of_a_call else {}
    return {**_NEEDS.get(source.convention, {}), **kind, key.attribute: json.dumps(value) if key.path else value}


def _merged(attributes: list[dict[str, Any]]) -> dict[str, Any]:
    """Attributes together; what is JSON in several becomes one object."""
    merged: dict[str, Any] = {}
    for key, value in (pair for each in attributes for pair in each.items()):
        if key in merged and isinstance(value, str) and value.startswith("{"):
            value = json.dumps(_deep(json.loads(merged[key]), json.loads(value)))
        merged[key] = value
    return merged


def _deep(one: Any, other: Any) -> Any:
    if isinstance(one, list):
        return [_deep(one[0], other[0])]
    for key, value in other.items():
        one[key] = _deep(one[key], value) if isinstance(value, dict | list) and key in one else value
    return one


async def test_each_attribute_fills_its_column(stored_many: StoredMany) -> None:
    sources = [source for source in tables.read().sources if source.form in _SAMPLES and source.column not in _HIDDEN]
    rows = await stored_many(
        [{"unrelated": "x", **_sent(source, _SAMPLES[source.form][0]), "other.count": 3} for source in sources]
    )
    for source, row in zip(sources, rows, strict=True):
        value, expected = _SAMPLES[source.form]
        if source.column.startswith("usage."):
            assert (source.key, row["usage_details"]) == (source.key, {source.column.removeprefix("usage."): expected})
        else:
            assert (source.key, row[source.column]) == (source.key, expected)
        if fields.read(source.key).own:
            assert row["attributes"][source.key] == str(value)
        if source.convention not in ("otel_general", "openai_usage"):
            assert row["convention"] == source.convention


async def test_an_earlier_row_of_the_map_wins_whatever_the_order_of_arrival(stored_many: StoredMany) -> None:
    columns: dict[str, list[tuple[tables.Source, Any]]] = {}
    for source in tables.read().sources:
        # there is one attribute `model`, as a text or in JSON
        if source.form in ("text", "integer", "number") and source.column not in _HIDDEN and source.key != "model>":
            found = columns.setdefault(source.column, [])
            found.append((source, f"number {len(found)}" if source.form == "text" else len(found) + 1))
    wanted = {
        column: found for column, found in columns.items() if not column.startswith("usage.") and "tokens" not in column
    }
    orders = [*wanted.values(), *(found[::-1] for found in wanted.values())]
    rows = await stored_many([_merged([_sent(source, value) for source, value in found]) for found in orders])
    for (column, found), row in zip([*wanted.items()] * 2, rows, strict=True):
        assert (column, row[column]) == (column, found[0][1])


async def test_an_answer_is_looked_into_only_where_a_model_gave_it(stored_many: StoredMany) -> None:
    answer = {"output.value": json.dumps({"id": "a-1", "model": "m-1", "usage": {"prompt_tokens": 7}})}
    chat, embedding, chain, unsaid = await stored_many(
        [
            {**answer, **({"openinference.span.kind": kind} if kind else {})}
            for kind in ("LLM", "embedding", "CHAIN", "")
        ]
    )
    for row in (chat, embedding):
        assert (row["response_id"], row["response_model"], row["input_tokens"]) == ("a-1", "m-1", 7)
    for row in (chain, unsaid):
        assert (row["response_id"], row["response_model"], row["input_tokens"]) == ("", "", None)


async def test_every_choice_says_why_it_ended(stored_many: StoredMany) -> None:
    choices = json.dumps({"choices": [{"finish_reason": "stop"}, {"finish_reason": "length"}, {"finish_reason": None}]})
    messages = json.dumps([{"role": "assistant", "finish_reason": reason} for reason in ("tool_calls", "stop")])
    kind = {"openinference.span.kind": "LLM"}
    rows = await stored_many(
        [
            {**kind, "output.value": choices},
            {**_KIND, "gen_ai.output.messages": messages},
            {**_KIND, "gen_ai.output.messages": messages, "gen_ai.response.finish_reasons": ["length"]},
            {**_KIND, "gen_ai.output.messages": messages, "gen_ai.response.finish_reasons": []},
            {**kind, "output.value": choices, "llm.finish_reason": "end_turn"},
        ]
    )
    assert [row["finish_reasons"] for row in rows] == [
        ["stop", "length"],
        ["tool_call", "stop"],
        ["length"],
        [],
        ["stop"],
    ]


async def test_json_that_is_none_of_the_expected_form(stored_many: StoredMany) -> None:
    """It says nothing, and keeps no span from being stored."""
    texts = [
        "",
        "{",
        "[]",
        "[1, 2]",
        '["a", "b"]',
        "null",
        '"text"',
        '{"id": null, "usage": 3, "choices": {"0": {}}}',
        "{}",
    ]
    rows = await stored_many([{"openinference.span.kind": "LLM", "output.value": text} for text in texts])
    for text, row in zip(texts, rows, strict=True):
        found = [row[name] for name in ("response_id", "response_model", "input_tokens", "finish_reasons")]
        assert (text, found) == (text, ["", "", None, []])


async def test_an_empty_text_does_not_win(stored: Stored) -> None:
    row = await stored({"gen_ai.provider.name": "", "gen_ai.system": "anthropic"})
    assert row["provider"] == "anthropic"
    assert row["attributes_string"]["gen_ai.provider.name"] == ""


@pytest.mark.parametrize("value", [5, 5.0, "5", "5.0"])
async def test_tokens_as_integer_double_or_text(stored: Stored, value: Any) -> None:
    row = await stored({"gen_ai.usage.input_tokens": value, "gen_ai.usage.output_tokens": "2"})
    assert (row["input_tokens"], row["output_tokens"], row["total_tokens"]) == (5, 2, 7)


async def test_tokens_that_are_no_number_are_missing(stored_many: StoredMany) -> None:
    """And never keep a span from being stored."""
    nan, inf = float("nan"), float("inf")
    values = ["many", "", nan, inf, -inf, True, "1e999", "nan", "inf", "-inf", 1e300, -1e300, -1, -(2**63), 2**63 - 1]
    rows = await stored_many([{"gen_ai.usage.input_tokens": value} for value in values])
    for value, row in zip(values, rows, strict=True):
        assert (row["input_tokens"], row["total_tokens"]) == (None, None), value


async def test_a_source_that_is_no_number_lets_the_next_speak(stored: Stored) -> None:
    row = await stored({"gen_ai.usage.input_tokens": "unknown", "llm.token_count.prompt": 9})
    assert row["input_tokens"] == 9


@pytest.mark.parametrize(("value", "nanoseconds"), [(0, 0), ("0.5", 500_000_000), (1e15, None), (-1.0, None)])
async def test_seconds(stored: Stored, value: Any, nanoseconds: int | None) -> None:
    row = await stored({"gen_ai.response.time_to_first_chunk": value})
    assert row["time_to_first_token_ns"] == nanoseconds


async def test_zero_is_not_missing(stored: Stored) -> None:
    row = await stored({"gen_ai.usage.input_tokens": 0, "gen_ai.usage.output_tokens": 0, "llm.cost.total": 0.0})
    assert [row[name] for name in ("input_tokens", "output_tokens", "total_tokens", "cost_total")] == [0, 0, 0, 0.0]
    row = await stored({"gen_ai.usage.input_tokens": 0, "llm.token_count.prompt": 9})
    assert row["input_tokens"] == 0


async def test_what_is_missing_is_empty_or_null(stored: Stored) -> None:
    row = await stored({})
    numbers = (
        "input_tokens output_tokens total_tokens cache_read_tokens cache_write_tokens reasoning_tokens cost_input"
        " cost_output cost_total time_to_first_token_ns"
    )
    texts = (
        "operation provider request_model response_model input output input_messages output_messages"
        " system_instructions tool_definitions response_id session_id user_id agent_name tool_name tool_call_id"
        " tool_arguments tool_result retrieval_documents prompt_name prompt_version environment release error_type"
        " input_preview output_preview status_message trace_state parent_span_id"
    )
    assert {name: row[name] for name in numbers.split()} == dict.fromkeys(numbers.split())
    assert {name: row[name] for name in texts.split()} == dict.fromkeys(texts.split(), "")
    assert (row["finish_reasons"], row["span_type"], row["status_code"], row["events"], row["links"]) == (
        [],
        "other",
        "UNSET",
        [],
        [],
    )


async def test_cost_and_total_from_their_parts(stored: Stored) -> None:
    row = await stored({"llm.cost.prompt": 0.25, "llm.cost.completion": 0.5, "llm.token_count.prompt": 3})
    assert (row["cost_input"], row["cost_output"], row["cost_total"], row["total_tokens"]) == (0.25, 0.5, 0.75, 3)
    row = await stored({"llm.cost.prompt": 0.25, "llm.cost.total": 9.0, "gen_ai.usage.total_tokens": 11})
    assert (row["cost_total"], row["total_tokens"]) == (9.0, 11)


def _span_types() -> list[dict[str, str]]:
    text = (files("tracestone.schema.mapping") / "span_types.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


async def test_span_types(stored_many: StoredMany) -> None:
    known = [row for row in _span_types() if not row["key"].startswith("(")]
    conventions = {source.key: source for source in tables.read().sources if source.form == "text"}
    values = [row["value"].replace("*", "Some") for row in known]
    rows = await stored_many(
        [_sent(conventions[row["key"]], value) for row, value in zip(known, values, strict=True)]
        + [_sent(conventions[row["key"]], value.upper()) for row, value in zip(known, values, strict=True)]
    )
    for expected, row in zip(known * 2, rows, strict=True):
        assert (expected["key"], expected["value"], row["span_type"]) == (
            expected["key"],
            expected["value"],
            expected["span_type"],
        )


async def test_a_span_s_name_tells_its_type_when_no_attribute_does(stored: Stored) -> None:
    def named(name: str) -> Callable[[Span], None]:
        return lambda span: setattr(span, "name", name)

    for row in _span_types():
        if row["key"] == "(name)":
            assert (await stored({}, change=named(row["value"])))["span_type"] == row["span_type"]
    assert (await stored({"gen_ai.operation.name": "chat"}, change=named("invocation")))["span_type"] == "llm"


@pytest.mark.parametrize(
    ("attributes", "span_type"),
    [
        ({"openinference.span.kind": "AGENT", "gen_ai.operation.name": "chat"}, "agent"),
        ({"gen_ai.operation.name": "something new", "gen_ai.request.model": "m"}, "llm"),
        ({"gen_ai.tool.name": "search"}, "tool"),
        ({"tool.id": "call_1", "llm.model_name": "m"}, "tool"),
        ({"gen_ai.retrieval.documents": "[]"}, "retriever"),
        ({"llm.model_name": "m"}, "llm"),
        ({"gen_ai.usage.output_tokens": 4}, "llm"),
        ({"http.request.method": "GET"}, "other"),
    ],
)
async def test_span_type_when_nothing_or_much_says_it(
    stored: Stored, attributes: dict[str, Any], span_type: str
) -> None:
    assert (await stored(attributes))["span_type"] == span_type


async def test_finish_reasons_as_array(stored: Stored) -> None:
    row = await stored({"gen_ai.response.finish_reasons": ["stop", "length"]})
    assert row["finish_reasons"] == ["stop", "length"]
    assert json.loads(row["attributes"]["gen_ai.response.finish_reasons"]) == ["stop", "length"]


async def test_environment_and_release_of_the_resource(stored: Stored) -> None:
    resource = {"deployment.environment.name": "prod", "deployment.environment": "old", "service.version": "1.2"}
    row = await stored({}, resource=resource)
    assert (row["environment"], row["release"]) == ("prod", "1.2")
    row = await stored({}, resource={"deployment.environment": "old"})
    assert row["environment"] == "old"
    row = await stored({"deployment.environment.name": "of the span"}, resource=resource)
    assert row["environment"] == "of the span"


async def test_error_type(stored: Stored) -> None:
    event = {"exception": {"exception.type": "ValueError", "exception.message": "no"}}
    assert (await stored({}, events=event))["error_type"] == "ValueError"
    assert (await stored({"error.type": "timeout"}, events=event))["error_type"] == "timeout"
    assert (await stored({}, events={"other": {"exception.type": "ValueError"}}))["error_type"] == ""
    assert (await stored({}, events={"first": {"a": 1}, **event}))["error_type"] == "ValueError"


async def test_session_id_before_conversation_id(stored: Stored) -> None:
    assert (await stored({"gen_ai.conversation.id": "c"}))["session_id"] == "c"
    assert (await stored({"gen_ai.conversation.id": "c", "session.id": "s"}))["session_id"] == "s"


async def test_previews_of_roots_and_models_only(stored: Stored) -> None:
    values = {"input.value": "the question", "output.value": "the answer"}
    for attributes, parent, shown in (
        ({}, 0, True),
        ({}, 7, False),
        ({"openinference.span.kind": "TOOL"}, 7, False),
        ({"openinference.span.kind": "LLM"}, 7, True),
        ({"openinference.span.kind": "AGENT"}, 7, False),
    ):
        row = await stored({**values, **attributes}, parent=parent)
        assert (row["input_preview"], row["output_preview"]) == (("the question", "the answer") if shown else ("", ""))


async def test_what_the_map_does_not_know_is_no_preview(stored: Stored) -> None:
    row = await stored({"my.secret": "unrelated", "gen_ai.operation.name": "chat"})
    assert (row["input_preview"], row["output_preview"]) == ("", "")


async def test_a_preview_is_the_last_message_and_short(stored: Stored) -> None:
    long = "wörd " * 500
    messages = [
        {"role": "user", "parts": [{"type": "text", "content": "first"}]},
        {"role": "user", "parts": [{"type": "text", "content": long}]},
    ]
    row = await stored({"gen_ai.input.messages": json.dumps(messages), "output.value": long})
    assert row["input_preview"] == row["output_preview"] == long[:PREVIEW_CHARACTERS]
    assert json.loads(row["input_messages"]) == messages
    assert row["output"] == long


@pytest.mark.parametrize(
    ("text", "preview"),
    [
        ('{"messages": [{"role": "user", "content": "old"}, {"role": "user", "content": "new"}]}', "new"),
        ('{"messages": [{"role": "user", "content": [{"type":"text"}]}]}', '[{"type":"text"}]'),
        ('{"question": "why"}', None),
        ('["a", "b"]', None),
        ("[broken", None),
        ("{broken", None),
    ],
)
async def test_a_preview_of_json(stored: Stored, text: str, preview: str | None) -> None:
    assert (await stored({"input.value": text}))["input_preview"] == (text if preview is None else preview)


async def test_a_preview_of_a_completion(stored: Stored) -> None:
    text = '{"id": "c", "choices": [{"message": {"role": "assistant", "content": "Yes."}}]}'
    assert (await stored({"output.value": text}))["output_preview"] == "Yes."


@pytest.mark.parametrize("length", [TEXT_FROM_BYTES, TEXT_FROM_BYTES + 1])
async def test_long_text_is_kept_apart_and_read_the_same(stored: Stored, length: int) -> None:
    text = "x" * length
    row = await stored({"input.value": text, "gen_ai.tool.name": "t"})
    apart = length > TEXT_FROM_BYTES
    assert ("input.value" in row["attributes_text"], "input.value" in row["attributes_string"]) == (apart, not apart)
    assert row["input"] == row["attributes"]["input.value"] == text


async def test_a_hot_column_from_a_long_text(stored: Stored) -> None:
    session = "s" * (TEXT_FROM_BYTES * 2)
    assert (await stored({"session.id": session}))["session_id"] == session


async def test_of_a_key_twice_the_first_counts(stored: Stored, clickhouse: Columnar) -> None:
    def twice(span: Span) -> None:
        for text in ("first", "second"):
            pair = KeyValue(key="gen_ai.provider.name")
            pair.value.string_value = text
            span.attributes.append(pair)

    row = await stored({}, change=twice)
    assert row["provider"] == "first"
    (found,) = await clickhouse.query(
        "SELECT attributes['gen_ai.provider.name'] AS text FROM spans WHERE trace_id = {id:String}",
        {"id": row["trace_id"]},
    )
    assert found["text"] == "first"


async def test_tags(stored_many: StoredMany, clickhouse: Columnar) -> None:
    """Tags of MLflow have values of their own; a label of a list is a tag that is true."""
    rows = await stored_many(
        [
            {"mlflow.traceTag.team": "blue", "mlflow.traceTag.n": 5},
            {"tag.tags": ["beta", "eu"]},
            {"langfuse.trace.tags": '["beta", "a, b"]'},
            {"langsmith.span.tags": "beta, eu"},
            {"logfire.tags": ["beta", "beta", ""]},
            {"lmnr.association.properties.tags": ["eu"]},
            {"tag.tags": ["team"], "mlflow.traceTag.team": "blue"},
            {"tag.tags": 5, "langfuse.trace.tags": "[not JSON", "tags": ["nobody's"]},
        ]
    )
    assert rows[0]["attributes"]["mlflow.traceTag.team"] == "blue"
    found = await clickhouse.query(
        "SELECT tags FROM span_rows WHERE trace_id = {id:String} ORDER BY span_id", {"id": rows[0]["trace_id"]}
    )
    yes = "true"
    assert [row["tags"] for row in found] == [
        {"team": "blue", "n": ""},
        {"beta": yes, "eu": yes},
        {"beta": yes, "a, b": yes},
        {"beta": yes, "eu": yes},
        {"beta": yes},
        {"eu": yes},
        {"team": "blue"},
        {},
    ]
