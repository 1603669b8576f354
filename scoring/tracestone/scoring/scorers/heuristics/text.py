"""Heuristics that read the text of a trace: a pattern, a length, JSON. Pure."""

import json
from typing import NoReturn

from tracestone.schema.patterns import compile_pattern
from tracestone.schema.scorers.heuristics import JsonValidity, RegexMatch, ResponseLength
from tracestone.scoring.scorers.protocol import Finding, Subject


def regex_match(parameters: RegexMatch, subject: Subject) -> Finding:
    """True when the pattern is found in the input or output, or matches all of it."""
    pattern = compile_pattern(
        parameters.pattern,
        ignore_case=parameters.ignore_case,
        dot_matches_newline=parameters.dot_matches_newline,
    )
    text = subject.inputs if parameters.field == "input" else subject.outputs
    found = (pattern.fullmatch(text) if parameters.full else pattern.search(text)) is not None
    verb = "matches" if found else "does not match"
    return Finding(found, f"The {parameters.field} {verb} the pattern.")


def response_length(parameters: ResponseLength, subject: Subject) -> Finding:
    """True when the output's length lies within the bounds."""
    words = parameters.unit == "words"
    length = len(subject.outputs.split()) if words else len(subject.outputs)
    minimum, maximum = parameters.minimum, parameters.maximum
    inside = (minimum is None or length >= minimum) and (maximum is None or length <= maximum)
    bounds = " and ".join(
        [f"at least {minimum}"] * (minimum is not None) + [f"at most {maximum}"] * (maximum is not None)
    )
    return Finding(inside, f"The output has {length} {parameters.unit}; {bounds} are allowed.")


def json_validity(parameters: JsonValidity, subject: Subject) -> Finding:
    """True when the output is one JSON document (RFC 8259: NaN and Infinity are not JSON)."""
    try:
        document = json.loads(subject.outputs, parse_constant=_not_json)
    except RecursionError:
        return Finding(False, "The output is nested too deeply to be read as JSON.")
    except ValueError as error:
        return Finding(False, f"The output is not JSON: {error}."[:500])
    if parameters.object_only and not isinstance(document, dict):
        return Finding(False, "The output is JSON, but not an object.")
    return Finding(True, "The output is JSON.")


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON value")
