"""Parameters that several kinds of heuristics share: bounds of a number, and what a text is compared with."""

from pydantic import Field, model_validator

from tracestone.schema.scorers.parameters import Parameters


class Measured(Parameters):
    """A number. With `minimum`, `maximum` or both the value is whether it lies within, both included; else itself."""

    minimum: float | None = Field(None, allow_inf_nan=False)
    maximum: float | None = Field(None, allow_inf_nan=False)

    @model_validator(mode="after")
    def _ordered(self) -> "Measured":
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError("minimum is above maximum")
        return self


class Compared(Parameters):
    """The output beside `expected`, or beside the expectation of that name when no text is given.

    An expectation that is a list of texts holds alternatives, of which the most alike counts.
    """

    expected: str | None = Field(None, min_length=1, max_length=100_000)
    expectation: str = Field("expected_response", min_length=1, max_length=250)


class Similarity(Compared, Measured):
    """How alike the output and what was expected are, from 0 to 1; with bounds, whether that is within."""
