"""The judges that come with Tracestone: their prompt files, what each is told, and what becomes of its answer."""

import json
from typing import Any

import pytest

from support.openai_server import Answer, OpenAIServer
from support.traces import span, trace
from tracestone.schema.errors import Invalid
from tracestone.schema.scorers.builtin import BUILTINS, BuiltinJudge
from tracestone.schema.scorers.definition import define
from tracestone.scoring.judges import builtin, prompts
from tracestone.scoring.llm import LiteLLM
from tracestone.scoring.scorers.protocol import AttemptFailed, Outcome, Subject
from tracestone.scoring.scorers.subject import subject_of, subject_of_session

MLFLOW = {
    "RelevanceToQuery", "Correctness", "Equivalence", "Completeness", "Fluency", "Summarization", "Safety",
    "Guidelines",
    "ExpectationsGuidelines", "RetrievalRelevance", "RetrievalGroundedness", "RetrievalSufficiency",
    "ToolCallCorrectness", "ToolCallEfficiency", "ConversationCompleteness", "UserFrustration", "KnowledgeRetention",
    "ConversationalSafety", "ConversationalGuidelines", "ConversationalRoleAdherence",
    "ConversationalToolCallEfficiency",
}  # fmt: skip
EXPECTED = {
    "expected_response": "It arrives on Friday.",
    "guidelines": ["Be brief", "Name the day"],
    "expected_tool_calls": [{"name": "find_parcel", "arguments": {"id": 7}}],
}


def parameters(name: str, **fields: Any) -> BuiltinJudge:
    rules = {"guidelines": "Never promise a refund."} if BUILTINS[name].guidelines else {}
    return BuiltinJudge.model_validate({"judge": name, "model": "openai/gpt-4o-mini"} | rules | fields)


def agent_trace(answer: str = "On Friday.") -> Any:
    return trace(
        span(1, input="Where is my parcel?", output=answer, system_instructions="You are the shop's assistant."),
        span(2, 1, name="search", span_type="retriever", output=json.dumps(["Parcels take 3 days.", "We sell shoes."])),
        span(3, 1, name="tool", span_type="tool", tool_name="find_parcel", tool_arguments='{"id": 7}', output="Friday"),
    )


def target(name: str) -> Subject:
    if "session" in BUILTINS[name].targets:
        return subject_of_session("s", [agent_trace(), agent_trace("Still on Friday.")], expectations=EXPECTED)
    return subject_of(agent_trace(), EXPECTED)


async def outcome(name: str, provider: LiteLLM, subject: Subject | None = None, **fields: Any) -> Outcome:
    scorer = builtin.of_definition(parameters(name, **fields), provider)
    return await scorer.score(subject or target(name))


def test_they_are_mlflows() -> None:
    assert set(BUILTINS) == MLFLOW


@pytest.mark.parametrize("name", BUILTINS)
def test_every_version_of_a_prompt_is_a_file_with_a_worked_example(name: str) -> None:
    """The example fills every variable that the judge is told of, and its answer is one that the form takes."""
    one = BUILTINS[name]
    for version in range(1, one.prompt_version + 1):
        told = builtin.prompt(one.prompt, version)
        assert told.title == name
        assert len(told.measures) > 20
        assert len(told.limits) > 40
        wanted = set(prompts.VARIABLE.findall(told.instructions)) - {"guidelines", "expected"}
        answers = {key for key in told.example if key.startswith("document_")} or {"value"}
        assert set(told.example) == wanted | answers | {"rationale"}
        assert {told.example[key] for key in answers} <= set(one.labels or ("yes", "no"))
        assert all(f'"{label}"' in told.instructions for label in one.labels)


