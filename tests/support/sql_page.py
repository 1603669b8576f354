"""The part of docs/sql.md that lists tables and columns, written from what ClickHouse shows of a migrated database.

python tests/support/sql_page.py            writes it into docs/sql.md
"""

import asyncio
import tempfile
from itertools import groupby
from pathlib import Path

from tracestone.schema import contract
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.embedded_postgres import EmbeddedPostgres
from tracestone.schema.engines.postgres import open_pool
from tracestone.schema.migrate import migrate

PAGE = Path(__file__).parents[2] / "docs" / "sql.md"
_BEGIN, _END = (
    "<!-- tables and columns: written by tests/support/sql_page.py -->\n",
    "<!-- end of tables and columns -->\n",
)
_COLUMNS = (
    "SELECT tables.name AS table, tables.comment AS about, columns.name AS column, columns.type AS type,"
    " columns.comment AS comment FROM system.columns AS columns INNER JOIN system.tables AS tables"
    " ON columns.database = tables.database AND columns.table = tables.name"
    " WHERE columns.database = currentDatabase() AND tables.name IN {tables:Array(String)}"
    " ORDER BY indexOf({tables:Array(String)}, tables.name), columns.position"
)


async def written(columnar: Columnar) -> str:
    """The page's text with the tables and columns of this database."""
    before, rest = PAGE.read_text(encoding="utf-8").split(_BEGIN)
    after = rest.split(_END)[1]
    rows = await columnar.query(_COLUMNS, {"tables": list(contract.wanted())})
    tables = [
        f"### {table}\n\n{about}\n\n| column | type | |\n|---|---|---|\n"
        + "".join(f"| `{row['column']}` | `{row['type']}` | {row['comment']} |\n" for row in columns)
        for (table, about), columns in groupby(rows, key=lambda row: (row["table"], row["about"]))
    ]
    return f"{before}{_BEGIN}\n{chr(10).join(tables)}\n{_END}{after}"


async def _write() -> None:
    with tempfile.TemporaryDirectory(prefix="tracestone-page-") as folder:
        server = EmbeddedPostgres(Path(folder) / "postgres")
        pool = await open_pool(await server.start())
        columnar = Columnar(f"chdb://{folder}/clickhouse", database="tracestone")
        await columnar.open()
        await migrate(pool, columnar)
        PAGE.write_text(await written(columnar), encoding="utf-8")
        await columnar.close()
        await pool.close()
        await server.stop()


if __name__ == "__main__":
    asyncio.run(_write())
