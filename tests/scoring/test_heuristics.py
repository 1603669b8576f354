"""Each heuristic on traces built in memory."""

import asyncio
from typing import Any

import pytest

from support.heuristics import failure, find
from support.traces import span, trace
from tracestone.schema.scorers.definition import MODELS
from tracestone.schema.traces import Trace
from tracestone.scoring.scorers.registry import HEURISTICS
from tracestone.scoring.scorers.subject import subject_of


def said(output: str, **fields: Any) -> Trace:
    return trace(span(1, input="How do I return shoes?", output=output), **fields)


def test_every_kind_that_asks_nobody_is_a_heuristic() -> None:
    assert set(HEURISTICS) == set(MODELS) - {
        "judge",
        "builtin_judge",
        "embedding_similarity",
        "code",
        "ensemble",
        "third_party",
        "review",
    }


@pytest.mark.parametrize(
    ("parameters", "value"),
    [
        ({"pattern": "sorry"}, True),
        ({"pattern": "SORRY"}, False),
        ({"pattern": "SORRY", "ignore_case": True}, True),
        ({"pattern": "sorry", "full": True}, False),
        ({"pattern": ".*sorry.*", "full": True}, False),
        ({"pattern": ".*sorry.*", "full": True, "dot_matches_newline": True}, True),
        ({"pattern": "shoes", "field": "input"}, True),
        ({"pattern": "shoes"}, False),
        ({"pattern": "Grüße"}, True),
    ],
)
def test_regex_match(parameters: dict[str, Any], value: bool) -> None:
    assert find("regex_match", parameters, said("I am sorry.\nGrüße!")).value is value


async def test_no_pattern_can_hold_up_a_worker() -> None:
    """With backtracking this pattern would take longer than the age of the universe."""
    evil = said("a" * 50_000 + "!")
    finding = await asyncio.wait_for(asyncio.to_thread(find, "regex_match", {"pattern": "(a+)+$"}, evil), 60)
    assert finding.value is False


@pytest.mark.parametrize(
    ("parameters", "value"),
    [
        ({"maximum": 11}, True),
        ({"maximum": 10}, False),
        ({"minimum": 11}, True),
        ({"minimum": 12}, False),
        ({"unit": "words", "minimum": 2, "maximum": 2}, True),
        ({"unit": "words", "minimum": 3}, False),
    ],
)
def test_response_length(parameters: dict[str, Any], value: bool) -> None:
    assert find("response_length", parameters, said("Hello there")).value is value


def test_response_length_says_what_it_counted() -> None:
    finding = find("response_length", {"minimum": 2, "maximum": 4}, said("Hello"))
    assert finding.rationale == "The output has 5 characters; at least 2 and at most 4 are allowed."


@pytest.mark.parametrize(
    ("output", "parameters", "value"),
    [
        ('{"a": [1, 2]}', {}, True),
        ("[1]", {}, True),
        ("[1]", {"object_only": True}, False),
        ('{"a": 1', {}, False),
        ("NaN", {}, False),
        ('{"a": Infinity}', {}, False),
        ("[" * 100_000, {}, False),
        ('```json\n{"a": 1}\n```', {}, False),
    ],
)
def test_json_validity(output: str, parameters: dict[str, Any], value: bool) -> None:
    assert find("json_validity", parameters, said(output)).value is value


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("regex_match", {"pattern": "^$"}),
        ("response_length", {"maximum": 10}),
        ("json_validity", {}),
        ("json_schema", {"json_schema": True}),
        ("repetition", {}),
        ("readability", {}),
        ("refusal", {}),
        ("pii_detection", {}),
        ("language", {}),
        ("exact_match", {"expected": "a"}),
        ("fuzzy_match", {"expected": "a"}),
        ("contains", {"expected": "a"}),
        ("bleu", {"expected": "a"}),
        ("rouge", {"expected": "a"}),
        ("chrf", {"expected": "a"}),
    ],
)
def test_no_output_is_an_error_and_never_passes(kind: str, parameters: dict[str, Any]) -> None:
    assert failure(kind, parameters, said("")) == "NO_OUTPUT"
    assert failure(kind, parameters, said(" \n ")) == "NO_OUTPUT"


def test_no_input_is_an_error() -> None:
    silent = trace(span(1, output="Hello"))
    assert failure("regex_match", {"pattern": "a", "field": "input"}, silent) == "NO_INPUT"


@pytest.mark.parametrize(("max_ms", "value"), [(500, True), (499.9, False)])
def test_latency(max_ms: float, value: bool) -> None:
    finding = find("latency", {"max_ms": max_ms}, said("", duration_ns=500_000_000))
    assert finding.value is value
    assert "500.0 ms" in finding.rationale


def test_error_is_true_for_any_failed_span() -> None:
    failed = trace(
        span(1),
        span(2, 1, status_code="ERROR", name="search", error_type="TimeoutError"),
        state="OK",
    )
    finding = find("error", {}, failed)
    assert finding.value is True
    assert "search: TimeoutError" in finding.rationale
    assert find("error", {}, trace(span(1))).value is False


MESSAGES = (
    '[{"role": "user", "parts": [{"type": "text", "content": "Hi"}]}, {"role": "assistant", "content": "Hello!"}]'
)
ROLES = '[{"role": "admin", "id": 4}]'


@pytest.mark.parametrize(
    ("of", "inputs", "outputs"),
    [
        (trace(span(1, input="q", output="a")), "q", "a"),
        (trace(span(1, input_messages=MESSAGES, output_messages=MESSAGES)), "Hi", "Hello!"),
        (trace(span(1, input='{"messages": ' + MESSAGES + "}", output="a")), "Hi", "a"),
        (trace(span(1, input=ROLES, output='{"x": 1}')), ROLES, '{"x": 1}'),
        (trace(span(1), span(2, 1, input="first"), span(3, 1, output="last")), "first", "last"),
        (trace(span(2, 1, input="orphan", output="yes")), "orphan", "yes"),
        (trace(span(1, output="[" * 50_000)), "", "[" * 50_000),
        (trace(span(1)), "", ""),
    ],
)  # fmt: skip
def test_inputs_and_outputs_of_a_trace(of: Trace, inputs: str, outputs: str) -> None:
    subject = subject_of(of)
    assert (subject.inputs, subject.outputs) == (inputs, outputs)
