"""What the fixtures of all tests promise: databases that know nothing of the tests before."""

from support.engines import fresh_columnar, fresh_postgres, schema_of
from support.telemetry import export_request, otlp_span, store
from tracestone.schema import clock
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import open_pool
from tracestone.schema.stores.spans import SpanStore

TABLES = ("span_rows", "trace_slices", "trace_touches", "traces")


async def test_a_used_clickhouse_database_is_emptied(postgres_server: str, chdb_url: str) -> None:
    async def rows(columnar: Columnar) -> list[int]:
        counts = [await columnar.query(f"SELECT count() AS n FROM {table}") for table in TABLES]
        return [row["n"] for (row,) in counts]

    names = []
    for _ in range(2):
        async with fresh_columnar(postgres_server, chdb_url) as columnar:
            names.append(columnar.database)
            assert await rows(columnar) == [0, 0, 0, 0]
            await store(SpanStore(columnar), export_request(otlp_span(1, 1, start_ns=clock.now_ns())), 1)
            assert await rows(columnar) == [1, 1, 1, 1]
    assert names[0] == names[1]


async def test_a_clickhouse_database_with_another_schema_is_not_used_again(postgres_server: str, chdb_url: str) -> None:
    async with fresh_columnar(postgres_server, chdb_url) as changed:
        before = await schema_of(changed)
        assert await schema_of(changed) == before
        for change in (
            "CREATE TABLE more (n UInt8) ENGINE = Memory",
            "ALTER TABLE trace_rows MODIFY SETTING merge_with_ttl_timeout = 3",
            "INSERT INTO schema_migrations (version, name, checksum) VALUES (999, 'future', 'x')",
            "DROP TABLE trace_rows",
        ):
            await changed.command(change)
            after = await schema_of(changed)
            assert after != before, change
            before = after
    async with fresh_columnar(postgres_server, chdb_url) as columnar:
        assert columnar.database != changed.database
        names = await columnar.query("SELECT name FROM system.databases")
        assert {"name": changed.database} not in names


async def test_postgres_databases_share_nothing(postgres_server: str) -> None:
    async with fresh_postgres(postgres_server) as one, fresh_postgres(postgres_server) as two:
        for url in (one, two):
            pool = await open_pool(url)
            assert await pool.fetchval("SELECT count(*) FROM experiments") == 1
            await pool.execute("DELETE FROM experiments")
            await pool.close()
