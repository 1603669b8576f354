"""Definitions of scorers: what is accepted, what is refused and why."""

import pytest

from tracestone.schema.errors import Invalid
from tracestone.schema.scorers.definition import MODELS, define
from tracestone.schema.scorers.text import RegexMatch

JUDGE = {"instructions": "Is {{ outputs }} polite?", "model": "openai/gpt-4o-mini"}
TWICE = {"type": "category", "categories": ["a", "a"]}
POINT = {"type": "number", "minimum": 2, "maximum": 2}
A, B = {"name": "a", "version": 1}, {"name": "b", "version": 1}
THIRD = {"library": "deepeval", "model": "openai/x"}
RELEVANCY = {"library": "ragas", "metric": "AnswerRelevancy", "model": "openai/x"}
VALID = [
    ("regex_match", {"pattern": "(?i)sorry"}),
    ("response_length", {"unit": "words", "maximum": 200}),
    ("latency", {"max_ms": 2500}),
    ("latency", {"max_ms": 2500, "percentile": 95, "span_type": "llm"}),
    ("json_validity", {}),
    ("json_schema", {"json_schema": {"type": "object", "required": ["a"]}}),
    ("repetition", {"maximum": 0.2, "max_in_a_row": 3}),
    ("readability", {"measure": "lix", "maximum": 50}),
    ("refusal", {"languages": ["en"], "phrases": ["ask the librarian"]}),
    ("pii_detection", {"pii_types": ["email", "iban"]}),
    ("language", {"expected": ["en", "de"]}),
    ("tokens", {"count": "output", "maximum": 2000}),
    ("cost", {"maximum": 0.05}),
    ("tool_loop", {"max_repeats": 3, "consecutive": True}),
    ("empty_retrieval", {}),
    ("exact_match", {"ignore_case": True}),
    ("fuzzy_match", {"method": "token_sort_ratio", "minimum": 0.8}),
    ("contains", {"any_of": True}),
    ("bleu", {"expected": "a", "minimum": 0.3}),
    ("rouge", {"variant": "rouge1", "measure": "recall"}),
    ("chrf", {"word_order": 2}),
    ("embedding_similarity", {"model": "openai/text-embedding-3-small", "beside": "input"}),
    ("error", {}),
    ("code", {"entry_point": "brief"}),
    ("code", {"source": "def f(outputs, *, trace=None, limit=3):\n    return True\n", "function": "f"}),
    ("ensemble", {"combine": "majority", "members": [{"name": "a", "version": 1}, {"name": "a", "version": 2}]}),
    ("third_party", {"library": "ragas", "metric": "Faithfulness", "model": "openai/x", "minimum": 0.7}),
    ("third_party", THIRD | {"metric": "Misuse", "parameters": {"domain": "shoes", "strict_mode": True}}),
    ("judge", JUDGE),
    ("review", {"question": "Is it right?", "verdict": {"type": "category", "categories": ["yes", "no", "unsure"]}}),
    ("builtin_judge", {"judge": "Guidelines", "model": "openai/gpt-4o-mini", "guidelines": "Be brief."}),
    ("judge", JUDGE | {"verdict": {"type": "category", "categories": ["good", "bad"]}}),
    ("judge", JUDGE | {"model": "bedrock/us-east-1/anthropic.claude-v2:1", "params": {"stop": ["x"], "seed": 1}}),
    ("judge", JUDGE | {"model": "cloudflare/@cf/meta/llama-2-7b"}),
    (
        "judge",
        JUDGE | {"verdict": {"type": "number", "minimum": 1, "maximum": 5}, "params": {"temperature": 0}},
    ),
]
INVALID = [
    ("no-kind", "sentiment", {}, "kind", "must be one of regex_match"),
    ("1st", "error", {}, "name", "must be 1 to 100"),
    ("a b", "error", {}, "name", "must be 1 to 100"),
    ("x", "error", {"loud": True}, "parameters.loud", "not permitted"),
    ("x", "error", [], "parameters", "must be an object"),
    ("x", "regex_match", {}, "parameters.pattern", "required"),
    ("x", "regex_match", {"pattern": "("}, "parameters", "not a regular expression RE2 accepts: missing )"),
    ("x", "regex_match", {"pattern": r"(a)\1"}, "parameters", "RE2"),
    ("x", "regex_match", {"pattern": "(?=a)"}, "parameters", "RE2"),
    ("x", "regex_match", {"pattern": "a" * 3000}, "parameters", "longer than"),
    ("x", "response_length", {}, "parameters", "needs minimum, maximum or both"),
    ("x", "response_length", {"minimum": 5, "maximum": 4}, "parameters", "minimum is above maximum"),
    ("x", "latency", {"max_ms": -1}, "parameters.max_ms", "greater than 0"),
    ("x", "latency", {"max_ms": float("nan")}, "parameters.max_ms", "finite"),
    ("x", "latency", {"max_ms": 1, "span_type": "llm"}, "parameters", "span_type and span_name need percentile"),
    ("x", "tokens", {"minimum": 2, "maximum": 1}, "parameters", "minimum is above maximum"),
    ("x", "json_schema", {"json_schema": {"type": "x"}}, "parameters", "is not a JSON schema"),
    ("x", "refusal", {"languages": []}, "parameters", "needs languages, phrases or both"),
    ("x", "pii_detection", {"pii_types": ["name"]}, "parameters.pii_types.0", "should be 'email'"),
    ("x", "pii_detection", {"pii_types": []}, "parameters.pii_types", "at least 1"),
    ("x", "language", {"expected": ["English"]}, "parameters.expected.0", "pattern"),
    ("x", "language", {"expected": ["en"], "same_as_input": True}, "parameters", "not both"),
    ("x", "bleu", {"expected": ""}, "parameters.expected", "at least 1 character"),
    ("x", "embedding_similarity", {"model": "a b"}, "parameters.model", "pattern"),
    ("x", "embedding_similarity", {"model": "a", "api_base": "file:///etc/passwd"}, "parameters.api_base", "pattern"),
    ("x", "code", {}, "parameters", "needs entry_point, or source with function"),
    ("x", "code", {"entry_point": "a", "source": "x"}, "parameters", "needs entry_point, or source"),
    ("x", "code", {"source": "def f(): pass"}, "parameters", "function is given with source"),
    ("x", "code", {"source": "def f(:", "function": "f"}, "parameters", "source: line 1:"),
    ("x", "code", {"source": "\0", "function": "f"}, "parameters", "source"),
    ("x", "code", {"source": "(" * 50_000, "function": "f"}, "parameters", "source"),
    ("x", "code", {"source": "-" * 99_000 + "1", "function": "f"}, "parameters", "source"),
    ("x", "code", {"source": "def g(): pass", "function": "f"}, "parameters", "defines no function f"),
    ("x", "code", {"source": "async def f(): pass", "function": "f"}, "parameters", "defines no function f"),
    ("x", "code", {"source": "def f(answer): pass", "function": "f"}, "parameters", "answer is none of inputs"),
    ("x", "code", {"source": "def f(outputs, /): pass", "function": "f"}, "parameters", "positional only"),
    ("x", "code", {"source": "def f(*, answer): pass", "function": "f"}, "parameters", "answer is none of inputs"),
    ("x", "code", {"entry_point": "a", "timeout": 61}, "parameters.timeout", "less than or equal to 60"),
    ("x", "ensemble", {"combine": "any", "members": [A]}, "parameters.members", "at least 2"),
    ("x", "ensemble", {"combine": "any", "members": [A, A]}, "parameters", "two members are the same"),
    ("x", "ensemble", {"combine": "any", "members": [A, B], "quorum": 3}, "parameters", "more than there are"),
    ("x", "ensemble", {"combine": "any", "members": [A, {"name": "b"}]}, "parameters.members.1.version", "required"),
    ("x", "third_party", THIRD, "parameters.metric", "required"),
    ("x", "third_party", THIRD | {"metric": "Bleu"}, "parameters", "deepeval has none of that name here"),
    ("x", "third_party", THIRD | {"metric": "Misuse"}, "parameters", "domain is needed"),
    ("x", "third_party", THIRD | {"metric": "Bias", "parameters": {"model": 1}}, "parameters", "model cannot be set"),
    ("x", "third_party", THIRD | {"metric": "Bias", "api_base": "x"}, "parameters.api_base", "pattern"),
    ("x", "third_party", THIRD | {"library": "trulens", "metric": "Bias"}, "parameters.library", "'ragas', 'deepeval'"),
    ("x", "third_party", RELEVANCY, "parameters", "embedding_model: the metric needs one"),
    ("x", "review", {}, "parameters.question", "required"),
    ("x", "review", {"question": "?", "verdict": {"type": "struct"}}, "parameters.verdict", "does not match any"),
    ("x", "judge", {"model": "openai/x"}, "parameters.instructions", "required"),
    ("x", "judge", JUDGE | {"instructions": "Be strict."}, "parameters.instructions", "name at least one of"),
    ("x", "judge", JUDGE | {"instructions": "{{ output }}"}, "parameters.instructions", "unknown variable"),
    ("x", "judge", JUDGE | {"params": {"api_key": "sk-1"}}, "parameters.params", "api_key cannot be set"),
    ("x", "judge", JUDGE | {"api_base": "file:///etc/passwd"}, "parameters.api_base", "pattern"),
    ("x", "judge", JUDGE | {"api_base": "http://me:secret@host/v1"}, "parameters.api_base", "pattern"),
    ("x", "judge", JUDGE | {"api_base": "http://host/v1?key=secret"}, "parameters.api_base", "pattern"),
    ("x", "judge", JUDGE | {"params": {"base_url": "http://evil/"}}, "parameters.params", "base_url cannot be set"),
    ("x", "judge", JUDGE | {"params": {"extra_body": {"a": 1}}}, "parameters.params", "extra_body cannot be set"),
    ("x", "judge", JUDGE | {"params": {"hf_endpoint": "x"}}, "parameters.params", "hf_endpoint cannot be set"),
    ("x", "judge", JUDGE | {"model": "huggingface/https://evil.example/v1"}, "parameters.model", "pattern"),
    ("x", "judge", JUDGE | {"retries": 99}, "parameters.retries", "less than or equal to 10"),
    ("x", "judge", JUDGE | {"verdict": {"type": "mood"}}, "parameters.verdict", "does not match any"),
    ("x", "judge", JUDGE | {"verdict": TWICE}, "parameters.verdict.category.categories", "not distinct"),
    ("x", "judge", JUDGE | {"verdict": POINT}, "parameters.verdict.number", "minimum must be below maximum"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "parameters"), VALID)
