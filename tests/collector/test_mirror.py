"""The loop that delivers the outbox, on real stores."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio

from support.faulty_columnar import FaultyColumnar
from tracestone.collector.mirror import Mirror
from tracestone.schema.assessments import Assessment
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool, open_pool
from tracestone.schema.stores.assessments import AssessmentStore
from tracestone.schema.stores.outbox import Outbox

FEEDBACK = Assessment(3, "trace", "quality", "feedback", "HUMAN", trace_id="ab" * 16, value="yes")
NEVER = 3600.0


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await condition():
            await asyncio.sleep(0.02)


async def count(columnar: Columnar) -> int:
    (row,) = await columnar.query("SELECT count() AS rows FROM assessments")
    return int(row["rows"])


def settled(pool: Pool, columnar: Columnar) -> Callable[[], Awaitable[bool]]:
    async def nothing_waits() -> bool:
        return not (await Outbox(pool, columnar).backlog()).rows

    return nothing_waits


@pytest_asyncio.fixture
async def faulty(chdb_url: str, columnar: Columnar) -> AsyncIterator[FaultyColumnar]:
    client = FaultyColumnar(chdb_url, database=columnar.database)
    await client.open()
    yield client
    await client.close()


async def test_a_notification_wakes_it(pool: Pool, columnar: Columnar) -> None:
    mirror = Mirror(pool, columnar, poll_seconds=NEVER)
    await mirror.start()
    try:
        # Once what was there before is delivered and the loop listens, only a notification can wake it.
        await until(settled(pool, columnar))
        await until(lambda: listeners(pool))
        await asyncio.sleep(0.2)
        await AssessmentStore(pool).create(FEEDBACK)
        await until(settled(pool, columnar))
        assert await count(columnar) == 1
    finally:
        await mirror.stop()


async def listeners(pool: Pool) -> bool:
    sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query ILIKE 'LISTEN%'"
    return bool(await pool.fetchval(sql))


async def test_the_poll_finds_what_no_notification_told(pool: Pool, columnar: Columnar) -> None:
    await pool.execute("ALTER TABLE tracestone.outbox DISABLE TRIGGER outbox_announced")
    mirror = Mirror(pool, columnar, poll_seconds=0.05)
    await mirror.start()
    try:
        await until(settled(pool, columnar))
        await AssessmentStore(pool).create(FEEDBACK)
        await until(settled(pool, columnar))
        assert await count(columnar) == 1
    finally:
        await mirror.stop()


async def test_stopping_delivers_what_is_left(pool: Pool, columnar: Columnar) -> None:
    mirror = Mirror(pool, columnar, poll_seconds=NEVER)
    await mirror.start()
    await until(settled(pool, columnar))
    await pool.execute("ALTER TABLE tracestone.outbox DISABLE TRIGGER outbox_announced")
    store = AssessmentStore(pool)
    for _ in range(20):
        await store.create(FEEDBACK)
    await mirror.stop(within_seconds=30)
    assert await count(columnar) == 20


async def test_it_outlives_clickhouse_being_away(pool: Pool, faulty: FaultyColumnar) -> None:
    mirror = Mirror(pool, faulty, poll_seconds=0.05)
    faulty.away = True
    await mirror.start()
    try:
        await AssessmentStore(pool).create(FEEDBACK)

        async def noticed() -> bool:
            health = await mirror.health()
            return not health.ok and health.waiting == 2 and "ClickHouse" in health.problem

        await until(noticed)
        faulty.away = False
        await until(settled(pool, faulty))
        assert await count(faulty) == 1

        async def well() -> bool:
            return (await mirror.health()).ok

        await until(well)
    finally:
        await mirror.stop()


async def test_it_outlives_lost_connections_to_postgres(pool: Pool, postgres_url: str, columnar: Columnar) -> None:
    its_pool = await open_pool(postgres_url)
    mirror = Mirror(its_pool, columnar, poll_seconds=0.05)
    await mirror.start()
    try:
        await until(settled(pool, columnar))
        await pool.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await AssessmentStore(pool).create(FEEDBACK)
        await until(settled(pool, columnar))
        assert await count(columnar) == 1
        assert (await mirror.health()).problem == ""
    finally:
        await mirror.stop()
        await its_pool.close()


async def test_health_names_refused_rows(pool: Pool, columnar: Columnar) -> None:
    await pool.execute("""UPDATE tracestone.outbox SET payload = payload || '{"experiment_id": "x"}'""")
    mirror = Mirror(pool, columnar, poll_seconds=0.05)
    await mirror.start()
    try:

        async def refused() -> bool:
            return (await mirror.health()).problem == "ClickHouse refuses 1 rows"

        await until(refused)
    finally:
        await mirror.stop()


@pytest.mark.parametrize("started", [True, False])
async def test_stopping_twice_or_unstarted_is_no_error(pool: Pool, columnar: Columnar, started: bool) -> None:
    mirror = Mirror(pool, columnar)
    if started:
        await mirror.start()
    await mirror.stop()
    await mirror.stop()
    names: list[Any] = [task.get_name() for task in asyncio.all_tasks()]
    assert not [name for name in names if name.startswith("mirror")]


class Surprising(Columnar):
    """The real engine, except that inserts fail in a way that nobody foresaw while `surprises` is set."""

    surprises = True

    async def insert_bytes(self, table: str, payload: bytes, fmt: str, settings: Any) -> None:
        """Inserts, or raises RuntimeError."""
        if self.surprises:
            raise RuntimeError("nobody foresaw this")
        await super().insert_bytes(table, payload, fmt, settings)


async def test_an_error_that_nobody_foresaw_is_told_and_tried_again(
    pool: Pool, columnar: Columnar, chdb_url: str
) -> None:
    client = Surprising(chdb_url, database=columnar.database)
    await client.open()
    mirror = Mirror(pool, client, poll_seconds=0.05)
    await mirror.start()
    try:
        await AssessmentStore(pool).create(FEEDBACK)

        async def told() -> bool:
            return (await mirror.health()).problem == "nobody foresaw this"

        await until(told)
        client.surprises = False
        await until(settled(pool, columnar))
        assert await count(columnar) == 1
        await until(lambda: healthy(mirror))
    finally:
        await mirror.stop()
        await client.close()


async def healthy(mirror: Mirror) -> bool:
    return (await mirror.health()).ok
