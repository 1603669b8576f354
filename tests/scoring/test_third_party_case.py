"""What other libraries' metrics are given, and what is refused before any of them is asked. Without the libraries."""

from typing import Any

import pytest

from support.heuristics import as_json, said, talk
from support.traces import span, trace
from tracestone.schema.errors import MissingExtra
from tracestone.schema.extras import optional
from tracestone.schema.scorers.definition import Scorer, define
from tracestone.schema.scorers.third_party import METRICS, Metric
from tracestone.schema.stores.jobs import Usage
from tracestone.scoring.llm import Call, CallFailed, EmbeddingCall, Embeddings, Reply
from tracestone.scoring.scorers.protocol import AttemptFailed, Subject, TargetScorer
from tracestone.scoring.scorers.registry import Tools, ready
from tracestone.scoring.scorers.subject import subject_of
from tracestone.scoring.third_party import meter as meters
from tracestone.scoring.third_party.case import ToolCall, case_of
from tracestone.scoring.third_party.meter import Meter
from tracestone.scoring.third_party.scorer import ThirdPartyScorer

PARAMETERS = {"library": "deepeval", "metric": "Faithfulness", "model": "openai/x"}
FOUND = trace(
    span(1, input="How?", output="So."),
    span(2, 1, span_type="retriever", retrieval_documents=as_json([{"content": "a"}, {"page_content": "b"}, "c", {}])),
    span(3, 1, span_type="retriever", output='{"documents": [{"x": 1}]}'),
    span(4, 1, span_type="retriever", output="plain"),
    span(5, 1, span_type="tool", tool_name="find", tool_arguments='{"q": 1}'),
    span(6, 1, span_type="tool", name="look", input="shoes"),
)


class Counting:
    """A provider that answers the same to everything, or fails."""

    def __init__(self, answer: str | Exception = "{}") -> None:
        self.calls: list[Call | EmbeddingCall] = []
        self._answer = answer

    async def complete(self, call: Call) -> Reply:
        self.calls.append(call)
        if isinstance(self._answer, Exception):
            raise self._answer
        return Reply(self._answer, Usage(1, 0.01, 10, 2), "x")

    async def embed(self, call: EmbeddingCall) -> Embeddings:
        self.calls.append(call)
        return Embeddings(((1.0, 0.0),) * len(call.texts), Usage(1, 0.001, 3, 0))


def scorer(provider: Any, **parameters: Any) -> TargetScorer:
    async def nobody(name: str, version: int) -> TargetScorer:
        raise AssertionError(name)

    definition = define("x", "third_party", PARAMETERS | parameters)
    return ready(Scorer("x", 1, definition.kind, definition.parameters, 0), Tools(provider, nobody))


def test_a_case_holds_what_is_needed() -> None:
    subject = subject_of(FOUND, {"expected_response": {"days": 30}})
    case = case_of(subject, ["input", "output", "reference", "contexts", "tools"])
    assert (case.input, case.output, case.reference) == ("How?", "So.", '{"days": 30}')
    assert case.contexts == ("a", "b", "c", '{"x": 1}', "plain")
    assert case.tools == (ToolCall("find", {"q": 1}), ToolCall("look", {"input": "shoes"}))
    turns = case_of(talk("a", "b"), ["conversation"])
    assert turns.transcript.splitlines()[1] == "Assistant: a"
    assert len(turns.turns) == 2


@pytest.mark.parametrize(
    ("need", "subject", "code"),
    [
        ("input", said("a", question=""), "NO_INPUT"),
        ("output", said(""), "NO_OUTPUT"),
        ("reference", said("a"), "NO_EXPECTATION"),
        ("reference", said("a", expected_response=" "), "NO_EXPECTATION"),
        ("contexts", said("a"), "NO_SPANS"),
        ("contexts", subject_of(trace(span(1, span_type="retriever", output="[]"))), "NO_DOCUMENTS"),
        ("tools", said("a"), "NO_SPANS"),
    ],
)
def test_what_is_needed_and_not_there_is_an_error(need: Any, subject: Subject, code: str) -> None:
    with pytest.raises(AttemptFailed) as failed:
        case_of(subject, [need])
    assert (failed.value.code, failed.value.retryable) == (code, False)


async def test_nothing_is_asked_when_something_is_missing() -> None:
    provider = Counting()
    with pytest.raises(AttemptFailed) as failed:
        await scorer(provider).score(said("a"))
    assert (failed.value.code, provider.calls) == ("NO_SPANS", [])


def test_a_library_that_is_not_there_names_its_extra() -> None:
    with pytest.raises(MissingExtra) as missing:
        optional("no_such_library.metrics", "no-such-library", "ragas")
    assert "pip install 'tracestone[ragas]'" in str(missing.value)


