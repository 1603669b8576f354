"""A deployment's own rows of the map of attributes."""

import json
from pathlib import Path

import pytest

from support.telemetry import export_request, otlp_span, store
from tracestone.schema import clock
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.errors import StartRefused
from tracestone.schema.mapping import generate, tables
from tracestone.schema.migrate import migrate
from tracestone.schema.stores.spans import SpanStore


def _own(folder: Path) -> Path:
    (folder / "dialects.csv").write_text(
        "column,convention,key,form\nsession_id,acme,acme.talk,text\ninput_tokens,acme,acme.usage>read,integer\n"
    )
    (folder / "conventions.csv").write_text("convention,scopes,tokens,needs\nacme,acme-sdk,exclusive,\n")
    (folder / "span_types.csv").write_text("key,value,span_type\n(name),acme call,llm\n")
    return folder


async def test_own_rows_come_first_and_go_again(pool: Pool, columnar: Columnar, tmp_path: Path) -> None:
    sent = {
        "acme.talk": "t-1",
        "session.id": "s-1",
        "acme.usage": '{"read": 12}',
        "gen_ai.usage.cache_read.input_tokens": 3,
    }
    for number, folder in enumerate((None, _own(tmp_path), None), start=1):
        await migrate(pool, columnar, folder)
        span = otlp_span(number, 1, start_ns=clock.now_ns(), name="acme call", attributes=sent)
        await store(SpanStore(columnar), export_request(span), 1)
    rows = await columnar.query(
        "SELECT session_id, input_tokens, span_type, convention, map_version FROM spans ORDER BY trace_id"
    )
    shipped = {
        "session_id": "s-1",
        "input_tokens": None,
        "span_type": "other",
        "convention": "otel_genai",
        "map_version": 1,
    }
    own = {"session_id": "t-1", "input_tokens": 15, "span_type": "llm", "convention": "acme", "map_version": 2}
    assert rows == [shipped, own, shipped]


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("dialects.csv", "column,key\nsession_id,x\n", "must have the columns column, convention, key, form"),
        ("dialects.csv", "column,convention,key,form\nsession_id,acme,x,colour\n", "line 2: unknown form 'colour'"),
        ("dialects.csv", "column,convention,key,form\nsession_id,acme,x\n", "line 2: 4 values are needed"),
        (
            "dialects.csv",
            "column,convention,key,form\ninput,acme,x,events_in\n",
            "input takes the form content only",
        ),
        ("dialects.csv", "column,convention,key,form\nsession_id,nobody,x,text\n", "'nobody'"),
        ("dialects.csv", "column,convention,key,form\ncolour,otel_genai,x,text\n", "'colour'"),
        ("dialects.csv", "column,convention,key,form\nsession_id,otel_genai,x>>y,text\n", "'x>>y' names no value"),
        ("dialects.csv", "column,convention,key,form\nsession_id,otel_genai,x>2>y,text\n", "'x>2>y' names no value"),
        (
            "dialects.csv",
            "column,convention,key,form\nsession_id,otel_genai,event:x,text\n",
            "'event:x' names no value",
        ),
        ("dialects.csv", "column,convention,key,form\nsession_id,otel_genai,x>*>y,text\n", "'x>*>y' is a list"),
        ("conventions.csv", "convention,scopes,tokens,needs\nacme,,often,\n", "tokens of acme must be"),
        ("span_types.csv", "key,value,span_type\nunmapped.key,x,llm\n", "'unmapped.key'"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, name: str, text: str, reason: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(StartRefused) as refused:
        tables.read(tmp_path)
    assert reason in str(refused.value)


def test_a_field_is_a_value_or_has_fields(tmp_path: Path) -> None:
    (tmp_path / "dialects.csv").write_text(
        "column,convention,key,form\nsession_id,otel_genai,x>y,text\nuser_id,otel_genai,x>y>z,text\n"
    )
    with pytest.raises(StartRefused, match="of 'x' a field is taken whole and looked into as well"):
        generate.views(tables.read(tmp_path), 1)


async def test_fields_at_any_depth(pool: Pool, columnar: Columnar, tmp_path: Path) -> None:
    """Two attributes of which one is text where the other has fields; names that SQL would take for its own."""
    (tmp_path / "dialects.csv").write_text(
        "column,convention,key,form\n"
        "session_id,otel_genai,acme.one>a>b>c>d>e>f,text\nuser_id,otel_genai,acme.two>a>b,text\n"
        "response_id,otel_genai,acme.two>it's `so`>1>id,text\n"
        "finish_reasons,otel_genai,acme.two>list>*>why>said,texts\n"
        "input_tokens,otel_genai,event:acme's>usage>deep>in,integer\noutput_tokens,otel_genai,event:acme's>out,integer\n"
    )
    await migrate(pool, columnar, tmp_path)
    two = {"a": {"b": "u-1"}, "it's `so`": [{"id": 7}, {"id": 8}], "list": [{"why": {"said": "STOP"}}, {}, {"why": 1}]}
    sent = {"acme.one": json.dumps({"a": {"b": {"c": {"d": {"e": {"f": "s-1"}}}}}}), "acme.two": json.dumps(two)}
    events = {"acme's": {"usage": '{"deep": {"in": 12}}', "out": 3}}
    span = otlp_span(1, 1, start_ns=clock.now_ns(), attributes=sent, events=events)
    await store(SpanStore(columnar), export_request(span), 1)
    (row,) = await columnar.query("SELECT * FROM spans")
    assert [row[name] for name in ("session_id", "user_id", "response_id", "finish_reasons", "input_tokens")] == [
        *("s-1", "u-1", "7"),
        ["stop"],
        12,
    ]
    assert row["output_tokens"] == 3