@pytest.mark.parametrize("name", [name for name in BUILTINS if name != "RetrievalRelevance"])
async def test_each_gives_one_of_its_labels(
    name: str, provider_server: OpenAIServer, litellm_provider: LiteLLM
) -> None:
    label = BUILTINS[name].labels[-1]
    provider_server.script = [Answer(json.dumps({"rationale": "Because.", "value": label}), 100, 10)]
    found = await outcome(name, litellm_provider, api_base=provider_server.url)
    assert (found.value, found.rationale, found.source_type) == (label, "Because.", "LLM_JUDGE")
    assert found.metadata == {"judge": name, "prompt_version": "1", "model": "gpt-4o-mini"}
    messages = provider_server.received[0].body["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    assert "{{" not in messages[-1]["content"]
    assert "(nothing recorded)" not in messages[-1]["content"] or "available_tools" in messages[-1]["content"].lower()
    if BUILTINS[name].guidelines:
        assert "- Never promise a refund." in messages[-1]["content"]


async def test_relevance_of_retrieval_is_a_share(provider_server: OpenAIServer, litellm_provider: LiteLLM) -> None:
    answers = {
        "document_1": {"rationale": "It tells how long.", "value": "yes"},
        "document_2": {"rationale": "Shoes.", "value": "no"},
    }
    provider_server.script = [Answer(json.dumps(answers), 100, 10)]
    found = await outcome("RetrievalRelevance", litellm_provider, api_base=provider_server.url)
    assert found.value == 0.5
    assert json.loads(found.metadata["documents"]) == {"document_1": "yes", "document_2": "no"}
    assert found.rationale.startswith("1 of 2 documents are relevant.")
    schema = provider_server.received[0].body["response_format"]["json_schema"]["schema"]
    assert schema["required"] == ["document_1", "document_2"]


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("Correctness", "NO_EXPECTATION"),
        ("Equivalence", "NO_EXPECTATION"),
        ("ExpectationsGuidelines", "NO_EXPECTATION"),
        ("RetrievalSufficiency", "NO_EXPECTATION"),
        ("RetrievalGroundedness", "NO_RETRIEVAL"),
        ("RetrievalRelevance", "NO_RETRIEVAL"),
        ("ToolCallEfficiency", "NO_TOOL_CALLS"),
    ],
)
async def test_without_what_it_needs_it_judges_nothing(
    name: str, code: str, provider_server: OpenAIServer, litellm_provider: LiteLLM
) -> None:
    bare = subject_of(trace(span(1, input="Hello?", output="Hi.")))
    with pytest.raises(AttemptFailed) as failed:
        await outcome(name, litellm_provider, bare, api_base=provider_server.url)
    assert (failed.value.code, failed.value.retryable) == (code, False)
    assert provider_server.received == []


CALLS = [{"name": "find_parcel", "arguments": {"id": 7}}, "greet"]


@pytest.mark.parametrize(
    ("expected", "ordered", "value"),
    [
        ([CALLS[0], CALLS[1]], False, "yes"),
        ([CALLS[1], CALLS[0]], False, "yes"),
        ([CALLS[1], CALLS[0]], True, "no"),
        ([CALLS[0], CALLS[1]], True, "yes"),
        ([CALLS[0]], False, "no"),
        ([{"name": "find_parcel", "arguments": {"id": 8}}, "greet"], False, "no"),
        (["find_parcel", {"name": "find_parcel", "arguments": {"id": 7}}], False, "no"),
    ],
)
async def test_exact_tool_calls_are_compared_without_a_model(
    expected: list[Any], ordered: bool, value: str, litellm_provider: LiteLLM
) -> None:
    about = trace(
        span(1, span_type="tool", tool_name="find_parcel", tool_arguments='{"id": 7}'),
        span(2, span_type="tool", tool_name="greet", tool_arguments="{}"),
    )
    found = await outcome(
        "ToolCallCorrectness",
        litellm_provider,
        subject_of(about, {"expected_tool_calls": expected}),
        should_exact_match=True,
        should_consider_ordering=ordered,
    )
    assert (found.value, found.source_type, found.usage.calls) == (value, "CODE", 0)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"judge": "Nonsense"}, "parameters.judge"),
        ({"judge": "Guidelines"}, "parameters"),
        ({"judge": "Safety", "guidelines": "Be brief"}, "parameters"),
        ({"judge": "Safety", "prompt_version": 99}, "parameters"),
        ({"judge": "Safety", "should_exact_match": True}, "parameters"),
    ],
)
def test_a_definition_that_makes_no_sense_is_refused(given: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as refused:
        define("x", "builtin_judge", {"model": "openai/gpt-4o-mini"} | given)
    assert refused.value.field == field


def test_a_definition_keeps_the_version_of_its_prompt() -> None:
    assert define("x", "builtin_judge", {"model": "m", "judge": "Safety"}).stored["prompt_version"] == 1