def test_a_valid_definition_survives_storing(kind: str, parameters: dict[str, object]) -> None:
    definition = define("my-scorer", kind, parameters)
    again = define("my-scorer", kind, definition.stored)
    assert again == definition
    assert again.digest == definition.digest


@pytest.mark.parametrize(("name", "kind", "parameters", "field", "reason"), INVALID)
def test_an_invalid_definition_names_field_and_reason(
    name: str, kind: str, parameters: object, field: str, reason: str
) -> None:
    with pytest.raises(Invalid) as refused:
        define(name, kind, parameters)
    assert refused.value.field == field
    assert reason in refused.value.reason


def test_an_error_never_shows_the_refused_value() -> None:
    with pytest.raises(Invalid) as refused:
        define("x", "judge", JUDGE | {"params": {"api_key": "sk-very-secret"}})
    assert "sk-very-secret" not in str(refused.value)


def test_a_default_written_out_is_the_same_definition() -> None:
    short = define("x", "regex_match", {"pattern": "a"})
    long = define("x", "regex_match", {"pattern": "a", "field": "output", "full": False})
    assert short.digest == long.digest
    assert short.digest != define("x", "regex_match", {"pattern": "b"}).digest
    assert isinstance(short.parameters, RegexMatch)


def test_every_kind_has_a_valid_example() -> None:
    assert {kind for kind, _ in VALID} == set(MODELS)


@pytest.mark.parametrize(
    ("parameters", "targets"),
    [
        ({"source": "def f(outputs): pass", "function": "f"}, {"span", "trace"}),
        ({"source": "def f(session): pass", "function": "f"}, {"session"}),
        ({"source": "def f(*, expectations, session): pass", "function": "f"}, {"session"}),
        ({"entry_point": "a"}, {"span", "trace"}),
        ({"entry_point": "a", "session_level": True}, {"session"}),
    ],
)
def test_a_functions_arguments_say_what_it_scores(parameters: dict[str, object], targets: set[str]) -> None:
    assert define("x", "code", parameters).parameters.targets == targets
