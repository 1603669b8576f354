"""Migrations: forward only, safe to run twice and at once, refused when history does not fit."""

import asyncio
import sys
from pathlib import Path

import asyncpg
import pytest

from support.engines import fresh_stores
from support.faulty_columnar import PickyColumnar
from support.running import clean_environment, data_folder
from tracestone.schema import sqlfiles
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.embedded_postgres import EmbeddedPostgres
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.errors import StartRefused
from tracestone.schema.migrate import migrate

SQL = Path(sqlfiles.__file__).parent / "sql"


async def _history(pool: Pool, columnar: Columnar) -> list[list[int]]:
    postgres = await pool.fetch("SELECT version FROM tracestone.schema_migrations ORDER BY version")
    clickhouse = await columnar.query("SELECT version FROM schema_migrations ORDER BY version")
    return [[row["version"] for row in postgres], [row["version"] for row in clickhouse]]


def _all() -> list[list[int]]:
    stores: tuple[sqlfiles.Store, ...] = ("postgres", "clickhouse")
    return [[migration.version for migration in sqlfiles.migrations(store)] for store in stores]


async def test_twice(empty_pool: Pool, empty_columnar: Columnar) -> None:
    applied = await migrate(empty_pool, empty_columnar)
    assert len(applied) == sum(map(len, _all()))
    assert await _history(empty_pool, empty_columnar) == _all()
    assert await migrate(empty_pool, empty_columnar) == []
    assert await _history(empty_pool, empty_columnar) == _all()


async def test_a_migration_that_fails_in_either_store_refuses_the_start(
    empty_pool: Pool, empty_columnar: Columnar, chdb_url: str
) -> None:
    picky = PickyColumnar(chdb_url, database=empty_columnar.database)
    await picky.open()
    picky.refuses_statement = lambda sql, parameters: 241 if "CREATE VIEW" in sql else None
    try:
        with pytest.raises(StartRefused, match=r"^A ClickHouse migration failed: .*Code: 241"):
            await migrate(empty_pool, picky)
    finally:
        await picky.close()
    await empty_pool.execute("DROP SCHEMA tracestone CASCADE")
    await empty_pool.execute("CREATE SCHEMA tracestone CREATE TABLE experiments (x int)")
    with pytest.raises(StartRefused, match=r'^A Postgres migration failed: .*"experiments" already exists'):
        await migrate(empty_pool, empty_columnar)


async def test_another_process_s_long_migration_is_waited_for(
    empty_pool: Pool, empty_columnar: Columnar, empty_postgres_url: str
) -> None:
    """Longer than a statement of the pool may take."""
    lock, unlock = (sqlfiles.queries("postgres", "migrate")[name] for name in ("lock", "unlock"))
    hurried: Pool = await asyncpg.create_pool(empty_postgres_url, min_size=1, max_size=1, command_timeout=2)
    async with empty_pool.acquire() as other:
        await other.execute(lock)
        waiting = asyncio.create_task(migrate(hurried, empty_columnar))
        done, _ = await asyncio.wait([waiting], timeout=4)
        assert not done
        await other.execute(unlock)
        assert len(await waiting) == sum(map(len, _all()))
    await hurried.close()


async def test_several_at_once(empty_pool: Pool, empty_columnar: Columnar, chdb_url: str) -> None:
    others = [Columnar(chdb_url, database=empty_columnar.database) for _ in range(3)]
    for each in others:
        await each.open()
    try:
        runs = await asyncio.gather(*(migrate(empty_pool, each) for each in (empty_columnar, *others)))
    finally:
        for each in others:
            await each.close()
    assert sorted(map(len, runs)) == [0, 0, 0, sum(map(len, _all()))]
    assert await _history(empty_pool, empty_columnar) == _all()


_PROCESS = """
import asyncio, sys
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import open_pool
from tracestone.schema.migrate import migrate

async def main():
    pool = await open_pool(sys.argv[1])
    columnar = Columnar("chdb://" + sys.argv[2], database="tracestone")
    await columnar.open()
    sys.stdin.readline()
    print(len(await migrate(pool, columnar)))
    await columnar.close()
    await pool.close()

asyncio.run(main())
"""


