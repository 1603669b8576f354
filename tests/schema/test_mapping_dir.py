"""A deployment's own rows of the map of attributes."""

from pathlib import Path

import pytest

from support.telemetry import export_request, otlp_span, store
from tracestone.schema import clock
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.errors import StartRefused
from tracestone.schema.mapping import tables
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
        ("conventions.csv", "convention,scopes,tokens,needs\nacme,,often,\n", "tokens of acme must be"),
        ("span_types.csv", "key,value,span_type\nunmapped.key,x,llm\n", "'unmapped.key'"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, name: str, text: str, reason: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(StartRefused) as refused:
        tables.read(tmp_path)
    assert reason in str(refused.value)
