"""What a scorer gets, what it gives back, and how it says that it could not."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from tracestone.schema.assessments import AssessmentError, TargetType
from tracestone.schema.spans import Span
from tracestone.schema.stores.jobs import Usage
from tracestone.schema.traces import Trace


@dataclass(frozen=True)
class Turn:
    """A trace and the text a user sent and got in it; "" when there is none."""

    trace: Trace
    inputs: str
    outputs: str


@dataclass(frozen=True)
class Subject:
    """A span, a trace or a session as a scorer sees it.

    `turns` holds the trace (of a span: with that span alone), or the traces of the session in order of time.
    `inputs` and `outputs` are text; of a session the first input and the last output. `expectations` are what people
    expect of the target, by name. `omitted` counts the earliest turns of a session that are left out.
    """

    target_type: TargetType
    turns: tuple[Turn, ...]
    inputs: str
    outputs: str
    span: Span | None = None
    expectations: Mapping[str, Any] = field(default_factory=dict)
    session_id: str = ""
    omitted: int = 0

    @property
    def trace(self) -> Trace:
        """The trace; of a session the latest."""
        return self.turns[-1].trace

    @property
    def spans(self) -> tuple[Span, ...]:
        """Every span the target consists of."""
        if self.span is not None:
            return (self.span,)
        return tuple(span for turn in self.turns for span in turn.trace.spans)

    @property
    def duration_ns(self) -> int:
        """How long it took; of a session the sum of its traces."""
        if self.span is not None:
            return self.span.duration_ns
        return sum(turn.trace.info.duration_ns for turn in self.turns)


@dataclass(frozen=True)
class Finding:
    """What a heuristic says."""

    value: bool | float | str
    rationale: str


@dataclass(frozen=True)
class Named:
    """One of several values under a name of its own."""

    name: str
    value: Any
    rationale: str = ""


@dataclass(frozen=True)
class Outcome:
    """What is recorded: a value with its rationale, or an error; and what it cost.

    With `named` it is several values, each an assessment of its own, and `value` and `rationale` say nothing.
    """

    source_type: str
    source_id: str
    value: Any = None
    rationale: str = ""
    error: AssessmentError | None = None
    usage: Usage = field(default_factory=Usage)
    metadata: dict[str, str] = field(default_factory=dict)
    named: tuple[Named, ...] = ()


class AttemptFailed(Exception):
    """One attempt gave no verdict.

    `usage` was spent all the same; `retry_after` is the provider's wish in seconds.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        retryable: bool,
        retry_after: float | None = None,
        usage: Usage | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.retryable = retryable
        self.retry_after = retry_after
        self.usage = usage or Usage()


class TargetScorer(Protocol):
    """One version of a scorer, ready to use."""

    @property
    def source_type(self) -> str: ...

    @property
    def source_id(self) -> str: ...

    @property
    def retries(self) -> int: ...

    async def score(self, subject: Subject) -> Outcome:
        """The verdict on a target. Raises AttemptFailed."""
        ...