async def test_two_processes_at_once_on_one_postgres() -> None:
    """chDB lets one process have a folder, so each brings its own ClickHouse; what they share is the lock."""
    with data_folder() as folder:
        server = EmbeddedPostgres(folder / "postgres")
        url = await server.start()
        try:
            processes = [
                await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-c",
                    _PROCESS,
                    url,
                    str(folder / f"clickhouse{number}"),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    env=clean_environment(),
                )
                for number in range(2)
            ]
            answers = await asyncio.gather(*(process.communicate(b"go\n") for process in processes))
        finally:
            await server.stop()
    postgres, clickhouse = map(len, _all())
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted(int(out) for out, _ in answers) == [clickhouse, clickhouse + postgres]


async def test_a_migration_that_broke_off_is_finished(empty_pool: Pool, empty_columnar: Columnar) -> None:
    """ClickHouse has no transactions: every prefix of a file may have been applied, and it must run again whole."""
    await migrate(empty_pool, empty_columnar)
    for migration in sqlfiles.migrations("clickhouse"):
        for statement in migration.statements():
            await empty_columnar.command(statement)


@pytest.mark.parametrize("store", ["postgres", "clickhouse"])
async def test_a_changed_file_is_refused(pool: Pool, columnar: Columnar, store: str) -> None:
    if store == "postgres":
        await pool.execute("UPDATE tracestone.schema_migrations SET checksum = 'another' WHERE version = 1")
    else:
        await columnar.command("ALTER TABLE schema_migrations UPDATE checksum = 'another' WHERE version = 1"
                               " SETTINGS mutations_sync = 1")  # fmt: skip
    with pytest.raises(StartRefused, match=f"The {store} migration 0001_.* differs from the one that was applied"):
        await migrate(pool, columnar)


@pytest.mark.parametrize("store", ["postgres", "clickhouse"])
async def test_a_newer_store_is_refused(pool: Pool, columnar: Columnar, store: str) -> None:
    if store == "postgres":
        await pool.execute("INSERT INTO tracestone.schema_migrations VALUES (999, 'future', 'x')")
    else:
        await columnar.command("INSERT INTO schema_migrations (version, name, checksum) VALUES (999, 'future', 'x')")
    with pytest.raises(StartRefused, match=f"The {store} schema is at version 999, newer than this code"):
        await migrate(pool, columnar)


async def test_the_lock_is_free_after_a_refusal(pool: Pool, columnar: Columnar) -> None:
    await pool.execute("UPDATE tracestone.schema_migrations SET checksum = 'another' WHERE version = 1")
    for _ in range(2):
        async with asyncio.timeout(10):
            with pytest.raises(StartRefused):
                await migrate(pool, columnar)


async def test_databases_do_not_share_anything(postgres_server: str, chdb_url: str) -> None:
    async with (
        fresh_stores(postgres_server, chdb_url) as (_, one),
        fresh_stores(postgres_server, chdb_url) as (_, two),
    ):
        await one.command("DROP TABLE trace_rows")
        assert await two.query("SELECT count() AS n FROM trace_rows") == [{"n": 0}]


@pytest.mark.parametrize("store", ["postgres", "clickhouse"])
def test_files(store: sqlfiles.Store) -> None:
    migrations = sqlfiles.migrations(store)
    names = sorted(path.name for path in (SQL / store / "migrations").iterdir())
    assert names == [f"{each.version:04d}_{each.name}.sql" for each in migrations]
    for each in migrations:
        first = each.text.splitlines()[0]
        assert first.startswith(("-- not blocking", "-- blocking")), f"{each.name}: says first whether it blocks"
        assert each.statements()
        if store == "postgres":
            assert ", pre" in first or ", post" in first, f"{each.name}: says first on which side of a release it runs"
