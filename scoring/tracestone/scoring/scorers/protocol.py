"""What a scorer gets, what it gives back, and how it says that it could not."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from tracestone.schema.assessments import AssessmentError
from tracestone.schema.stores.jobs import Usage
from tracestone.schema.traces import Trace


@dataclass(frozen=True)
class Subject:
    """A trace as a scorer sees it.

    `inputs` and `outputs` are the text a user sent and got; "" when there is none.
    """

    trace: Trace
    inputs: str
    outputs: str


@dataclass(frozen=True)
class Finding:
    """What a heuristic says."""

    value: bool | float | str
    rationale: str


@dataclass(frozen=True)
class Outcome:
    """What is recorded: a value with its rationale, or an error; and what it cost."""

    source_type: str
    source_id: str
    value: Any = None
    rationale: str = ""
    error: AssessmentError | None = None
    usage: Usage = field(default_factory=Usage)
    metadata: dict[str, str] = field(default_factory=dict)


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


class TraceScorer(Protocol):
    """One version of a scorer, ready to use."""

    @property
    def source_type(self) -> str: ...

    @property
    def source_id(self) -> str: ...

    @property
    def retries(self) -> int: ...

    async def score(self, subject: Subject) -> Outcome:
        """The verdict on a trace. Raises AttemptFailed."""
        ...
