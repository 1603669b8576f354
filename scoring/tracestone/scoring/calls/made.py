"""What is noted of a call of a model, for the trace of the attempt it belongs to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tracestone.schema.stores.jobs import Usage

Operation = Literal["chat", "embeddings"]


@dataclass(frozen=True)
class Made:
    """One call. Times are nanoseconds since the epoch.

    `cached` says that the answer was there from before, and nothing was asked. `error` is code and message of a call
    that failed. `asked`, `said` and `tool_calls` (name, arguments) are None and empty unless content is to be kept.
    """

    operation: Operation
    model: str
    began_ns: int
    ended_ns: int
    usage: Usage
    response_model: str = ""
    cached: bool = False
    error: tuple[str, str] | None = None
    asked: Sequence[Mapping[str, Any]] | None = None
    said: str | None = None
    tool_calls: tuple[tuple[str, str], ...] = ()
