"""Parameters of the scorers that read the form of a text: pattern, length, JSON, repetition, readability."""

from typing import Any, Literal

from pydantic import Field, model_validator

from tracestone.schema.errors import Invalid, MissingExtra
from tracestone.schema.json_schemas import compile_schema
from tracestone.schema.patterns import compile_pattern
from tracestone.schema.scorers.measures import Measured
from tracestone.schema.scorers.parameters import Parameters

Side = Literal["input", "output"]


class RegexMatch(Parameters):
    """True when `pattern` (RE2) is found in the field, or matches all of it when `full` is set."""

    pattern: str = Field(min_length=1)
    field: Side = "output"
    full: bool = False
    ignore_case: bool = False
    dot_matches_newline: bool = False

    @model_validator(mode="after")
    def _compiles(self) -> "RegexMatch":
        try:
            compile_pattern(self.pattern, ignore_case=self.ignore_case, dot_matches_newline=self.dot_matches_newline)
        except Invalid as error:
            raise ValueError(error.reason) from error
        return self


class ResponseLength(Parameters):
    """True when the output's length lies within the bounds, both included."""

    unit: Literal["characters", "words"] = "characters"
    minimum: int | None = Field(None, ge=0)
    maximum: int | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _bounded(self) -> "ResponseLength":
        if self.minimum is None and self.maximum is None:
            raise ValueError("needs minimum, maximum or both")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError("minimum is above maximum")
        return self


class JsonValidity(Parameters):
    """True when the output is one JSON document; `object_only` asks for an object."""

    object_only: bool = False


class JsonSchema(Parameters):
    """True when the field is one JSON document that is valid under `json_schema` (draft 4 to 2020-12)."""

    json_schema: dict[str, Any] | bool
    field: Side = "output"

    @model_validator(mode="after")
    def _compiles(self) -> "JsonSchema":
        try:
            compile_schema(self.json_schema)
        except Invalid as error:
            raise ValueError(error.reason) from error
        except MissingExtra:
            pass  # it is checked where it scores, and defined perhaps where it does not
        return self


class Repetition(Measured):
    """The share of n-grams that are repeats of earlier ones, from 0 to 1; `ngram` units make one.

    `max_in_a_row` is how often a phrase may come back to back; more often makes the value false.
    """

    ngram: int = Field(4, ge=1, le=50)
    unit: Literal["words", "characters"] = "words"
    max_in_a_row: int | None = Field(None, ge=1)
    field: Side = "output"


class Readability(Measured):
    """How easy the output is to read.

    `flesch_reading_ease` (0 hard to 100 easy) and `flesch_kincaid_grade` (years of school) are for English; `lix` (20
    easy to 60 hard) is for any language written with letters and spaces.
    """

    measure: Literal["flesch_reading_ease", "flesch_kincaid_grade", "lix"] = "flesch_reading_ease"
