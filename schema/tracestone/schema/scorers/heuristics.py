"""Parameters of the scorers that are plain code."""

from typing import Literal

from pydantic import Field, model_validator

from tracestone.schema.errors import Invalid
from tracestone.schema.patterns import compile_pattern
from tracestone.schema.scorers.parameters import Parameters


class RegexMatch(Parameters):
    """True when `pattern` (RE2) is found in the field, or matches all of it when `full` is set."""

    pattern: str = Field(min_length=1)
    field: Literal["input", "output"] = "output"
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


class Latency(Parameters):
    """True when the trace took at most `max_ms` milliseconds."""

    max_ms: float = Field(gt=0, allow_inf_nan=False)


class JsonValidity(Parameters):
    """True when the output is one JSON document; `object_only` asks for an object."""

    object_only: bool = False


class ErrorFree(Parameters):
    """True when the trace holds an error."""
