"""What a scorer is: its kinds, their parameters, its versions, and the online configurations that apply it.

A definition is a name, a kind and parameters. It is stored with a version that never changes; another
definition under the same name is the next version. `parameters` are checked here, by one model per kind,
wherever they come from (YAML, API, a stored row), so an invalid definition is refused before it is stored.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from tracestone.schema.errors import Invalid
from tracestone.schema.patterns import compile_pattern

Model = TypeVar("Model", bound=BaseModel)
Kind = Literal["regex_match", "response_length", "latency", "json_validity", "error", "judge"]

NAME_PATTERN = r"^[A-Za-z][A-Za-z0-9_.-]{0,99}$"
VARIABLES = ("inputs", "outputs", "trace")

_PLACEHOLDER = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")
# What a definition may tell a provider: how to answer. Who is called, with which secret, and how often is not among it.
_PARAMS = frozenset(
    "temperature top_p top_k max_tokens max_completion_tokens seed stop reasoning_effort verbosity thinking "
    "presence_penalty frequency_penalty logit_bias service_tier".split()
)
# No user, no query: an address holds no secret.
API_BASE_PATTERN = r"^https?://[^@?#\s]+$"


class Parameters(BaseModel):
    """Base of the parameter models: frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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


MODELS: dict[str, type[Parameters]] = {
    "regex_match": RegexMatch,
    "response_length": ResponseLength,
    "latency": Latency,
    "json_validity": JsonValidity,
    "error": ErrorFree,
    "judge": Judge,
}


@dataclass(frozen=True)
class Definition:
    """A checked definition that has no version yet. `digest` tells whether two definitions are the same."""

    name: str
    kind: str
    parameters: Parameters

    @property
    def stored(self) -> dict[str, Any]:
        """The parameters as JSON, defaults written out so that a later default changes no old version."""
        return self.parameters.model_dump(mode="json")

    @property
    def digest(self) -> str:
        """SHA-256 of kind and parameters, in hex."""
        text = json.dumps([self.kind, self.stored], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Scorer:
    """One stored version of a scorer; immutable once stored."""

    name: str
    version: int
    kind: str
    parameters: Parameters
    created_at_ms: int


@dataclass(frozen=True)
class OnlineConfig:
    """Applies a scorer to live traffic.

    `version` None means the latest when a trace is chosen; `experiment_id` None means every experiment
    without a configuration of its own for this scorer. `filter` is an SQL condition over `traces` ("" keeps
    everything).
    """

    config_id: int
    scorer_name: str
    version: int | None
    experiment_id: int | None
    sample_rate: float
    filter: str
    salt: str
    last_error: str = ""


class OnlineRequest(BaseModel):
    """What a client says of an online configuration; `experiment` is an id, a name, or None for all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    experiment: int | str | None = None
    version: int | None = Field(None, ge=1)
    sample_rate: float = Field(1.0, ge=0, le=1, allow_inf_nan=False)
    filter: str = ""
    salt: str = Field("", max_length=100)


def define(name: str, kind: str, parameters: object) -> Definition:
    """A checked definition. Raises Invalid, naming the field and the reason."""
    if not isinstance(name, str) or re.match(NAME_PATTERN, name) is None:
        raise Invalid("name", "must be 1 to 100 of A-Z a-z 0-9 _ . - and begin with a letter")
    model = MODELS.get(kind) if isinstance(kind, str) else None
    if model is None:
        raise Invalid("kind", f"must be one of {', '.join(MODELS)}")
    return Definition(name, kind, checked(model, parameters if parameters is not None else {}, "parameters"))


def checked(model: type[Model], value: object, field: str) -> Model:
    """The value as the model. Raises Invalid with the path of the first wrong field under `field`."""
    if not isinstance(value, dict):
        raise Invalid(field, "must be an object")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        path = ".".join(str(part) for part in (field, *first["loc"]) if part != "")
        raise Invalid(path, first["msg"].removeprefix("Value error, ")) from error
