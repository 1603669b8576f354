"""Parameters of the scorers that ask a model."""

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from tracestone.schema.scorers.parameters import Parameters

VARIABLES = ("inputs", "outputs", "trace")

_PLACEHOLDER = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")
# What a definition may tell a provider: how to answer. Who is called, with which secret, and how often is not among it.
_PARAMS = frozenset(
    "temperature top_p top_k max_tokens max_completion_tokens seed stop reasoning_effort verbosity thinking "
    "presence_penalty frequency_penalty logit_bias service_tier".split()
)
# No user, no query: an address holds no secret.
API_BASE_PATTERN = r"^https?://[^@?#\s]+$"


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


VerdictSpec = BoolVerdict | CategoryVerdict | NumberVerdict | TextVerdict


class Judge(Parameters):
    """A model asked for a verdict.

    `timeout` is in seconds, per call; `retries` come after the first attempt.
    """

    instructions: str = Field(min_length=1, max_length=50_000)
    model: str = Field(min_length=1, max_length=200, pattern=r"^[\w.@+-]+([/:][\w.@+-]+)*$")
    verdict: VerdictSpec = Field(BoolVerdict(type="bool"), discriminator="type")
    params: dict[str, Any] = Field(default_factory=dict)
    api_base: str | None = Field(None, pattern=API_BASE_PATTERN)
    timeout: float = Field(60, gt=0, le=600)
    retries: int = Field(3, ge=0, le=10)
    max_content_characters: int = Field(60_000, ge=500, le=1_000_000)

    @field_validator("instructions")
    @classmethod
    def _variables(cls, value: str) -> str:
        used = _PLACEHOLDER.findall(value)
        unknown = sorted({name for name in used if name not in VARIABLES})
        known = ", ".join("{{ " + name + " }}" for name in VARIABLES)
        if unknown:
            raise ValueError("unknown variable {{ " + unknown[0] + " }}; known: " + known)
        if not used:
            raise ValueError("name at least one of " + known)
        return value

    @field_validator("params")
    @classmethod
    def _allowed(cls, value: dict[str, Any]) -> dict[str, Any]:
        refused = sorted(name for name in value if name not in _PARAMS)
        if refused:
            raise ValueError(f"{refused[0][:100]} cannot be set here; what can: {', '.join(sorted(_PARAMS))}")
        return value
