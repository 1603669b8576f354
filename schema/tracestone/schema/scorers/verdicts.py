"""The forms a judge's verdict can have, and which values fit each."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StrictBool, create_model, field_validator, model_validator

from tracestone.schema.scorers.parameters import Parameters

FIELD_NAME = r"^[A-Za-z][A-Za-z0-9_]{0,49}$"
MAX_FIELDS = 30


class BoolVerdict(Parameters):
    """A yes or a no."""

    type: Literal["bool"]


class CategoryVerdict(Parameters):
    """One of a list of words."""

    type: Literal["category"]
    categories: tuple[Annotated[str, Field(min_length=1, max_length=100)], ...] = Field(min_length=2, max_length=100)

    @field_validator("categories")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("categories are not distinct")
        return value


class NumberVerdict(Parameters):
    """A number within bounds, both included."""

    type: Literal["number"]
    minimum: float = Field(allow_inf_nan=False)
    maximum: float = Field(allow_inf_nan=False)

    @model_validator(mode="after")
    def _ordered(self) -> "NumberVerdict":
        if self.minimum >= self.maximum:
            raise ValueError("minimum must be below maximum")
        return self


class TextVerdict(Parameters):
    """A short free text."""

    type: Literal["text"]
    max_characters: int = Field(2000, ge=1, le=20_000)


PlainVerdict = Annotated[BoolVerdict | CategoryVerdict | NumberVerdict | TextVerdict, Field(discriminator="type")]


class StructVerdict(Parameters):
    """Several values under names of their own."""

    type: Literal["struct"]
    fields: dict[Annotated[str, Field(pattern=FIELD_NAME)], PlainVerdict] = Field(min_length=1, max_length=MAX_FIELDS)


VerdictSpec = BoolVerdict | CategoryVerdict | NumberVerdict | TextVerdict | StructVerdict


def value_type(spec: VerdictSpec) -> Any:
    """The type of which pydantic accepts exactly the fitting values."""
    if isinstance(spec, BoolVerdict):
        return StrictBool
    if isinstance(spec, CategoryVerdict):
        return Literal[spec.categories]
    if isinstance(spec, NumberVerdict):
        return Annotated[float, Field(ge=spec.minimum, le=spec.maximum, strict=True, allow_inf_nan=False)]
    if isinstance(spec, TextVerdict):
        return Annotated[str, Field(max_length=spec.max_characters)]
    parts: dict[str, Any] = {name: (value_type(part), ...) for name, part in spec.fields.items()}
    return create_model("Struct", __config__=ConfigDict(extra="ignore", frozen=True), **parts)
