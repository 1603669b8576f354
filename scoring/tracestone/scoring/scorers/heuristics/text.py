"""Heuristics that read the form of a text: a pattern, a length, JSON, repetition, readability. Pure."""

import json
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from tracestone.schema.errors import Invalid
from tracestone.schema.json_schemas import compile_schema
from tracestone.schema.patterns import compile_pattern
from tracestone.schema.scorers.text import (
    JsonSchema,
    JsonValidity,
    Readability,
    RegexMatch,
    Repetition,
    ResponseLength,
)
from tracestone.scoring.scorers.heuristics.reading import measured, nothing, shown, text_of
from tracestone.scoring.scorers.protocol import Finding, Subject

_MOST_ERRORS = 5
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_SENTENCE_END = re.compile(r"[.!?…。！？]+(?=\s|$)|\n\s*\n")
_VOWELS = re.compile(r"[aeiouy]+")
_LONG_WORD = 7
# Every n-gram is kept until the end.
_MOST_UNITS = 200_000


def regex_match(parameters: RegexMatch, subject: Subject) -> Finding:
    """True when the pattern is found in the input or output, or matches all of it."""
    pattern = compile_pattern(
        parameters.pattern,
        ignore_case=parameters.ignore_case,
        dot_matches_newline=parameters.dot_matches_newline,
    )
    text = text_of(subject, parameters.field)
    found = (pattern.fullmatch(text) if parameters.full else pattern.search(text)) is not None
    verb = "matches" if found else "does not match"
    return Finding(found, f"The {parameters.field} {verb} the pattern.")


def response_length(parameters: ResponseLength, subject: Subject) -> Finding:
    """True when the output's length lies within the bounds."""
    text = text_of(subject)
    length = len(text.split()) if parameters.unit == "words" else len(text)
    minimum, maximum = parameters.minimum, parameters.maximum
    inside = (minimum is None or length >= minimum) and (maximum is None or length <= maximum)
    bounds = " and ".join(
        [f"at least {minimum}"] * (minimum is not None) + [f"at most {maximum}"] * (maximum is not None)
    )
    return Finding(inside, f"The output has {length} {parameters.unit}; {bounds} are allowed.")


def json_validity(parameters: JsonValidity, subject: Subject) -> Finding:
    """True when the output is one JSON document (RFC 8259: NaN and Infinity are not JSON)."""
    try:
        document = read_json(text_of(subject))
    except ValueError as error:
        return Finding(False, f"The output is not JSON: {error}."[:500])
    if parameters.object_only and not isinstance(document, dict):
        return Finding(False, "The output is JSON, but not an object.")
    return Finding(True, "The output is JSON.")


def json_schema(parameters: JsonSchema, subject: Subject) -> Finding:
    """True when the text is a JSON document that the schema allows; else the first things that it does not."""
    try:
        validator = compile_schema(parameters.json_schema)
    except Invalid as error:
        raise nothing("BAD_SCHEMA", error.reason) from error
    try:
        document = read_json(text_of(subject, parameters.field))
        problems = _problems(validator.iter_errors(document))
    except UnicodeError:
        return Finding(False, f"The {parameters.field} holds a character that is not Unicode.")
    except ValueError as error:
        return Finding(False, f"The {parameters.field} is not JSON: {error}."[:500])
    if problems:
        return Finding(False, f"The {parameters.field} is not valid under the schema: {'; '.join(problems)}."[:1000])
    return Finding(True, f"The {parameters.field} is valid under the schema.")


def repetition(parameters: Repetition, subject: Subject) -> Finding:
    """The share of repeated n-grams, and the phrase that comes most often back to back."""
    text = text_of(subject, parameters.field)
    units: Sequence[str] = text.split() if parameters.unit == "words" else text
    share, in_a_row, phrase = _repeats(units[:_MOST_UNITS], parameters.ngram)
    joined = (" " if parameters.unit == "words" else "").join(phrase[:200])
    sentence = f"{share:.0%} of the runs of {parameters.ngram} {parameters.unit} are repeats"
    if in_a_row > 1:
        sentence += f"; {shown(joined)} comes {in_a_row} times in a row"
    finding = measured(parameters, share, sentence)
    if parameters.max_in_a_row is None:
        return finding
    within = finding.value if isinstance(finding.value, bool) else True
    return Finding(
        within and in_a_row <= parameters.max_in_a_row,
        f"{finding.rationale} At most {parameters.max_in_a_row} times in a row is wanted.",
    )


def readability(parameters: Readability, subject: Subject) -> Finding:
    """Flesch (1948), Flesch-Kincaid (1975) or LIX (Björnsson 1968)."""
    text = text_of(subject)
    words = _WORD.findall(text)
    if not words:
        raise nothing("NO_WORDS", "the output has no words")
    sentences = max(1, sum(1 for part in _SENTENCE_END.split(text) if _WORD.search(part)))
    per_sentence = len(words) / sentences
    if parameters.measure == "lix":
        score = per_sentence + 100 * sum(len(word) >= _LONG_WORD for word in words) / len(words)
    else:
        syllables = sum(map(_syllables, words)) / len(words)
        if parameters.measure == "flesch_reading_ease":
            score = 206.835 - 1.015 * per_sentence - 84.6 * syllables
        else:
            score = 0.39 * per_sentence + 11.8 * syllables - 15.59
    name = {"lix": "LIX", "flesch_reading_ease": "reading ease", "flesch_kincaid_grade": "grade"}[parameters.measure]
    return measured(parameters, score, f"The {name} of {len(words)} words in {sentences} sentences is {score:.1f}")


def read_json(text: str) -> Any:
    """The document. Raises ValueError; its message ends without a full stop."""
    try:
        return json.loads(text, parse_constant=_not_json)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON value")


def _problems(errors: Any) -> list[str]:
    found = []
    for number, error in enumerate(errors):
        if number == _MOST_ERRORS:
            found.append("and more")
            break
        path = ".".join(str(part) for part in error.instance_path)
        found.append(f"{path[:200] or 'the document'}: {error.message[:200]}")
    return found


def _repeats(units: Sequence[str], size: int) -> tuple[float, int, Sequence[str]]:
    """The share of n-grams seen before; how often a phrase comes back to back at most, and the phrase.

    One pass: a phrase of length d that is repeated makes a run of n-grams that were last seen d before.
    """
    total = len(units) - size + 1
    if total <= 0:
        return 0.0, 1, ()
    last: dict[Any, int] = {}
    repeats, best, phrase = 0, 1, units[:0]
    distance, run = 0, 0
    for at in range(total):
        gram = units[at : at + size] if isinstance(units, str) else tuple(units[at : at + size])
        before = last.get(gram)
        last[gram] = at
        if before is None:
            distance, run = 0, 0
            continue
        repeats += 1
        distance, run = (distance, run + 1) if at - before == distance else (at - before, 1)
        times = (run + size - 1) // distance + 1
        if times > best:
            best, phrase = times, units[at + size - distance : at + size]
    return repeats / total, best, phrase


def _syllables(word: str) -> int:
    """English syllables by groups of vowels, a silent e left out; at least one."""
    word = word.lower()
    count = len(_VOWELS.findall(word))
    if word.endswith("e") and not word.endswith(("le", "ee")) and count > 1:
        count -= 1
    return max(1, count)
