"""The outbox from a real Postgres into a real ClickHouse."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from support.faulty_columnar import FaultyColumnar
from tracestone.schema.assessments import Assessment, AssessmentChange, AssessmentError, Verdict
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.errors import StorageDown
from tracestone.schema.stores.assessments import AssessmentStore
from tracestone.schema.stores.experiments import ExperimentStore
from tracestone.schema.stores.outbox import Outbox

TRACE = "ab" * 16
FEEDBACK = Assessment(3, "trace", "quality", "feedback", "HUMAN", trace_id=TRACE, value="yes", source_id="ada")
VERDICT = Assessment(
    3,
    "span",
    "tone",
    "feedback",
    "LLM_JUDGE",
    trace_id=TRACE,
    span_id="12" * 8,
    error=AssessmentError("TIMEOUT", "too\nslow"),
    scorer_name="judge",
    scorer_version=2,
    probability=0.25,
    cost_usd=0.001,
    input_tokens=10,
    output_tokens=2,
    metadata={"k": "v \t ü"},
    created_at_ms=1_700_000_000_123,
)


@pytest.fixture
def outbox(pool: Pool, columnar: Columnar) -> Outbox:
    return Outbox(pool, columnar)


async def rows(columnar: Columnar, sql: str = "SELECT * FROM assessments ORDER BY name") -> list[dict[str, Any]]:
    return await columnar.query(sql)


async def test_default_experiment_reaches_clickhouse(outbox: Outbox, columnar: Columnar) -> None:
    await outbox.deliver(100)
    (default,) = await rows(columnar, "SELECT experiment_id, name, lifecycle_stage FROM experiments")
    assert default == {"experiment_id": 0, "name": "Default", "lifecycle_stage": "active"}


async def test_assessment_reaches_clickhouse_whole(pool: Pool, outbox: Outbox, columnar: Columnar) -> None:
    stored = await AssessmentStore(pool).record(VERDICT)
    await outbox.deliver(100)
    (row,) = await rows(columnar)
    assert row["created_at"].replace(tzinfo=UTC) == datetime.fromtimestamp(1_700_000_000.123, UTC)
    expected = {
        "assessment_id": stored.assessment_id,
        "experiment_id": 3,
        "target_type": "span",
        "trace_id": TRACE,
        "span_id": "12" * 8,
        "session_id": "",
        "name": "tone",
        "kind": "feedback",
        "value": "",
        "value_number": None,
        "error_code": "TIMEOUT",
        "error": "TIMEOUT: too\nslow",
        "source_type": "LLM_JUDGE",
        "scorer_name": "judge",
        "scorer_version": 2,
        "probability": 0.25,
        "cost_usd": 0.001,
        "input_tokens": 10,
        "output_tokens": 2,
        "metadata": {"k": "v \t ü"},
        "valid": True,
    }
    assert {name: row[name] for name in expected} == expected


async def test_last_state_wins_in_whatever_order_it_comes(pool: Pool, outbox: Outbox, columnar: Columnar) -> None:
    store = AssessmentStore(pool)
    stored = await store.create(FEEDBACK)
    for number in range(5):
        await store.update(TRACE, stored.assessment_id, AssessmentChange(verdict=Verdict("feedback", number)))
    await pool.execute("UPDATE tracestone.outbox SET not_before = now() + interval '1 hour' WHERE id % 2 = 0")
    await outbox.deliver(100)
    await pool.execute("UPDATE tracestone.outbox SET not_before = now()")
    await outbox.deliver(100)
    assert [(row["value"], row["value_number"]) for row in await rows(columnar)] == [("4", 4.0)]


async def test_deleted_assessment_disappears_and_stays_away(pool: Pool, outbox: Outbox, columnar: Columnar) -> None:
    store = AssessmentStore(pool)
    stored = await store.create(FEEDBACK)
    kept = await store.create(replace(FEEDBACK, name="kept"))
    await outbox.deliver(100)
    await store.delete(TRACE, stored.assessment_id)
    await outbox.deliver(100)
    assert [row["assessment_id"] for row in await rows(columnar)] == [kept.assessment_id]
    await columnar.command("OPTIMIZE TABLE assessment_rows FINAL")
    assert [row["assessment_id"] for row in await rows(columnar)] == [kept.assessment_id]


async def test_delivered_twice_counts_once(pool: Pool, outbox: Outbox, columnar: Columnar) -> None:
    await AssessmentStore(pool).create(FEEDBACK)
    await pool.execute("CREATE TABLE again AS SELECT relation, payload FROM tracestone.outbox")
    await outbox.deliver(100)
    await pool.execute("INSERT INTO tracestone.outbox (relation, payload) SELECT relation, payload FROM again")
    await outbox.deliver(100)
    assert len(await rows(columnar)) == 1


async def test_several_at_once_deliver_each_row_and_leave_none(pool: Pool, outbox: Outbox, columnar: Columnar) -> None:
    store = AssessmentStore(pool)
    for number in range(40):
        await store.create(replace(FEEDBACK, name=f"n{number}"))
    while (await outbox.backlog()).rows:
        await asyncio.gather(*(outbox.deliver(5) for _ in range(4)))
    assert len(await rows(columnar)) == 40


async def test_a_delivery_is_bounded_in_bytes(pool: Pool, outbox: Outbox) -> None:
    await outbox.deliver(100)
    store = AssessmentStore(pool)
    for _ in range(5):
        await store.create(replace(FEEDBACK, rationale="x" * 10_000))
    assert await outbox.deliver(100, limit_bytes=25_000) == 3
    assert await outbox.deliver(100, limit_bytes=1) == 1, "a row over the limit still goes, alone"
    assert (await outbox.backlog()).rows == 1


async def test_change_and_outbox_commit_together(pool: Pool, outbox: Outbox) -> None:
    await outbox.deliver(100)
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await AssessmentStore(pool).record(VERDICT, connection)
        await transaction.rollback()
    assert (await outbox.backlog()).rows == 0


async def test_a_refused_row_does_not_hold_up_others(pool: Pool, outbox: Outbox, columnar: Columnar) -> None:
    store = AssessmentStore(pool)
    bad = await store.create(FEEDBACK)
    good = await store.create(replace(FEEDBACK, name="good"))
    await pool.execute(
        """UPDATE tracestone.outbox SET payload = payload || '{"experiment_id": "not a number"}'
        WHERE payload ->> 'assessment_id' = $1""",
        bad.assessment_id,
    )
    await outbox.deliver(100)
    assert [row["assessment_id"] for row in await rows(columnar)] == [good.assessment_id]
    backlog = await outbox.backlog()
    assert (backlog.rows, backlog.refused) == (1, 1)
    assert "experiment_id" in backlog.last_error
    assert await outbox.deliver(100) == 0, "a refused row is not tried again at once"
    await pool.execute(
        """UPDATE tracestone.outbox SET not_before = now(), payload = payload || '{"experiment_id": 3}'"""
    )
    await outbox.deliver(100)
    assert len(await rows(columnar)) == 2


async def test_nothing_leaves_the_outbox_while_clickhouse_is_away(
    pool: Pool, columnar: Columnar, chdb_url: str
) -> None:
    faulty = FaultyColumnar(chdb_url, database=columnar.database)
    await faulty.open()
    try:
        faulty.away = True
        outbox = Outbox(pool, faulty)
        with pytest.raises(StorageDown):
            await outbox.deliver(100)
        assert (await outbox.backlog()).rows == 1
        faulty.away = False
        await outbox.deliver(100)
        assert (await outbox.backlog()).rows == 0
        assert len(await rows(columnar, "SELECT * FROM experiments")) == 1
    finally:
        await faulty.close()


async def test_experiments_follow_their_changes(pool: Pool, outbox: Outbox, columnar: Columnar) -> None:
    store = ExperimentStore(pool, 100)
    created = await store.create("checkout", tags={"team": "a"})
    await store.rename(created.experiment_id, "till")
    await store.delete(created.experiment_id)
    await outbox.deliver(100)
    (row,) = await rows(columnar, "SELECT * FROM experiments WHERE experiment_id > 0")
    assert (row["name"], row["lifecycle_stage"], row["tags"]) == ("till", "deleted", {"team": "a"})
    assert row["artifact_location"] == f"mlflow-artifacts:/{created.experiment_id}"
