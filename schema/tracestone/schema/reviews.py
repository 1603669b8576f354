"""Reviews: targets that wait for a person's answer. Pure."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tracestone.schema.assessments import TargetType
from tracestone.schema.errors import Invalid
from tracestone.schema.scorers.verdicts import PlainVerdict, TextVerdict, value_type

DROPPED = "REVIEW_DROPPED"
"""The error code of a review that somebody has put aside."""
MAX_REVIEWER_CHARACTERS = 200


@dataclass(frozen=True)
class Review:
    """One target that a version of a scorer of the kind `review` asks about.

    `taken_by` is who has it until `taken_until`, "" when nobody has. `seen_ns` is the state of the target to be
    answered: what was there when it was taken, else when it was chosen.
    """

    review_id: int
    scorer_name: str
    scorer_version: int
    target_type: TargetType
    experiment_id: int
    trace_id: str
    span_id: str
    session_id: str
    seen_ns: int
    probability: float
    stratum: str
    priority: int
    taken_by: str
    taken_until: datetime | None
    created_at: datetime


def answer_of(verdict: PlainVerdict, value: Any) -> Any:
    """The value, if it is an answer to the question. Raises Invalid."""
    try:
        return TypeAdapter(value_type(verdict)).validate_python(value)
    except ValidationError as error:
        raise Invalid("value", f"must be {expected(verdict)}") from error


def answer_from_text(verdict: PlainVerdict, text: str) -> Any:
    """The same for what a person typed: true, 4 and the like are read as JSON. Raises Invalid."""
    if verdict.type in ("bool", "number"):
        try:
            return answer_of(verdict, json.loads(text))
        except ValueError as error:
            raise Invalid("value", f"must be {expected(verdict)}") from error
    return answer_of(verdict, text)


def expected(verdict: PlainVerdict) -> str:
    """What an answer may be, as the end of a sentence."""
    if isinstance(verdict, TextVerdict):
        return f"text of at most {verdict.max_characters} characters"
    if verdict.type == "bool":
        return "true or false"
    if verdict.type == "number":
        return f"a number from {verdict.minimum:g} to {verdict.maximum:g}"
    return f"one of {', '.join(verdict.categories)}"
