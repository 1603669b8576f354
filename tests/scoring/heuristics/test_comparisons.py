"""Heuristics that compare the output with a text that was expected."""

from typing import Any

import pytest

from support.heuristics import failure, find, said
from tracestone.scoring.scorers.heuristics.reading import MAX_COMPARED_CHARACTERS

MAT = "the cat lay on a mat"


@pytest.mark.parametrize("kind", ["exact_match", "fuzzy_match", "contains", "bleu", "rouge", "chrf"])
def test_no_expectation_is_an_error_and_never_passes(kind: str) -> None:
    assert failure(kind, {}, said("a")) == "NO_EXPECTATION"
    assert failure(kind, {"expectation": "mine"}, said("a", expected_response="a", expected_facts=["a"])) == (
        "NO_EXPECTATION"
    )
    for nothing in (None, "", " ", [], ["", None]):
        assert failure(kind, {"expectation": "mine"}, said("a", mine=nothing)) == "NO_EXPECTATION"


@pytest.mark.parametrize(
    ("parameters", "output", "value"),
    [
        ({"expected": "Yes."}, "Yes.", True),
        ({"expected": "Yes."}, "yes.", False),
        ({"expected": "Yes.", "ignore_case": True}, "yEs.", True),
        ({"expected": "STRASSE", "ignore_case": True}, "Straße", True),
        ({"expected": "Yes."}, "Yes.\n", False),
        ({"expected": "a b", "ignore_whitespace": True}, " a\n\tb ", True),
        ({"expected": "Yes", "ignore_punctuation": True}, "«Yes!»", True),
        ({"expected": "caf\u00e9"}, "cafe\u0301", True),
        ({"expected": '{"a": 1, "b": [true]}', "as_json": True}, '{"b":[true],"a":1}', True),
        ({"expected": '{"a": 1}', "as_json": True}, '{"a": true}', False),
        ({"expected": '{"a": 1}', "as_json": True}, '{"a": 1', False),
        ({"expected": "[1]", "as_json": True}, "[" * 100_000, False),
        ({}, "Paris", True),
        ({}, "Lyon", False),
        ({"expectation": "either"}, "Lyon", True),
        ({"expectation": "document", "as_json": True}, '{"city": "Lyon"}', True),
    ],
)
def test_exact_match(parameters: dict[str, Any], output: str, value: bool) -> None:
    subject = said(output, expected_response="Paris", either=["Paris", "Lyon"], document={"city": "Lyon"})
    assert find("exact_match", parameters, subject).value is value


@pytest.mark.parametrize(
    ("parameters", "output", "value"),
    [
        ({"expected": "abcd"}, "ABCD", 1.0),
        ({"expected": "abcd", "ignore_case": False}, "ABCD", 0.0),
        ({"expected": "ab"}, "abcd", 2 / 3),
        ({"expected": "mat the on"}, "on the mat", 0.5),
        ({"expected": "mat the on", "method": "token_sort_ratio"}, "on the mat", 1.0),
        ({"expected": "on the mat", "method": "token_set_ratio"}, "the cat sat on the mat", 1.0),
        ({"expected": "martha", "method": "jaro_winkler"}, "marhta", 0.961111),
        ({"expected": "靴を返す", "minimum": 0.7}, "靴を返品", True),
        ({"expected": "abcd", "minimum": 0.9}, "abxy", False),
    ],
)
def test_fuzzy_match(parameters: dict[str, Any], output: str, value: float | bool) -> None:
    finding = find("fuzzy_match", parameters, said(output))
    assert finding.value == pytest.approx(value, abs=1e-5)
    assert isinstance(finding.value, bool) is isinstance(value, bool)


