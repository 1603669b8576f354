"""Assessments on a real Postgres."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from tracestone.schema.assessments import (
    Assessment,
    AssessmentChange,
    AssessmentError,
    Verdict,
    value_number,
    value_text,
)
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.errors import Invalid, NotFound
from tracestone.schema.stores.assessments import MAX_PER_TRACE, AssessmentStore, _columns

TRACE = "ab" * 16
OTHER_TRACE = "cd" * 16
FEEDBACK = Assessment(7, "trace", "quality", "feedback", "HUMAN", trace_id=TRACE, value=0.5, source_id="ada")
VERDICT = Assessment(
    7,
    "trace",
    "quality",
    "feedback",
    "LLM_JUDGE",
    trace_id=TRACE,
    value=True,
    rationale="because",
    scorer_name="judge",
    scorer_version=1,
    probability=0.25,
    cost_usd=0.001,
    input_tokens=10,
    output_tokens=2,
)


@pytest.fixture
def store(pool: Pool) -> AssessmentStore:
    return AssessmentStore(pool)


@pytest.mark.parametrize("value", [None, True, 3, 0.1, "", "naïve ✓", [1, "a", None], {"a": {"b": [1.5]}}, 2**60])
async def test_value_reads_back_as_it_was(store: AssessmentStore, value: Any) -> None:
    stored = await store.create(replace(FEEDBACK, value=value))
    found = await store.get(TRACE, stored.assessment_id)
    assert found == stored
    assert found.value == value
    assert type(found.value) is type(value)


async def test_all_fields_read_back(store: AssessmentStore) -> None:
    given = replace(
        VERDICT,
        target_type="span",
        span_id="12" * 8,
        error=AssessmentError("TIMEOUT", "too slow", "stack"),
        metadata={"k": "v"},
        value=None,
        created_at_ms=1_700_000_000_123,
    )
    stored = await store.create(given)
    assert stored.assessment_id.startswith("a-") and len(stored.assessment_id) == 34
    assert stored.updated_at_ms > stored.created_at_ms
    assert stored == replace(given, assessment_id=stored.assessment_id, updated_at_ms=stored.updated_at_ms)


async def test_update_changes_only_what_is_given(store: AssessmentStore, pool: Pool) -> None:
    stored = await store.create(replace(FEEDBACK, metadata={"a": "1", "b": "1"}, rationale="first"))
    changed = await store.update(
        TRACE,
        stored.assessment_id,
        AssessmentChange(verdict=Verdict("feedback", "yes"), metadata={"b": "2"}),
    )
    assert (changed.value, changed.rationale, changed.name) == ("yes", "first", "quality")
    assert changed.metadata == {"a": "1", "b": "2"}
    assert changed.created_at_ms == stored.created_at_ms
    history = await pool.fetch("SELECT operation, revision, was FROM tracestone.assessment_history")
    assert [(row["operation"], row["revision"], row["was"]["value"]) for row in history] == [("UPDATE", 1, 0.5)]


async def test_update_can_set_and_clear_an_error(store: AssessmentStore) -> None:
    stored = await store.create(FEEDBACK)
    failed = Verdict("feedback", None, AssessmentError("BROKEN", "it broke"))
    changed = await store.update(TRACE, stored.assessment_id, AssessmentChange(verdict=failed))
    assert (changed.value, changed.error) == (None, AssessmentError("BROKEN", "it broke"))
    changed = await store.update(TRACE, stored.assessment_id, AssessmentChange(verdict=Verdict("feedback", 1)))
    assert (changed.value, changed.error) == (1, None)


async def test_kind_cannot_change(store: AssessmentStore) -> None:
    stored = await store.create(FEEDBACK)
    with pytest.raises(Invalid):
        await store.update(TRACE, stored.assessment_id, AssessmentChange(verdict=Verdict("expectation", 1)))


async def test_assessment_of_another_trace_is_not_found(store: AssessmentStore) -> None:
    stored = await store.create(FEEDBACK)
    with pytest.raises(NotFound):
        await store.get(OTHER_TRACE, stored.assessment_id)
    with pytest.raises(NotFound):
        await store.update(OTHER_TRACE, stored.assessment_id, AssessmentChange(name="x"))
    assert not await store.delete(OTHER_TRACE, stored.assessment_id)
    assert await store.delete(TRACE, stored.assessment_id)
    assert not await store.delete(TRACE, stored.assessment_id)


async def test_overriding_makes_invalid_and_deleting_restores(store: AssessmentStore) -> None:
    machine = await store.record(VERDICT)
    person = await store.create(replace(FEEDBACK, overrides=machine.assessment_id))
    second = await store.create(replace(FEEDBACK, overrides=machine.assessment_id))
    assert not (await store.get(TRACE, machine.assessment_id)).valid
    await store.delete(TRACE, person.assessment_id)
    assert not (await store.get(TRACE, machine.assessment_id)).valid
    await store.delete(TRACE, second.assessment_id)
    assert (await store.get(TRACE, machine.assessment_id)).valid


async def test_overriding_something_unknown_stores_nothing(store: AssessmentStore) -> None:
    with pytest.raises(NotFound):
        await store.create(replace(FEEDBACK, overrides="a-unknown"))
    assert await store.by_trace(7, TRACE) == []


async def test_by_traces_in_order_of_creation(store: AssessmentStore) -> None:
    late = await store.create(replace(FEEDBACK, created_at_ms=2000))
    early = await store.create(replace(FEEDBACK, created_at_ms=1000, target_type="span", span_id="1" * 16))
    other = await store.create(replace(FEEDBACK, trace_id=OTHER_TRACE))
    found = await store.by_traces([(7, TRACE), (7, OTHER_TRACE), (7, "ee" * 16)])
    assert found == {(7, TRACE): [early, late], (7, OTHER_TRACE): [other]}


async def test_the_same_trace_id_in_another_experiment_is_another_trace(store: AssessmentStore) -> None:
    own = await store.create(FEEDBACK)
    foreign = [await store.create(replace(FEEDBACK, experiment_id=experiment)) for experiment in (8, 8, 9)]
    assert await store.by_trace(7, TRACE) == [own]
    assert await store.by_traces([(8, TRACE), (9, TRACE)]) == {(8, TRACE): foreign[:2], (9, TRACE): foreign[2:]}
    assert [await store.elsewhere(number, TRACE) for number in (7, 8, 9, 10)] == [3, 2, 3, 4]
    assert [await store.elsewhere(7, TRACE, among) for among in ([], [7], [8], [7, 9])] == [0, 0, 2, 1]
    assert await store.elsewhere(7, OTHER_TRACE) == 0


async def test_assessments_of_a_trace_are_found_by_an_index(store: AssessmentStore, pool: Pool) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL enable_seqscan = off")
        for name, values in (
            ("by_traces", ([7], [TRACE])),
            ("count_of_trace", (TRACE, 7, 10)),
            ("count_elsewhere", (TRACE, 7, None, 10)),
            ("observe", ([_columns(FEEDBACK)], ["a-1"], 10)),
        ):
            rows = await connection.fetch(f"EXPLAIN {store._sql[name]}", *values)
            plan = "\n".join(row[0] for row in rows)
            assert "assessments_of_trace" in plan and "Seq Scan on assessments" not in plan, f"{name}:\n{plan}"


async def test_a_trace_holds_a_bounded_number(store: AssessmentStore, pool: Pool) -> None:
    await store.create(FEEDBACK)
    await pool.execute(
        """INSERT INTO tracestone.assessments
        SELECT (jsonb_populate_record(a, jsonb_build_object('assessment_id', 'copy-' || n))).*
        FROM tracestone.assessments AS a, generate_series(2, $1) AS n""",
        MAX_PER_TRACE,
    )
    with pytest.raises(Invalid):
        await store.create(FEEDBACK)
    await store.create(replace(FEEDBACK, trace_id=OTHER_TRACE))
    await store.create(replace(FEEDBACK, experiment_id=8))
    await store.record(VERDICT)


async def test_one_verdict_per_target_and_version(store: AssessmentStore) -> None:
    raced = await asyncio.gather(*(store.record(replace(VERDICT, value=n)) for n in range(16)))
    assert len({(verdict.assessment_id, verdict.value) for verdict in raced}) == 1
    again = await store.record(VERDICT)
    assert again == raced[0]
    others = [
        await store.record(replace(VERDICT, scorer_version=2)),
        await store.record(replace(VERDICT, scorer_name="other")),
        await store.record(replace(VERDICT, name="tone")),
        await store.record(replace(VERDICT, trace_id=OTHER_TRACE)),
        await store.record(replace(VERDICT, target_type="span", span_id="1" * 16)),
        await store.record(replace(VERDICT, target_type="session", trace_id="", session_id="s" * 5000)),
        await store.record(
            replace(VERDICT, target_type="session", trace_id="", session_id="s" * 5000, experiment_id=8)
        ),
    ]
    assert len({verdict.assessment_id for verdict in [again, *others]}) == 1 + len(others)


async def test_record_is_part_of_the_callers_transaction(store: AssessmentStore, pool: Pool) -> None:
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await store.record(VERDICT, connection)
        await transaction.rollback()
    assert await store.by_trace(7, TRACE) == []
    async with pool.acquire() as connection, connection.transaction():
        stored = await store.record(VERDICT, connection)
        assert await store.record(VERDICT, connection) == stored
    assert await store.by_trace(7, TRACE) == [stored]


async def test_what_a_judge_may_say_is_stored(store: AssessmentStore) -> None:
    said = replace(VERDICT, rationale="a\x00b\ud800", value={"k\x00": ["\x00"]}, metadata={"m": "\x00"})
    stored = await store.record(said)
    assert (stored.rationale, stored.value, stored.metadata) == (
        "a\ufffdb?",
        {"k\ufffd": ["\ufffd"]},
        {"m": "\ufffd"},
    )


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("target_type", {"span_id": "1" * 16}),
        ("target_type", {"trace_id": ""}),
        ("target_type", {"target_type": "session"}),
        ("target_type", {"target_type": "run"}),
        ("kind", {"kind": "issue"}),
        ("expectation", {"kind": "expectation", "value": None}),
        ("assessment_name", {"name": ""}),
        ("assessment_name", {"name": "x" * 251}),
        ("source_type", {"source_type": "ROBOT"}),
        ("metadata", {"metadata": {"k": "v" * 70_000}}),
        ("rationale", {"rationale": "x" * 300_000}),
        ("value", {"value": ["x" * 300_000]}),
        ("error", {"error": AssessmentError("X", "x" * 300_000)}),
        ("scorer_version", {"scorer_version": None}),
        ("scorer_version", {"scorer_name": ""}),
        ("probability", {"probability": 0.0}),
        ("probability", {"probability": float("nan")}),
        ("cost_usd", {"cost_usd": float("inf")}),
        ("input_tokens", {"input_tokens": -1}),
    ],
)
def test_contradictions_are_refused(field: str, change: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as refusal:
        replace(VERDICT, **change)
    assert refusal.value.field == field


@pytest.mark.parametrize(
    ("value", "text", "number"),
    [
        (True, "true", 1.0),
        (False, "false", 0.0),
        ("yes", "yes", 1.0),
        ("No", "No", 0.0),
        ("TRUE", "TRUE", 1.0),
        ("maybe", "maybe", None),
        ("3", "3", None),
        (3, "3", 3.0),
        (0.25, "0.25", 0.25),
        (10**400, str(10**400), None),
        (None, "", None),
        ([1, "ü"], '[1, "ü"]', None),
        ({"a": True}, '{"a": true}', None),
    ],
)
def test_value_in_sql(value: Any, text: str, number: float | None) -> None:
    assert value_text(value) == text
    assert value_number(value) == number
