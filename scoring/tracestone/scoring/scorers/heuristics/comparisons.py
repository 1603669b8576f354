"""Heuristics that compare the output with a text that was expected. Pure.

BLEU and chrF are sacrebleu's, edit distances RapidFuzz's. ROUGE is counted here as Lin (2004) defines it, over words
in lower case, its longest common subsequence by RapidFuzz: the package `rouge-score` compares word by word in Python,
which a long text turns into minutes, and brings NLTK.
"""

import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from tracestone.schema.extras import optional
from tracestone.schema.scorers.comparisons import Bleu, Chrf, Contains, ExactMatch, FuzzyMatch, Rouge
from tracestone.scoring.scorers.heuristics.reading import comparable, expected_texts, measured, shown, text_of
from tracestone.scoring.scorers.heuristics.text import read_json
from tracestone.scoring.scorers.protocol import Finding, Subject


def exact_match(parameters: ExactMatch, subject: Subject) -> Finding:
    """True when the output is one of the texts that were expected."""
    output, expected = text_of(subject), expected_texts(parameters, subject)
    if parameters.as_json:
        matches = any(_same_json(output, text) for text in expected)
    else:
        matches = any(_folded(parameters, output) == _folded(parameters, text) for text in expected)
    return Finding(matches, f"The output is {'' if matches else 'not '}what was expected: {shown(expected[0])}.")


def fuzzy_match(parameters: FuzzyMatch, subject: Subject) -> Finding:
    """How alike the texts are by edits."""
    compare = _fuzzy(parameters.method)
    return _best(parameters, subject, lambda output, text: compare(output, text), fold=parameters.ignore_case)


def contains(parameters: Contains, subject: Subject) -> Finding:
    """True when the expected texts occur in the output."""
    output, expected = text_of(subject), expected_texts(parameters, subject)
    fold = str.casefold if parameters.ignore_case else str
    folded = fold(output)
    missing = [text for text in expected if fold(text) not in folded]
    if parameters.any_of:
        found = len(missing) < len(expected)
    else:
        found = not missing
    said = f"{len(expected) - len(missing)} of {len(expected)} expected texts occur in the output"
    return Finding(found, f"{said}; missing: {', '.join(map(shown, missing[:5]))}." if missing else f"{said}.")


def bleu(parameters: Bleu, subject: Subject) -> Finding:
    """BLEU against all the texts that were expected at once, as its authors meant several references."""
    metric = _metric("BLEU", tokenize=parameters.tokenize, lowercase=parameters.ignore_case, effective_order=True)
    return _sacrebleu("BLEU", metric, parameters, subject)


def chrf(parameters: Chrf, subject: Subject) -> Finding:
    """chrF or chrF++ against the most alike of the texts that were expected."""
    metric = _metric("CHRF", word_order=parameters.word_order, lowercase=parameters.ignore_case)
    return _sacrebleu("chrF" + "+" * min(2, parameters.word_order), metric, parameters, subject)


def rouge(parameters: Rouge, subject: Subject) -> Finding:
    """Shared words, pairs of words or the longest common subsequence."""

    def score(output: str, text: str) -> float:
        found, wanted = _words(output), _words(text)
        if parameters.variant == "rougeL":
            return _rated(parameters.measure, _common(found, wanted), len(found), len(wanted))
        size = 1 if parameters.variant == "rouge1" else 2
        grams, references = _grams(found, size), _grams(wanted, size)
        shared = sum((grams & references).values())
        return _rated(parameters.measure, shared, grams.total(), references.total())

    return _best(parameters, subject, score, name=parameters.variant, fold=True)


def _best(
    parameters: FuzzyMatch | Rouge,
    subject: Subject,
    score: Callable[[str, str], float],
    *,
    name: str = "similarity",
    fold: bool = False,
) -> Finding:
    output, expected = text_of(subject), expected_texts(parameters, subject)
    comparable(output, *expected)
    if fold:
        output, expected = output.casefold(), [text.casefold() for text in expected]
    best = max(score(output, text) for text in expected)
    return measured(parameters, best, f"The {name} to what was expected is {best:.3f}")


def _sacrebleu(name: str, metric: Any, parameters: Bleu | Chrf, subject: Subject) -> Finding:
    output, expected = text_of(subject), expected_texts(parameters, subject)
    comparable(output, *expected)
    score = float(metric.sentence_score(output, expected).score) / 100
    return measured(parameters, score, f"The {name} against what was expected is {score:.3f}")


@cache
def _metric(name: str, **options: Any) -> Any:
    return getattr(optional("sacrebleu.metrics", "sacrebleu", "heuristics"), name)(**options)


@cache
def _fuzzy(method: str) -> Callable[[str, str], float]:
    if method == "jaro_winkler":
        similarity: Callable[[str, str], float] = _rapidfuzz("distance").JaroWinkler.normalized_similarity
        return similarity
    percent: Callable[[str, str], float] = getattr(_rapidfuzz("fuzz"), method)
    return lambda output, text: percent(output, text) / 100


def _rapidfuzz(part: str) -> Any:
    return optional(f"rapidfuzz.{part}", "rapidfuzz", "heuristics")


def _common(found: Sequence[str], wanted: Sequence[str]) -> int:
    return int(_rapidfuzz("distance").LCSseq.similarity(found, wanted))


def _rated(measure: str, shared: int, found: int, wanted: int) -> float:
    precision, recall = shared / found if found else 0.0, shared / wanted if wanted else 0.0
    if measure == "precision":
        return precision
    if measure == "recall":
        return recall
    return 2 * precision * recall / (precision + recall) if shared else 0.0


def _words(text: str) -> list[str]:
    """Runs of letters and digits of any script; one that is written without spaces is taken by its characters."""
    words: list[str] = []
    word = ""
    for character in text:
        if "\u3040" <= character <= "\u30ff" or "\u4e00" <= character <= "\u9fff":
            words.extend([word, character])
            word = ""
        elif character.isalnum():
            word += character
        else:
            words.append(word)
            word = ""
    return [word for word in (*words, word) if word]


def _grams(words: Sequence[str], size: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[at : at + size]) for at in range(len(words) - size + 1))


def _folded(parameters: ExactMatch, text: str) -> str:
    text = unicodedata.normalize("NFC", text)
    if parameters.ignore_case:
        text = text.casefold()
    if parameters.ignore_punctuation:
        text = "".join(c for c in text if c not in string.punctuation and not unicodedata.category(c).startswith("P"))
    return " ".join(text.split()) if parameters.ignore_whitespace else text


def _same_json(output: str, text: str) -> bool:
    try:
        return bool(_typed(read_json(output)) == _typed(read_json(text)))
    except (ValueError, RecursionError):
        return False


def _typed(value: Any) -> Any:
    """The document with true and false told from 1 and 0, which Python takes for the same."""
    if isinstance(value, dict):
        return {key: _typed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_typed(item) for item in value]
    return (bool, value) if isinstance(value, bool) else value
