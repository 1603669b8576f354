"""Scorers registered and started with the unmodified MLflow client, and what runs them here."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Literal

import httpx
import mlflow
import pytest
import pytest_asyncio
from mlflow.exceptions import MlflowException
from mlflow.genai.judges import make_judge
from mlflow.genai.scorers import (
    Guidelines,
    PIIDetection,
    RegexMatch,
    ResponseLength,
    Safety,
    ScorerSamplingConfig,
    ToolCallCorrectness,
    UserFrustration,
    delete_scorer,
    get_scorer,
    list_scorers,
    scorer,
)

from support.mlflow_server import mlflow_server, real_deps
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.errors import Invalid
from tracestone.schema.mlflow import serialized, trace_filter
from tracestone.schema.stores.scorers import ScorerStore

MODEL = "openai:/gpt-4o-mini"
FILTER = "attributes.status = 'OK' AND tag.team = 'a'"


@pytest_asyncio.fixture
async def client(pool: Pool, columnar: Columnar, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[..., Any]]:
    """Runs a blocking call of MLflow's client against the API."""
    async with mlflow_server(real_deps(pool, columnar)) as url:
        before = mlflow.get_tracking_uri()
        mlflow.set_tracking_uri(url)
        yield lambda call, *arguments, **fields: asyncio.to_thread(call, *arguments, **fields)
        mlflow.set_tracking_uri(before)


async def test_a_scorer_is_registered_listed_started_and_deleted(client: Any, pool: Pool) -> None:
    rules = Guidelines(name="house rules", guidelines=["Be brief"], model=MODEL)
    registered = await client(rules.register, experiment_id="0")
    await client(
        registered.start,
        experiment_id="0",
        sampling_config=ScorerSamplingConfig(
            sample_rate=0.25, filter_string="attributes.status = 'OK' AND tag.team = 'a'"
        ),
    )
    [listed] = await client(list_scorers, experiment_id="0")
    assert (listed.name, listed.sample_rate) == ("house rules", 0.25)
    assert listed.filter_string == FILTER
    assert isinstance(await client(get_scorer, name="house rules", experiment_id="0"), Guidelines)

    ours = ScorerStore(pool)
    [config] = await ours.configs()
    definition = await ours.get(config.scorer_name)
    assert (definition.name, definition.kind) == ("house-rules", "builtin_judge")
    assert definition.parameters.model_dump()["guidelines"] == ("Be brief",)
    assert (config.sample_rate, config.experiment_id) == (0.25, 0)
    assert config.filter == "state = 'OK' AND tags['team'] = 'a'"

    await client(Guidelines(name="house rules", guidelines=["Be kind"], model=MODEL).register, experiment_id="0")
    assert (await ours.get("house-rules")).version == 2
    await client(delete_scorer, name="house rules", experiment_id="0", version="all")
    assert await client(list_scorers, experiment_id="0") == []
    assert await ours.configs() == []


async def test_the_same_name_in_two_experiments_is_two_scorers(client: Any, pool: Pool) -> None:
    other = await client(mlflow.create_experiment, "other")
    await client(Safety(model=MODEL).register, experiment_id="0")
    await client(Safety(model="openai:/gpt-4o").register, experiment_id=other)
    ours = ScorerStore(pool)
    models = {one.name: one.parameters.model_dump()["model"] for one in await ours.latest()}
    assert models == {"safety": "openai/gpt-4o-mini", f"safety-{other}": "openai/gpt-4o"}


async def test_what_cannot_run_is_refused_with_the_reason(client: Any, pool: Pool) -> None:
    @scorer
    def own(outputs: str) -> bool:
        return bool(outputs)

    for one in (UserFrustration(name="no-model"), own):
        with pytest.raises(MlflowException):
            await client(one.register, experiment_id="0")
    assert await ScorerStore(pool).latest() == []


@pytest.mark.parametrize(
    ("made", "kind", "parameters"),
    [
        (RegexMatch(pattern="a+", case_insensitive=True), "regex_match", {"pattern": "a+", "ignore_case": True}),
        (ResponseLength(min_length=1, max_length=5, unit="words"), "response_length", {"unit": "words", "maximum": 5}),
        (PIIDetection(pii_types=["email"]), "pii_detection", {"pii_types": ["email"]}),
        (
            ToolCallCorrectness(model=MODEL, should_exact_match=True),
            "builtin_judge",
            {"judge": "ToolCallCorrectness", "should_exact_match": True, "model": "openai/gpt-4o-mini"},
        ),
        (
            make_judge(name="a", instructions="Is {{ outputs }} ok?", model=MODEL, feedback_value_type=bool),
            "judge",
            {"verdict": {"type": "bool"}},
        ),
        (
            make_judge(
                name="b", instructions="{{ conversation }}?", model=MODEL, feedback_value_type=Literal["x", "y"]
            ),
            "judge",
            {"verdict": {"type": "category", "categories": ["x", "y"]}},
        ),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_a_serialised_scorer_becomes_a_definition(made: Any, kind: str, parameters: dict[str, Any]) -> None:
    found = serialized.definition(json.dumps(made.model_dump()))
    assert found["kind"] == kind
    assert {name: found["parameters"][name] for name in parameters} == parameters


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not valid JSON"),
        ("[]", "must be a JSON object"),
        ("{}", "neither a built-in scorer"),
        (json.dumps({"call_source": "return 1"}), "kind code"),
        (json.dumps({"builtin_scorer_class": "Nonsense"}), "is not known"),
        (json.dumps({"builtin_scorer_class": "Safety"}), "names no model"),
        (json.dumps({"instructions_judge_pydantic_data": {"model": "gateway:/x"}}), "no provider's"),
    ],
)
def test_what_is_no_scorer_is_refused(text: str, reason: str) -> None:
    with pytest.raises(Invalid, match=reason):
        serialized.definition(text)


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("", ""),
        ("status = 'ERROR'", "state = 'ERROR'"),
        ("execution_time_ms > 2500", "duration_ns / 1e6 > 2500.0"),
        ("tags.`a'b` = 'it''s'", "tags['a\\'b'] = 'it\\'s'"),
        ("metadata.`mlflow.trace.session` = 's'", "session_id = 's'"),
        ("name IN ('a', 'b')", "root_name IN ('a', 'b')"),
    ],
)
def test_a_filter_becomes_a_condition(text: str, condition: str) -> None:
    assert trace_filter.condition(text) == condition


@pytest.mark.parametrize("text", ["run_id = 'x'", "span.name = 'x'", "execution_time_ms > 'fast'", "status RLIKE 'x'"])
def test_a_filter_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="filter_string"):
        trace_filter.condition(text)


async def test_bad_requests_are_answered_in_mlflows_terms(shared_api: httpx.AsyncClient) -> None:
    path = "/api/3.0/mlflow/scorers"
    missing = await shared_api.get(f"{path}/get", params={"experiment_id": "0", "name": "none"})
    assert (missing.status_code, missing.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    for body in ({"sample_rate": 2}, {"sample_rate": "a lot"}, {"sample_rate": True}):
        refused = await shared_api.put(f"{path}/online-config", json={"experiment_id": "0", "name": "none"} | body)
        assert refused.status_code in (400, 404)
