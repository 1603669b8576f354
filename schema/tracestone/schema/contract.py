"""The public SQL contract: the tables people may rely on, and what each column of them means.

`sql/clickhouse/public.csv` says it, in the columns `table`, `column` and `comment`; where `column` is empty, of the
table. ClickHouse shows it (`DESCRIBE spans`), and docs/sql.md is written from what ClickHouse shows. A view that is
made anew loses its comments, so they are compared, and put back, after every run of the migrations.
"""

import csv
from functools import cache
from importlib.resources import files

from tracestone.schema import sqlfiles
from tracestone.schema.engines.columnar import Columnar

Comments = dict[str, dict[str, str]]
"""By table the comments by column; '' is the table's own."""

_SQL = sqlfiles.queries("clickhouse", "contract")


@cache
def wanted() -> Comments:
    """What the tables and columns are to be commented with."""
    text = (files(__package__) / "sql" / "clickhouse" / "public.csv").read_text(encoding="utf-8")
    comments: Comments = {}
    for row in csv.DictReader(text.splitlines(), strict=True):
        columns = comments.setdefault(row["table"], {})
        if row["column"] in columns:
            raise ValueError(f"public.csv: {row['table']}.{row['column']} is there twice")
        columns[row["column"]] = row["comment"]
    return comments


async def comment(columnar: Columnar) -> None:
    """Comments the tables and columns of the contract where they differ from it; changes nothing else of them.

    Raises StatementFailed when a table or a column is missing.
    """
    stored = await _stored(columnar)
    for table, columns in wanted().items():
        shown = stored.get(table, {})
        changes = [
            f"MODIFY COMMENT {_quoted(text)}" if not column else f"COMMENT COLUMN `{column}` {_quoted(text)}"
            for column, text in columns.items()
            if shown.get(column) != text
        ]
        if changes:
            await columnar.command(f"{_SQL['alter']} {', '.join(changes)}", {"table": table})


async def _stored(columnar: Columnar) -> Comments:
    comments: Comments = {}
    for row in await columnar.query(_SQL["comments"], {"tables": list(wanted())}):
        comments.setdefault(row["table"], {})[row["column"]] = row["comment"]
    return comments


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
