"""The public SQL contract: every public column says what it means, in ClickHouse and in docs/sql.md."""

from support import sql_page
from tracestone.schema import contract, sqlfiles
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.mapping import generate, tables

# Views that are parts of others, or of a rewrite.
INTERNAL = {"spans_again", "spans_plain", "price_rows", "price_names_in", "price_dates_in", "price_tiers_in"}
_VIEWS = "SELECT name FROM system.tables WHERE database = currentDatabase() AND engine = 'View'"
_SHOWN = (
    "SELECT table, name, comment FROM system.columns"
    " WHERE database = currentDatabase() AND table IN {tables:Array(String)}"
)


async def _shown(columnar: Columnar) -> dict[tuple[str, str], str]:
    rows = await columnar.query(_SHOWN, {"tables": list(contract.wanted())})
    return {(row["table"], row["name"]): row["comment"] for row in rows}


async def test_a_view_is_public_or_internal(columnar: Columnar) -> None:
    """A new one is described in sql/clickhouse/public.csv, or named above."""
    views = {row["name"] for row in await columnar.query(_VIEWS)}
    assert views == contract.wanted().keys() | INTERNAL


async def test_every_public_column_says_what_it_means(columnar: Columnar) -> None:
    shown = await _shown(columnar)
    assert [column for column, comment in shown.items() if not comment] == []
    described = {(table, column) for table, columns in contract.wanted().items() for column in columns if column}
    assert described == shown.keys()
    assert all(columns[""] for columns in contract.wanted().values())


async def test_the_page_says_what_clickhouse_says(columnar: Columnar) -> None:
    """Bring it up to date with `python tests/support/sql_page.py`."""
    assert sql_page.PAGE.read_text(encoding="utf-8") == await sql_page.written(columnar)


async def test_a_view_made_anew_is_commented_again(columnar: Columnar) -> None:
    before = await _shown(columnar)
    (view,) = [text for text in generate.views(tables.read(None), 1) if "VIEW spans AS" in text]
    await columnar.command(view)
    assert before != await _shown(columnar)
    await contract.comment(columnar)
    assert before == await _shown(columnar)


async def test_a_comment_is_text_and_nothing_else(columnar: Columnar) -> None:
    alter = sqlfiles.queries("clickhouse", "contract")["alter"]
    text = "it's \\ `odd` {p:String}\n"
    await columnar.command(f"{alter} MODIFY COMMENT {contract._quoted(text)}", {"table": "traces"})
    rows = await columnar.query(
        "SELECT comment FROM system.tables WHERE database = currentDatabase() AND name = 'traces'"
    )
    assert rows[0]["comment"] == text
    await contract.comment(columnar)
