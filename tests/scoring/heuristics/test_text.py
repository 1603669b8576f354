"""Heuristics that read the form of a text: JSON schemas, repetition, readability."""

from typing import Any

import pytest

from support.heuristics import as_json, failure, find, said
from tracestone.schema.errors import Invalid
from tracestone.schema.scorers.definition import define

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "^[A-ZÄÖÜ]"},
        "age": {"type": "integer"},
        "tags": {"uniqueItems": True},
    },
    "required": ["name"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("output", "value", "reason"),
    [
        ('{"name": "Änne", "age": 3}', True, "is valid under the schema"),
        ('{"age": 3}', False, 'the document: "name" is a required property'),
        ('{"name": "Bo", "age": "3"}', False, 'age: a value is not of type "integer"'),
        ('{"name": "bo"}', False, "name: a value does not match"),
        ('{"name": "Bo", "extra": 1}', False, "the document: Additional properties are not allowed"),
        ('{"name": "Bo"', False, "is not JSON"),
        ('{"name": NaN}', False, "NaN is not a JSON value"),
        ("[" * 100_000, False, "nested too deeply"),
        ('{"name": "Bo\\ud800"}', False, "not Unicode"),
        ('```json\n{"name": "Bo"}\n```', False, "is not JSON"),
    ],
)
def test_json_schema(output: str, value: bool, reason: str) -> None:
    finding = find("json_schema", {"json_schema": PERSON}, said(output))
    assert finding.value is value
    assert reason in finding.rationale


def test_a_json_schema_says_the_first_things_that_are_wrong_and_never_the_values() -> None:
    output = as_json([{"secret": "hunter22"}] * 40)
    finding = find("json_schema", {"json_schema": {"items": PERSON}}, said(output))
    assert finding.value is False
    assert finding.rationale.endswith("; and more.")
    assert "hunter22" not in finding.rationale


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "strin"}, "is not a JSON schema"),
        ({"pattern": "(?=a)b"}, "is not a JSON schema"),
        ({"$ref": "http://127.0.0.1:9/schema"}, "Retrieval is disabled"),
        ({"$ref": "file:///etc/hostname"}, "Retrieval is disabled"),
        ({"enum": ["a" * 200_000]}, "is longer than"),
    ],
    ids=["type", "pattern", "http", "file", "long"],
)
def test_a_schema_that_cannot_be_used_is_refused_when_it_is_defined(schema: dict[str, Any], reason: str) -> None:
    with pytest.raises(Invalid) as refused:
        define("x", "json_schema", {"json_schema": schema})
    assert reason in refused.value.reason


def test_a_schema_is_applied_in_linear_time() -> None:
    """Backtracking, and comparing each item with each, would take hours."""
    schema = {"items": {"type": ["object", "string"], "pattern": "^(a+)+$"}, "uniqueItems": True}
    output = as_json([*({"n": n} for n in range(100_000)), "a" * 100_000 + "!"])
    finding = find("json_schema", {"json_schema": schema}, said(output))
    assert finding.value is False
    assert "100000: a value does not match" in finding.rationale


@pytest.mark.parametrize(
    ("parameters", "output", "value"),
    [
        ({}, "one two three four five six", 0.0),
        ({}, "one two three", 0.0),
        ({}, "a b c d a b c d", 0.2),
        ({"ngram": 1}, "no no no no", 0.75),
        ({"ngram": 2, "unit": "characters"}, "你好你好你好", 0.6),
        ({"maximum": 0.2}, "a b c d a b c d", True),
        ({"maximum": 0.1}, "a b c d a b c d", False),
        ({"max_in_a_row": 2}, "a b c d a b c d", True),
        ({"max_in_a_row": 2}, "so I try again. " * 3, False),
        ({"max_in_a_row": 5}, "x " * 8, False),
        ({"max_in_a_row": 2}, "one two three four, one two three five, one two three six", True),
        ({"maximum": 0.1, "max_in_a_row": 9}, "a b c d a b c d", False),
        ({"field": "input"}, "a b c d a b c d", 0.0),
    ],
)
def test_repetition(parameters: dict[str, Any], output: str, value: float | bool) -> None:
    finding = find("repetition", parameters, said(output))
    assert finding.value == pytest.approx(value)
    assert isinstance(finding.value, bool) is isinstance(value, bool)


def test_repetition_says_which_phrase_comes_how_often() -> None:
    finding = find("repetition", {}, said("First this. " + "Let me check the file. " * 14))
    assert "“" in finding.rationale
    assert "14 times in a row" in finding.rationale
    assert len(finding.rationale) < 300


def test_repetition_of_a_huge_text() -> None:
    finding = find("repetition", {"ngram": 20, "unit": "characters"}, said("lorem ipsum " * 400_000))
    assert finding.value == pytest.approx(1.0, abs=0.001)


EASY = "The cat sat on the mat. It was a good day."
HARD = (
    "Notwithstanding considerable organisational difficulties, interdisciplinary collaboration facilitates innovation."
)


@pytest.mark.parametrize(
    ("measure", "text", "score"),
    [
        # 11 words of one syllable in 2 sentences.
        ("flesch_reading_ease", EASY, 206.835 - 1.015 * 5.5 - 84.6),
        ("flesch_kincaid_grade", EASY, 0.39 * 5.5 + 11.8 - 15.59),
        ("lix", EASY, 5.5),
        ("lix", HARD, 8 + 100.0),
        ("lix", "Das ist gut! Wirklich hervorragend.", 2.5 + 100 * 2 / 5),
    ],
)
def test_readability(measure: str, text: str, score: float) -> None:
    finding = find("readability", {"measure": measure}, said(text))
    assert finding.value == pytest.approx(score)


def test_readability_within_bounds() -> None:
    assert find("readability", {"minimum": 60}, said(EASY)).value is True
    assert find("readability", {"minimum": 60}, said(HARD)).value is False
    assert failure("readability", {}, said("12345 !!")) == "NO_WORDS"


def test_readability_of_a_huge_text() -> None:
    assert find("readability", {"measure": "lix"}, said(f"{EASY} " * 50_000)).value == pytest.approx(5.5, abs=0.1)
    assert find("readability", {}, said("a" * 2_000_000)).value is not None
