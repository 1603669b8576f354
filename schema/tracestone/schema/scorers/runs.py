"""Parameters of the scorers that read how a target ran: time, tokens, cost, errors, tools, retrieval."""

from typing import Literal

from pydantic import Field, model_validator

from tracestone.schema.scorers.measures import Measured
from tracestone.schema.scorers.parameters import ANY_TARGET, Parameters


class Latency(Parameters):
    """True when the target took at most `max_ms` milliseconds; a session takes what its traces take together.

    With `percentile`, true when that percentile of its spans' durations is at most `max_ms`: of those of `span_type`
    and `span_name` when given.
    """

    possible_targets = ANY_TARGET

    max_ms: float = Field(gt=0, allow_inf_nan=False)
    percentile: float | None = Field(None, gt=0, le=100)
    span_type: str = Field("", max_length=100)
    span_name: str = Field("", max_length=1000)

    @model_validator(mode="after")
    def _of_spans(self) -> "Latency":
        if self.percentile is None and (self.span_type or self.span_name):
            raise ValueError("span_type and span_name need percentile")
        return self


class Tokens(Measured):
    """The tokens that were used, counted once; with bounds, whether they are within."""

    possible_targets = ANY_TARGET

    count: Literal["total", "input", "output"] = "total"


class Cost(Measured):
    """The cost of the target in USD, counted once; with bounds, whether it is within."""

    possible_targets = ANY_TARGET


class ErrorFree(Parameters):
    """True when the target holds an error."""

    possible_targets = ANY_TARGET


class ToolLoop(Parameters):
    """True when a tool was called with the same arguments more than `max_repeats` times.

    With `consecutive`, only calls count between which no other tool was called.
    """

    possible_targets = frozenset({"trace", "session"})

    max_repeats: int = Field(2, ge=1)
    consecutive: bool = False


class EmptyRetrieval(Parameters):
    """True when a retrieval found fewer than `min_documents` documents."""

    possible_targets = ANY_TARGET

    min_documents: int = Field(1, ge=1)