async def test_a_meter_counts_and_bounds_the_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meters, "MOST_CALLS", 3)
    provider = Counting('Here: {"a": 1}.')
    definition = define("x", "third_party", PARAMETERS | {"embedding_model": "openai/e", "api_base": "http://h/v1"})
    meter = Meter(provider, definition.parameters)  # type: ignore[arg-type]
    asked = [{"role": "user", "content": "?"}]
    assert await meter.document(asked, {"type": "object"}) == {"a": 1}
    assert await meter.vectors(["a", "b"]) == [[1.0, 0.0], [1.0, 0.0]]
    await meter.text(asked)
    assert meter.usage == Usage(3, pytest.approx(0.021), 23, 4)
    with pytest.raises(AttemptFailed) as failed:
        await meter.text(asked)
    assert failed.value.code == "TOO_MANY_CALLS"
    assert [call.model for call in provider.calls] == ["openai/x", "openai/e", "openai/x"]
    assert {call.api_base for call in provider.calls} == {"http://h/v1"}


class Library:
    """What a library's module does: asks once, and may hide or wrap what goes wrong."""

    def __init__(self, *, hides: bool = False, result: Any = (0.5, "so", {}), wraps: Any = RuntimeError) -> None:
        self._hides, self._result, self._wraps = hides, result, wraps

    async def score(self, parameters: Any, case: Any, meter: Meter) -> Any:
        try:
            await meter.text([{"role": "user", "content": "?"}])
        except Exception as error:
            if not self._hides:
                raise self._wraps("wrapped") from error
        if isinstance(self._result, Exception):
            raise self._result
        return self._result


LIMITED = CallFailed("RATE_LIMITED", "slow down", retryable=True, retry_after=7)


@pytest.mark.parametrize(
    ("provider", "library", "code", "retryable", "calls"),
    [
        (Counting(LIMITED), Library(), "RATE_LIMITED", True, 1),
        (Counting(LIMITED), Library(hides=True), "RATE_LIMITED", True, 1),
        (Counting(), Library(result=ValueError("no JSON")), "METRIC_FAILED", True, 1),
        (Counting(), Library(result=(float("nan"), "", {})), "METRIC_FAILED", False, 1),
    ],
)
async def test_a_failure_keeps_its_code_however_it_is_wrapped(
    monkeypatch: pytest.MonkeyPatch, provider: Counting, library: Library, code: str, retryable: bool, calls: int
) -> None:
    monkeypatch.setattr("tracestone.scoring.third_party.scorer._library", lambda name: library)
    with pytest.raises(AttemptFailed) as failed:
        await scorer(provider, metric="Bias").score(said("a"))
    assert (failed.value.code, failed.value.retryable, failed.value.usage.calls) == (code, retryable, calls)


async def test_what_is_no_failure_of_the_call_goes_on_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A budget that is spent, say: the job waits."""
    monkeypatch.setattr("tracestone.scoring.third_party.scorer._library", lambda name: Library())
    with pytest.raises(ZeroDivisionError):
        await scorer(Counting(ZeroDivisionError()), metric="Bias").score(said("a"))


async def test_a_score_is_told_with_its_reason_and_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracestone.scoring.third_party.scorer._library", lambda name: Library())
    outcome = await scorer(Counting(), metric="Bias").score(said("a"))
    assert (outcome.value, outcome.rationale) == (0.5, "deepeval's Bias is 0.500. so")
    assert (outcome.source_type, outcome.source_id) == ("LLM_JUDGE", "deepeval/Bias")
    assert outcome.usage == Usage(1, 0.01, 10, 2)
    assert (await scorer(Counting(), metric="Bias", maximum=0.4).score(said("a"))).value is False


def test_every_metric_can_be_defined_and_says_its_targets() -> None:
    values = {"domain": "a", "advice_types": ["a"], "prompt_instructions": ["a"], "role": "a", "chatbot_role": "a"}
    for library, metrics in METRICS.items():
        for name, metric in metrics.items():
            assert isinstance(metric, Metric)
            given = {"library": library, "metric": name, "model": "openai/x", "embedding_model": "openai/e"}
            required = {key: values[key] for key in metric.requires}
            definition = define("x", "third_party", given | {"parameters": required})
            session = definition.parameters.targets == {"session"}
            assert session is ("conversation" in metric.needs)
            assert isinstance(
                ready(Scorer("x", 1, "third_party", definition.parameters, 0), _tools()), ThirdPartyScorer
            )


def _tools() -> Tools:
    async def nobody(name: str, version: int) -> TargetScorer:
        raise AssertionError(name)

    return Tools(Counting(), nobody)
