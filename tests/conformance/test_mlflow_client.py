"""The unmodified MLflow client against our API, on the real stores."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import (
    AssessmentError,
    AssessmentSource,
    AssessmentSourceType,
    Expectation,
    Feedback,
    ViewType,
)
from mlflow.exceptions import MlflowException

from support.mlflow_server import TRACE_NS, StoredTrace
from tracestone.schema.assessments import Assessment
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.stores.assessments import AssessmentStore
from tracestone.schema.stores.outbox import Outbox

T = TypeVar("T")

UNKNOWN_TRACE = "tr-" + "9" * 32


async def blocking(call: Callable[[], T]) -> T:
    """The client is synchronous, and the server runs in this event loop."""
    return await asyncio.to_thread(call)


@pytest.fixture
def client(mlflow_url: str) -> Iterator[MlflowClient]:
    mlflow.set_tracking_uri(mlflow_url)
    yield MlflowClient(mlflow_url)
    mlflow.set_tracking_uri(None)


async def test_set_experiment_creates_once_and_finds_again(client: MlflowClient) -> None:
    first = await blocking(lambda: mlflow.set_experiment("checkout"))
    second = await blocking(lambda: mlflow.set_experiment("checkout"))
    assert first.experiment_id == second.experiment_id
    assert (first.name, first.lifecycle_stage) == ("checkout", "active")
    assert first.artifact_location == f"mlflow-artifacts:/{first.experiment_id}"
    by_id = await blocking(lambda: mlflow.set_experiment(experiment_id=first.experiment_id))
    assert by_id.name == "checkout"


async def test_default_experiment(client: MlflowClient) -> None:
    default = await blocking(lambda: client.get_experiment_by_name("Default"))
    assert default is not None
    assert default.experiment_id == "0"
    assert await blocking(lambda: client.get_experiment_by_name("no such")) is None


async def test_life_of_an_experiment(client: MlflowClient) -> None:
    experiment_id = await blocking(lambda: client.create_experiment("checkout", tags={"team": "a"}))
    await blocking(lambda: client.set_experiment_tag(experiment_id, "owner", "ada"))
    await blocking(lambda: client.delete_experiment_tag(experiment_id, "team"))
    await blocking(lambda: client.rename_experiment(experiment_id, "till"))
    found = await blocking(lambda: client.get_experiment(experiment_id))
    assert (found.name, found.tags) == ("till", {"owner": "ada"})
    assert found.last_update_time >= found.creation_time
    await blocking(lambda: client.delete_experiment(experiment_id))
    assert (await blocking(lambda: client.get_experiment(experiment_id))).lifecycle_stage == "deleted"
    with pytest.raises(MlflowException, match="deleted"):
        await blocking(lambda: mlflow.set_experiment("till"))
    await blocking(lambda: client.restore_experiment(experiment_id))
    assert (await blocking(lambda: client.get_experiment(experiment_id))).lifecycle_stage == "active"


async def test_taken_name(client: MlflowClient) -> None:
    await blocking(lambda: client.create_experiment("checkout"))
    with pytest.raises(MlflowException) as refusal:
        await blocking(lambda: client.create_experiment("checkout"))
    assert refusal.value.error_code == "RESOURCE_ALREADY_EXISTS"


async def test_search_experiments(client: MlflowClient) -> None:
    for name in ("alpha", "beta", "Alphabet"):
        await blocking(lambda name=name: client.create_experiment(name, tags={"name": name}))  # type: ignore[misc]
    await blocking(lambda: client.delete_experiment(client.get_experiment_by_name("beta").experiment_id))

    async def names(**question: Any) -> list[str]:
        return [found.name for found in await blocking(lambda: mlflow.search_experiments(**question))]

    assert set(await names()) == {"alpha", "Alphabet", "Default"}
    assert await names(filter_string="name ILIKE 'alpha%'", order_by=["name DESC"]) == ["alpha", "Alphabet"]
    assert await names(filter_string="tags.name = 'alpha' AND name LIKE 'a%'") == ["alpha"]
    assert await names(view_type=ViewType.DELETED_ONLY) == ["beta"]
    first = await blocking(lambda: client.search_experiments(max_results=2, order_by=["experiment_id"]))
    assert [found.name for found in first] == ["Default", "alpha"]
    assert first.token
    rest = await blocking(
        lambda: client.search_experiments(max_results=2, order_by=["experiment_id"], page_token=first.token)
    )
    assert [found.name for found in rest] == ["Alphabet"]
    assert not rest.token


async def test_get_trace(client: MlflowClient, stored_trace: StoredTrace) -> None:
    trace = await blocking(lambda: mlflow.get_trace(f"tr-{stored_trace.trace_id}"))
    assert trace is not None
    assert trace.info.experiment_id == str(stored_trace.experiment_id)
    assert trace.info.state.value == "ERROR"
    assert trace.info.tags["mlflow.traceName"] == "answer"
    assert trace.info.token_usage == {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
    assert trace.info.trace_metadata["mlflow.trace.session"] == "conversation-1"
    spans = {span.name: span for span in trace.data.spans}
    assert set(spans) == {"answer", "chat", "look up"}
    assert spans["answer"].parent_id is None
    assert spans["chat"].parent_id == spans["look up"].parent_id == spans["answer"].span_id
    assert spans["chat"].attributes["gen_ai.usage.input_tokens"] == 10
    assert spans["chat"].attributes["gen_ai.response.finish_reasons"] == ["stop"]
    assert spans["chat"].attributes["app.cached"] is False
    assert spans["chat"].attributes["app.temperature"] == 0.5
    assert spans["look up"].status.status_code.value == "ERROR"
    assert spans["look up"].events[0].name == "exception"
    assert trace.info.execution_duration == TRACE_NS // 1_000_000
    batch = await blocking(lambda: mlflow.tracking._get_store().batch_get_traces([f"tr-{stored_trace.trace_id}"]))
    assert [found.info.trace_id for found in batch] == [trace.info.trace_id]
    infos = await blocking(
        lambda: mlflow.tracking._get_store().batch_get_trace_infos([trace.info.trace_id, UNKNOWN_TRACE])
    )
    assert [info.trace_id for info in infos] == [trace.info.trace_id]


async def test_unknown_trace(client: MlflowClient) -> None:
    with pytest.raises(MlflowException) as refusal:
        await blocking(lambda: client.get_trace(UNKNOWN_TRACE))
    assert refusal.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    with pytest.raises(MlflowException) as refusal:
        await blocking(lambda: mlflow.log_feedback(trace_id=UNKNOWN_TRACE, name="x", value=1))
    assert refusal.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    with pytest.raises(MlflowException) as refusal:
        await blocking(lambda: mlflow.delete_assessment(trace_id=UNKNOWN_TRACE, assessment_id="a-1"))
    assert refusal.value.error_code == "RESOURCE_DOES_NOT_EXIST"


@pytest.mark.parametrize("value", [True, False, 0.5, 3, "good", ["a", 1], {"correct": True, "tone": "kind"}])
async def test_log_feedback(client: MlflowClient, stored_trace: StoredTrace, value: Any) -> None:
    trace_id = f"tr-{stored_trace.trace_id}"
    source = AssessmentSource(AssessmentSourceType.HUMAN, "ada@example.com")
    logged = await blocking(
        lambda: mlflow.log_feedback(
            trace_id=trace_id,
            name="quality",
            value=value,
            source=source,
            rationale="it says why",
            metadata={"round": "1"},
        )
    )
    assert logged.assessment_id is not None
    found = await blocking(lambda: mlflow.get_assessment(trace_id, logged.assessment_id))
    assert isinstance(found, Feedback)
    assert (found.value, isinstance(found.value, bool)) == (value, isinstance(value, bool))
    assert (found.source, found.rationale, found.metadata) == (source, "it says why", {"round": "1"})
    assert (found.trace_id, found.span_id, found.valid) == (trace_id, None, True)
    assert found.create_time_ms == logged.create_time_ms


async def test_feedback_on_a_span(client: MlflowClient, stored_trace: StoredTrace) -> None:
    trace_id = f"tr-{stored_trace.trace_id}"
    logged = await blocking(
        lambda: mlflow.log_feedback(trace_id=trace_id, name="x", value=1, span_id=stored_trace.span_id)
    )
    assert logged.span_id == stored_trace.span_id


async def test_feedback_that_is_an_error(client: MlflowClient, stored_trace: StoredTrace) -> None:
    error = AssessmentError("RATE_LIMIT_EXCEEDED", "too many", "line 1")
    logged = await blocking(lambda: mlflow.log_feedback(trace_id=f"tr-{stored_trace.trace_id}", name="x", error=error))
    assert isinstance(logged, Feedback)
    assert (logged.value, logged.error) == (None, error)


@pytest.mark.parametrize("value", ["Paris", 4, False, {"facts": ["a", "b"]}, ["a"]])
async def test_log_expectation(client: MlflowClient, stored_trace: StoredTrace, value: Any) -> None:
    trace_id = f"tr-{stored_trace.trace_id}"
    logged = await blocking(lambda: mlflow.log_expectation(trace_id=trace_id, name="expected_response", value=value))
    found = await blocking(lambda: mlflow.get_assessment(trace_id, logged.assessment_id or ""))
    assert isinstance(found, Expectation)
    assert found.value == value
    assert found.source.source_type == "HUMAN"


async def test_update_assessment(client: MlflowClient, stored_trace: StoredTrace) -> None:
    trace_id = f"tr-{stored_trace.trace_id}"
    logged = await blocking(
        lambda: mlflow.log_feedback(trace_id=trace_id, name="x", value=1, metadata={"a": "1", "b": "1"})
    )
    new = Feedback(name="y", value="yes", rationale="after all", metadata={"b": "2"})
    changed = await blocking(
        lambda: mlflow.update_assessment(trace_id=trace_id, assessment_id=logged.assessment_id or "", assessment=new)
    )
    assert isinstance(changed, Feedback)
    assert (changed.name, changed.value, changed.rationale) == ("y", "yes", "after all")
    assert changed.metadata == {"a": "1", "b": "2"}
    assert (changed.assessment_id, changed.create_time_ms) == (logged.assessment_id, logged.create_time_ms)
    with pytest.raises(MlflowException) as refusal:
        await blocking(
            lambda: mlflow.update_assessment(
                trace_id=trace_id,
                assessment_id=logged.assessment_id or "",
                assessment=Expectation(name="y", value=1),
            )
        )
    assert refusal.value.error_code == "INVALID_PARAMETER_VALUE"


async def test_override_and_delete(client: MlflowClient, stored_trace: StoredTrace, pool: Pool) -> None:
    trace_id = f"tr-{stored_trace.trace_id}"
    machine = await AssessmentStore(pool).record(
        Assessment(
            stored_trace.experiment_id,
            "trace",
            "quality",
            "feedback",
            "LLM_JUDGE",
            source_id="openai:/gpt",
            trace_id=stored_trace.trace_id,
            value=False,
            scorer_name="judge",
            scorer_version=2,
            probability=0.5,
            cost_usd=0.25,
        )
    )
    better = await blocking(
        lambda: mlflow.override_feedback(
            trace_id=trace_id, assessment_id=machine.assessment_id, value=True, rationale="the judge is wrong"
        )
    )
    assert better.overrides == machine.assessment_id
    trace = await blocking(lambda: mlflow.get_trace(trace_id))
    assert trace is not None
    found = {assessment.assessment_id: assessment for assessment in trace.info.assessments}
    assert (found[machine.assessment_id].valid, found[better.assessment_id].valid) == (False, True)
    assert found[machine.assessment_id].metadata == {
        "mlflow.assessment.scorerName": "judge",
        "mlflow.assessment.scorerVersion": "2",
        "mlflow.assessment.judgeCost": "0.25",
    }
    await blocking(lambda: mlflow.delete_assessment(trace_id=trace_id, assessment_id=better.assessment_id or ""))
    assert (await blocking(lambda: mlflow.get_assessment(trace_id, machine.assessment_id))).valid
    with pytest.raises(MlflowException) as refusal:
        await blocking(lambda: mlflow.get_assessment(trace_id, better.assessment_id or ""))
    assert refusal.value.error_code == "RESOURCE_DOES_NOT_EXIST"


async def test_feedback_appears_in_sql(
    client: MlflowClient, stored_trace: StoredTrace, pool: Pool, columnar: Columnar
) -> None:
    await blocking(
        lambda: mlflow.log_feedback(
            trace_id=f"tr-{stored_trace.trace_id}",
            name="quality",
            value="yes",
            metadata={"mlflow.assessment.judgeCost": "0.002", "mlflow.assessment.judgeInputTokens": "12"},
        )
    )
    await Outbox(pool, columnar).deliver(1000)
    (row,) = await columnar.query(
        "SELECT t.root_name AS root_name, a.value AS value, a.value_number AS value_number,"
        " a.source_type AS source_type, a.cost_usd AS cost_usd, a.input_tokens AS input_tokens, e.name AS experiment"
        " FROM assessments AS a JOIN traces AS t ON t.trace_id = a.trace_id"
        " JOIN experiments AS e ON e.experiment_id = a.experiment_id"
    )
    assert row == {
        "root_name": "answer",
        "value": "yes",
        "value_number": 1.0,
        "source_type": "CODE",
        "cost_usd": 0.002,
        "input_tokens": 12,
        "experiment": "Default",
    }