def test_of_several_expected_texts_the_most_alike_counts() -> None:
    subject = said("on the mat", expected_response=["entirely other", "on the mat"])
    for kind in ("fuzzy_match", "rouge", "chrf"):
        assert find(kind, {}, subject).value == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("parameters", "value"),
    [
        ({}, False),
        ({"any_of": True}, True),
        ({"expected": "THIRTY days"}, True),
        ({"expected": "THIRTY days", "ignore_case": False}, False),
        ({"expectation": "one"}, True),
    ],
)
def test_contains(parameters: dict[str, Any], value: bool) -> None:
    subject = said("Within thirty days, unworn.", expected_facts=["thirty days", "free"], one="Unworn")
    finding = find("contains", parameters, subject)
    assert finding.value is value
    assert ("“free”" in finding.rationale) is (not parameters or "any_of" in parameters)


# Found with rouge-score 0.1.2, which compares the same words.
@pytest.mark.parametrize(
    ("variant", "measure", "output", "expected", "value"),
    [
        ("rouge1", "f", "the cat sat on the mat", MAT, 0.666667),
        ("rouge2", "f", "the cat sat on the mat", MAT, 0.2),
        ("rougeL", "f", "the cat sat on the mat", MAT, 0.666667),
        ("rouge1", "precision", "A quick, brown fox!", "the quick brown fox jumps", 0.75),
        ("rouge1", "recall", "A quick, brown fox!", "the quick brown fox jumps", 0.6),
        ("rouge2", "f", "A quick, brown fox!", "the quick brown fox jumps", 0.571429),
        ("rougeL", "recall", "A quick, brown fox!", "the quick brown fox jumps", 0.6),
        ("rougeL", "f", "entirely other", MAT, 0.0),
        ("rouge2", "f", "one", "one", 0.0),
        ("rouge1", "f", "靴を返品できます", "靴を交換できます", 6 / 8),
        ("rouge1", "f", "?!", "?!", 0.0),
    ],
)
def test_rouge(variant: str, measure: str, output: str, expected: str, value: float) -> None:
    finding = find("rouge", {"variant": variant, "measure": measure, "expected": expected}, said(output))
    assert finding.value == pytest.approx(value, abs=1e-6)


def test_bleu() -> None:
    assert find("bleu", {"expected": MAT}, said(MAT)).value == pytest.approx(1.0)
    # All n-grams of the output match; the brevity penalty is exp(1 - 6/3).
    short = find("bleu", {"expected": "the cat sat on the mat"}, said("the cat sat")).value
    assert short == pytest.approx(0.36787944)
    assert find("bleu", {"expected": MAT, "minimum": 0.5}, said("entirely other words")).value is False
    assert find("bleu", {"expected": MAT.upper(), "ignore_case": True}, said(MAT)).value == pytest.approx(1.0)
    assert find("bleu", {"expected": "靴を返品", "tokenize": "char"}, said("靴を返品")).value == pytest.approx(1.0)
    assert find("bleu", {}, said(MAT, expected_response=["other", MAT])).value == pytest.approx(1.0)


def test_chrf() -> None:
    assert find("chrf", {"expected": MAT}, said(MAT)).value == pytest.approx(1.0)
    near, far = (find("chrf", {"expected": MAT}, said(text)).value for text in ("the cats lay on mats", "no"))
    assert 0.5 < float(near) < 1.0
    assert float(far) < 0.1
    plain, plus = (find("chrf", {"expected": MAT, "word_order": n}, said("the cat sat")).value for n in (0, 2))
    assert plain != plus
    assert find("chrf", {"expected": "靴を返品", "minimum": 0.9}, said("靴を返品")).value is True


@pytest.mark.parametrize("kind", ["fuzzy_match", "bleu", "rouge", "chrf"])
def test_texts_that_are_too_long_to_be_compared_are_an_error(kind: str) -> None:
    longest = "the cat sat. " * (MAX_COMPARED_CHARACTERS // 13)
    assert find(kind, {"expected": longest}, said(longest)).value == pytest.approx(1.0)
    assert failure(kind, {"expected": "a"}, said("ab" * MAX_COMPARED_CHARACTERS)) == "TEXT_TOO_LONG"


def test_a_huge_text_can_be_searched() -> None:
    huge = "lorem ipsum " * 500_000 + "thirty days"
    assert find("contains", {"expected": "Thirty Days"}, said(huge)).value is True
    assert find("exact_match", {"expected": "a", "ignore_punctuation": True}, said(huge)).value is False
