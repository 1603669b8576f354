"""Assessments: what a person, a judge or code says about a span, a trace or a session."""

import json
import math
from dataclasses import dataclass, field
from typing import Any, Literal

from tracestone.schema.errors import Invalid

TargetType = Literal["span", "trace", "session"]
Kind = Literal["feedback", "expectation"]

SOURCE_TYPES = frozenset({"HUMAN", "LLM_JUDGE", "CODE", "SOURCE_TYPE_UNSPECIFIED"})
MAX_NAME_CHARACTERS = 250
MAX_METADATA_CHARACTERS = 64 * 1024
MAX_TEXT_CHARACTERS = 256 * 1024
"""Of the value as text, the rationale, and each part of the error."""

TRACE_ID = "mlflow.assessment.scorerTraceId"
"""The key in a verdict's metadata of the trace of the judge's own calls, `tr-` and hex; as MLflow has it."""

_AS_NUMBER = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0}
_INT64_MAX = 2**63 - 1


@dataclass(frozen=True)
class AssessmentError:
    """Why there is no verdict. `code` is a short identifier and never empty."""

    code: str
    message: str = ""
    stack: str = ""


@dataclass(frozen=True)
class Assessment:
    """One assessment. Missing texts are "", missing numbers None; times are milliseconds since the epoch.

    A trace target has only `trace_id`, a span target `trace_id` and `span_id`, a session target only
    `session_id` (of `experiment_id`). Ids of traces and spans are lower-case hex. `value` is any JSON value.
    `scorer_name` and `scorer_version` are set together, by our own scorers. `probability` is the chance with
    which the target was sampled; `target_seen_ns` is the state of the target (`TraceInfo.seen_ns`), and `input_digest`
    of what the scorer was given. `origin` is "event" of one that an OpenTelemetry event brought. The store gives
    `assessment_id` and the times.

    Raises Invalid when the fields contradict each other or are over a limit.
    """

    experiment_id: int
    target_type: TargetType
    name: str
    kind: Kind
    source_type: str
    source_id: str = ""
    trace_id: str = ""
    span_id: str = ""
    session_id: str = ""
    value: Any = None
    error: AssessmentError | None = None
    rationale: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    scorer_name: str = ""
    scorer_version: int | None = None
    probability: float | None = None
    cost_usd: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    target_seen_ns: int | None = None
    input_digest: str = ""
    overrides: str = ""
    valid: bool = True
    origin: str | None = None
    assessment_id: str = ""
    created_at_ms: int = 0
    updated_at_ms: int = 0

    def __post_init__(self) -> None:
        self._check_target()
        self._check_verdict()
        if not 1 <= len(self.name) <= MAX_NAME_CHARACTERS:
            raise Invalid("assessment_name", f"must have 1 to {MAX_NAME_CHARACTERS} characters")
        if self.source_type not in SOURCE_TYPES:
            raise Invalid("source_type", f"must be one of {', '.join(sorted(SOURCE_TYPES))}")
        if sum(len(key) + len(value) for key, value in self.metadata.items()) > MAX_METADATA_CHARACTERS:
            raise Invalid("metadata", f"is over {MAX_METADATA_CHARACTERS} characters")
        self._check_lengths()

    def _check_target(self) -> None:
        given = (bool(self.trace_id), bool(self.span_id), bool(self.session_id))
        wanted = {
            "trace": (True, False, False),
            "span": (True, True, False),
            "session": (False, False, True),
        }.get(self.target_type)
        if wanted is None:
            raise Invalid("target_type", "must be span, trace or session")
        if given != wanted:
            raise Invalid("target_type", f"{self.target_type} does not agree with trace_id, span_id and session_id")

    def _check_lengths(self) -> None:
        error = self.error or AssessmentError("")
        texts = {
            "value": value_text(self.value),
            "rationale": self.rationale,
            "source_id": self.source_id,
            "error": max(error.code, error.message, error.stack, key=len),
        }
        for name, text in texts.items():
            if len(text) > MAX_TEXT_CHARACTERS:
                raise Invalid(name, f"is over {MAX_TEXT_CHARACTERS} characters")

    def _check_verdict(self) -> None:
        if self.kind not in ("feedback", "expectation"):
            raise Invalid("kind", "must be feedback or expectation")
        if self.kind == "expectation" and (self.error is not None or self.value is None):
            raise Invalid("expectation", "needs a value and cannot have an error")
        if bool(self.scorer_name) != (self.scorer_version is not None):
            raise Invalid("scorer_version", "must be given with scorer_name, and only then")
        if self.probability is not None and not 0 < self.probability <= 1:
            raise Invalid("probability", "must be over 0 and at most 1")
        if self.cost_usd is not None and not 0 <= self.cost_usd < math.inf:
            raise Invalid("cost_usd", "must be a finite number that is not negative")
        for name, tokens in (("input_tokens", self.input_tokens), ("output_tokens", self.output_tokens)):
            if tokens is not None and not 0 <= tokens <= _INT64_MAX:
                raise Invalid(name, "must be a 64-bit integer that is not negative")


@dataclass(frozen=True)
class Verdict:
    """The part of an assessment that is its statement."""

    kind: Kind
    value: Any = None
    error: AssessmentError | None = None


@dataclass(frozen=True)
class AssessmentChange:
    """What an update changes; None leaves a field as it is. `metadata` is merged, the new values win."""

    name: str | None = None
    verdict: Verdict | None = None
    rationale: str | None = None
    metadata: dict[str, str] | None = None


def value_text(value: Any) -> str:
    """A value as SQL shows it: a string as it is, anything else as JSON, nothing as ""."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def value_number(value: Any) -> float | None:
    """A value as averages take it: true and yes are 1, false and no are 0, a number itself, the rest None."""
    if isinstance(value, bool | int | float):
        try:
            return float(value)
        except OverflowError:
            return None
    if isinstance(value, str):
        return _AS_NUMBER.get(value.strip().lower())
    return None
