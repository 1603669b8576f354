"""An evaluation event from outside becomes an assessment, once, whatever is repeated."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from support.engines import fresh_stores
from support.running import Running, running
from support.signals import SECOND, START, log, logs_request, post
from support.stored_assessments import assessments_of
from support.telemetry import export_request, otlp_span
from tracestone.schema.assessments import MAX_NAME_CHARACTERS, Assessment
from tracestone.schema.stores.assessments import MAX_PER_TRACE


@pytest_asyncio.fixture(scope="module")
async def receiver(
    postgres_server: str, chdb_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Running]:
    """A collector for the module."""
    folder: Path = tmp_path_factory.mktemp("collector")
    async with fresh_stores(postgres_server, chdb_url) as (pool, columnar), running(pool, columnar, folder) as started:
        yield started


@pytest.fixture
def trace() -> int:
    """The number of a trace that no other test uses."""
    return secrets.randbits(120) + 1


def _event(trace: int, span: int, *, at: int = START, **attributes: Any) -> LogRecord:
    named = {
        "gen_ai.evaluation.name": "relevance",
        **{key.replace("__", "."): value for key, value in attributes.items()},
    }
    return log(None, trace, span, at=at, event_name="gen_ai.evaluation.result", attributes=named)


async def _send(receiver: Running, *records: LogRecord, service: str = "evaluator", scope: str = "") -> None:
    await post(receiver, "logs", logs_request(*records, service=service, scope=scope).SerializeToString())
    await receiver.collector.barrier(("logs",))


async def _stored(receiver: Running, trace: int) -> list[Assessment]:
    return await assessments_of(receiver.collector.assessments, f"{trace:032x}")


async def test_every_field_of_an_evaluation(receiver: Running, trace: int) -> None:
    attributes = {
        "gen_ai.evaluation.score.value": 0.75,
        "gen_ai.evaluation.score.label": "good",
        "gen_ai.evaluation.explanation": "because",
        "gen_ai.evaluation.evaluator.version": "v2",
        "gen_ai.response.id": "r-1",
        "unrelated": "x",
    }
    await _send(receiver, _event(trace, 5, at=START + 7 * SECOND, **attributes), scope="my.evals")
    (found,) = await _stored(receiver, trace)
    experiment = await receiver.collector.experiments.by_name("evaluator")
    assert experiment is not None
    assert (found.target_type, found.trace_id, found.span_id) == ("span", f"{trace:032x}", f"{5:016x}")
    assert (found.name, found.kind, found.value, found.error) == ("relevance", "feedback", 0.75, None)
    assert (found.rationale, found.source_type, found.source_id) == ("because", "CODE", "my.evals")
    assert found.metadata == {
        "gen_ai.evaluation.score.label": "good",
        "gen_ai.evaluation.evaluator.version": "v2",
        "gen_ai.response.id": "r-1",
    }
    assert found.created_at_ms == (START + 7 * SECOND) // 10**6
    assert found.experiment_id == experiment.experiment_id  # the trace has not come yet
    async with asyncio.timeout(10):
        while not (
            rows := await receiver.rows(
                "SELECT value_number, span_id FROM assessments WHERE trace_id = {id:String}", id=f"{trace:032x}"
            )
        ):
            await asyncio.sleep(0.05)
    assert rows == [{"value_number": 0.75, "span_id": f"{5:016x}"}]


@pytest.mark.parametrize(
    ("attributes", "value", "code"),
    [
        ({"gen_ai.evaluation.score.value": 1}, 1, ""),
        ({"gen_ai.evaluation.score.value": True}, True, ""),
        ({"gen_ai.evaluation.score.value": 0.0, "gen_ai.evaluation.score.label": "fail"}, 0.0, ""),
        ({"gen_ai.evaluation.score.value": float("nan")}, "nan", ""),
        ({"gen_ai.evaluation.score.label": "fail"}, "fail", ""),
        ({"error.type": "TimeoutError"}, None, "TimeoutError"),
        ({}, None, ""),
    ],
)
async def test_the_value(receiver: Running, trace: int, attributes: dict[str, Any], value: Any, code: str) -> None:
    await _send(receiver, _event(trace, 0, **attributes))
    (found,) = await _stored(receiver, trace)
    assert (found.value, type(found.value)) == (value, type(value))
    assert (found.error.code if found.error else "") == code
    assert (found.target_type, found.source_id) == ("trace", "evaluator")


async def test_the_same_event_makes_one_assessment_however_often_it_comes(receiver: Running, trace: int) -> None:
    same, other = _event(trace, 1), _event(trace, 1, at=START + 1)
    await asyncio.gather(*(_send(receiver, same, same, other) for _ in range(5)))
    first = await _stored(receiver, trace)
    assert len(first) == 2
    store = receiver.collector.assessments
    assert await store.delete(f"{trace:032x}", first[0].assessment_id)
    await _send(receiver, same, other)
    assert await _stored(receiver, trace) == first[1:]  # what a person removed does not come back


async def test_the_experiment_is_the_trace_s(receiver: Running, trace: int) -> None:
    await post(
        receiver, "traces", export_request(otlp_span(trace, 1, start_ns=START), service="judged").SerializeToString()
    )
    await receiver.collector.barrier()
    await _send(receiver, _event(trace, 1))
    (found,) = await _stored(receiver, trace)
    experiment = await receiver.collector.experiments.by_name("judged")
    assert experiment is not None
    assert found.experiment_id == experiment.experiment_id


async def test_the_experiment_is_the_trace_s_also_while_the_trace_is_being_loaded(
    receiver: Running, trace: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    traces = next(each for each in receiver.collector._pipelines if each.signal.name == "traces")
    monkeypatch.setattr(traces.loader, "_age", lambda: 1.0)
    await asyncio.sleep(1.1)  # the loader asks again at least every second
    await post(
        receiver, "traces", export_request(otlp_span(trace, 1, start_ns=START), service="judged").SerializeToString()
    )
    await _send(receiver, _event(trace, 1))
    (found,) = await _stored(receiver, trace)
    experiment = await receiver.collector.experiments.by_name("judged")
    assert experiment is not None
    assert found.experiment_id == experiment.experiment_id


async def test_without_a_trace_the_response_names_the_span(receiver: Running, trace: int) -> None:
    response = secrets.token_hex(8)
    span = otlp_span(trace, 3, start_ns=START - SECOND, attributes={"gen_ai.response.id": response})
    await post(receiver, "traces", export_request(span, service="judged").SerializeToString())
    # The spans were acknowledged and may not be loaded yet: they are waited for.
    await _send(receiver, _event(0, 0, gen_ai__response__id=response), _event(0, 0, gen_ai__response__id="unknown"))
    (found,) = await _stored(receiver, trace)
    assert (found.target_type, found.span_id) == ("span", f"{3:016x}")
    assert found.metadata["gen_ai.response.id"] == response


async def test_what_cannot_be_an_assessment_stays_a_log_record(receiver: Running, trace: int) -> None:
    unnamed = log(None, trace, 1, event_name="gen_ai.evaluation.result")
    too_long = _event(trace, 1, **{"gen_ai.evaluation.name": "x" * (MAX_NAME_CHARACTERS + 1)})
    nul = _event(trace, 1, **{"gen_ai.evaluation.explanation": "a\x00b"})
    await _send(receiver, unnamed, too_long, nul, log("no event", trace, 1))
    assert [found.rationale for found in await _stored(receiver, trace)] == ["a\ufffdb"]
    (row,) = await receiver.rows("SELECT count() AS n FROM logs WHERE trace_id = {id:String}", id=f"{trace:032x}")
    assert row["n"] == 4


async def test_one_that_postgres_refuses_costs_no_other(
    receiver: Running, trace: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = _event(trace, 1, at=START + 3, gen_ai__evaluation__name="refused")
    pool = receiver.collector.assessments._pool
    check = "ALTER TABLE tracestone.assessments ADD CONSTRAINT no_such CHECK (name <> 'refused')"
    await pool.execute(check)
    try:
        await _send(
            receiver, *(_event(trace, 1, at=START + number) for number in range(3)), bad, _event(trace, 1, at=1)
        )
    finally:
        await pool.execute("ALTER TABLE tracestone.assessments DROP CONSTRAINT no_such")
    assert [found.name for found in await _stored(receiver, trace)] == ["relevance"] * 4


async def test_a_trace_takes_no_more_than_its_bound_also_when_a_batch_comes_again(
    receiver: Running, trace: int
) -> None:
    events = [_event(trace, 1, at=START + number) for number in range(MAX_PER_TRACE + 50)]
    half = MAX_PER_TRACE // 2
    await _send(receiver, *events[:half])
    await _send(receiver, *events)
    first = await _stored(receiver, trace)
    assert len(first) == MAX_PER_TRACE
    before = receiver.collector._evaluations.counts.copy()
    await _send(receiver, *events)
    assert await _stored(receiver, trace) == first
    assert receiver.collector._evaluations.counts - before == {"known": MAX_PER_TRACE, "over_bound": 50}


async def test_what_is_sent_from_one_experiment_takes_no_place_in_another(receiver: Running, trace: int) -> None:
    flood = [_event(trace, 1, at=START + number) for number in range(MAX_PER_TRACE + 50)]
    await _send(receiver, *flood, service="flooding")
    spans = export_request(otlp_span(trace, 1, start_ns=START), service="judged")
    await post(receiver, "traces", spans.SerializeToString())
    await receiver.collector.barrier()
    await _send(receiver, _event(trace, 1, at=1), service="judged")
    experiment = await receiver.collector.experiments.by_name("judged")
    assert experiment is not None
    (own,) = await receiver.collector.assessments.by_trace(experiment.experiment_id, f"{trace:032x}")
    assert own.created_at_ms == 0
    async with httpx.AsyncClient(base_url=receiver.url) as http:
        page = await http.get(f"/experiments/{experiment.experiment_id}/traces/{trace:032x}")
        told = await http.get(f"/api/3.0/mlflow/traces/tr-{trace:032x}")
    assert f"{MAX_PER_TRACE:,} under this trace id in other experiments" in page.text
    assert len(told.json()["trace"]["trace_info"]["assessments"]) == 1
