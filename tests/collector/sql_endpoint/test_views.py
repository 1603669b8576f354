"""Views are read here as they are elsewhere: `readonly = 1` keeps their own settings from being applied."""

import pytest

from support.telemetry import export_request, otlp_span, store
from tracestone.collector.sql_endpoint.limits import VIEWS
from tracestone.collector.sql_endpoint.statements import Statement, Statements
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.settings import Settings
from tracestone.schema.stores.spans import SpanStore


async def test_what_views_bring_along_is_set(columnar: Columnar) -> None:
    rows = await columnar.query(
        "SELECT DISTINCT extract(create_table_query, ' SETTINGS (.+)$') AS settings FROM system.tables"
        " WHERE database = currentDatabase() AND engine = 'View' AND settings != ''"
    )
    assert [row["settings"] for row in rows] == [", ".join(f"{name} = {value}" for name, value in VIEWS.items())]


@pytest.mark.parametrize("asked", ["*", "name"])
async def test_a_condition_on_the_key_is_looked_at_before_anything_is_read(columnar: Columnar, asked: str) -> None:
    await store(SpanStore(columnar), export_request(otlp_span(1, 1, start_ns=1_790_000_000_000_000_000)), 1)
    statements = Statements(Settings(), columnar)
    answer = await statements.run(Statement(f"EXPLAIN SELECT {asked} FROM spans WHERE trace_id = '{1:032x}'"))
    await statements.close()
    assert "Prewhere filter" in answer.body.decode()
