"""Parameters of the scorers that ask a model."""

import re
from typing import Any, Literal

from pydantic import Field, TypeAdapter, ValidationError, field_validator, model_validator

from tracestone.schema.assessments import TargetType
from tracestone.schema.scorers.parameters import Parameters
from tracestone.schema.scorers.verdicts import BoolVerdict, VerdictSpec, value_type

VARIABLES = ("inputs", "outputs", "expectations", "trace", "conversation", "span")
MAX_QUESTIONS = 20
MAX_EXAMPLES = 20

_PLACEHOLDER = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")
# What a definition may tell a provider: how to answer. Who is called, with which secret, and how often is not among it.
_PARAMS = frozenset(
    "temperature top_p top_k max_tokens max_completion_tokens seed stop reasoning_effort verbosity thinking "
    "presence_penalty frequency_penalty logit_bias service_tier".split()
)
# No user, no query: an address holds no secret.
API_BASE_PATTERN = r"^https?://[^@?#\s]+$"
# What can be asked together with each: a conversation or a span is the whole target.
_ALONE = {"conversation": {"expectations"}, "span": {"inputs", "outputs", "expectations"}}


class ModelCalls(Parameters):
    """Which model is asked, and how.

    `timeout` is in seconds, per call; `retries` come after the first attempt. Of the content about
    `max_content_characters` are told.
    """

    model: str = Field(min_length=1, max_length=200, pattern=r"^[\w.@+-]+([/:][\w.@+-]+)*$")
    params: dict[str, Any] = Field(default_factory=dict)
    api_base: str | None = Field(None, pattern=API_BASE_PATTERN)
    timeout: float = Field(60, gt=0, le=600)
    retries: int = Field(3, ge=0, le=10)
    max_content_characters: int = Field(60_000, ge=500, le=1_000_000)

    @field_validator("params")
    @classmethod
    def _allowed(cls, value: dict[str, Any]) -> dict[str, Any]:
        refused = sorted(name for name in value if name not in _PARAMS)
        if refused:
            raise ValueError(f"{refused[0][:100]} cannot be set here; what can: {', '.join(sorted(_PARAMS))}")
        return value


class Question(Parameters):
    """One of several questions that a judge answers in one call; its verdict is an assessment of its own."""

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,49}$")
    ask: str = Field(min_length=1, max_length=5000)
    verdict: VerdictSpec = Field(BoolVerdict(type="bool"), discriminator="type")


class Example(Parameters):
    """A case with the right answer: of several questions an object with the value of each."""

    inputs: str = Field("", max_length=20_000)
    outputs: str = Field("", max_length=20_000)
    rationale: str = Field("", max_length=20_000)
    value: Any


class Judge(ModelCalls):
    """A model asked for a verdict, or for several.

    `max_steps` and `max_usd` bound a judge that looks at a long trace by itself, span by span. Up to `images`
    pictures of the content are shown to the model.
    """

    instructions: str = Field(min_length=1, max_length=50_000)
    verdict: VerdictSpec = Field(BoolVerdict(type="bool"), discriminator="type")
    questions: tuple[Question, ...] = Field((), max_length=MAX_QUESTIONS)
    examples: tuple[Example, ...] = Field((), max_length=MAX_EXAMPLES)
    rationale: Literal["first", "last"] = "first"
    images: int = Field(0, ge=0, le=20)
    max_steps: int = Field(20, ge=1, le=100)
    max_usd: float | None = Field(None, gt=0, allow_inf_nan=False)

    @property
    def variables(self) -> frozenset[str]:
        """What of the target the instructions name."""
        return frozenset(_PLACEHOLDER.findall(self.instructions))

    @property
    def targets(self) -> frozenset[TargetType]:
        """A conversation is a session's, a span a span's; a trace is a trace's, texts are anything's."""
        if "conversation" in self.variables:
            return frozenset({"session"})
        if "span" in self.variables:
            return frozenset({"span"})
        if "trace" in self.variables:
            return frozenset({"trace"})
        return frozenset({"span", "trace", "session"})

    @field_validator("instructions")
    @classmethod
    def _variables(cls, value: str) -> str:
        used = set(_PLACEHOLDER.findall(value))
        unknown = sorted(used - set(VARIABLES))
        known = ", ".join("{{ " + name + " }}" for name in VARIABLES)
        if unknown:
            raise ValueError("unknown variable {{ " + unknown[0] + " }}; known: " + known)
        if not used:
            raise ValueError("name at least one of " + known)
        for name, others in _ALONE.items():
            if name in used and (foreign := sorted(used - others - {name})):
                raise ValueError(f"{{{{ {name} }}}} cannot be used together with {{{{ {foreign[0]} }}}}")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> "Judge":
        if len({question.name for question in self.questions}) != len(self.questions):
            raise ValueError("two questions have the same name")
        wanted = {question.name: question.verdict for question in self.questions} or {"": self.verdict}
        for number, example in enumerate(self.examples):
            values = example.value if self.questions else {"": example.value}
            for name, verdict in wanted.items():
                path = f"examples.{number}.value" + (f".{name}" if name else "")
                if not isinstance(values, dict) or name not in values:
                    raise ValueError(f"{path} is missing")
                try:
                    TypeAdapter(value_type(verdict)).validate_python(values[name])
                except ValidationError as error:
                    raise ValueError(f"{path}: {error.errors(include_url=False)[0]['msg']}") from error
        return self
