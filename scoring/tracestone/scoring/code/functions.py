"""What a scorer function gets and how its answer is read. Standard library only: the sandbox loads this file alone.

The forms are those of MLflow's `@scorer`: a function names the arguments it wants among `inputs`, `outputs`,
`expectations`, `trace` and `session`, and returns a bool, a number, a text, a dict, a list, or a `Feedback`.
"""

import enum
import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

ARGUMENTS = ("inputs", "outputs", "expectations", "trace", "session")
MAX_ANSWER_CHARACTERS = 200_000


class BadFunction(Exception):
    """The function cannot be called: its arguments are others than a scorer gets."""


class BadAnswer(Exception):
    """The function's answer is no verdict."""


class Feedback:
    """A value with its rationale, as MLflow's Feedback; what else a caller gives is left out."""

    def __init__(
        self,
        value: Any = None,
        rationale: str = "",
        name: str = "",
        error: Any = None,
        metadata: dict[str, Any] | None = None,
        **_left_out: Any,
    ) -> None:
        self.value = value
        self.rationale = rationale or ""
        self.name = name
        self.error = error
        self.metadata = metadata or {}


@dataclass(frozen=True)
class Span:
    """A span, with MLflow's names. `inputs` and `outputs` are parsed where they are JSON."""

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    span_type: str
    inputs: Any
    outputs: Any
    status: str
    start_time_ns: int
    end_time_ns: int
    attributes: dict[str, Any] = field(default_factory=dict)
    model: str = ""
    tool_name: str = ""

    def get_attribute(self, key: str) -> Any:
        """The attribute's value; None when there is none."""
        return self.attributes.get(key)


@dataclass(frozen=True)
class TraceInfo:
    """What is known of a whole trace; `execution_duration` is in milliseconds, missing numbers are None."""

    trace_id: str
    state: str
    execution_duration: float
    timestamp_ms: int
    tags: dict[str, str]
    token_usage: dict[str, int | None]
    cost_usd: float | None
    session_id: str
    user_id: str


@dataclass(frozen=True)
class TraceData:
    """The spans of a trace, in order of start."""

    spans: list[Span]


@dataclass(frozen=True)
class Trace:
    """A trace, with MLflow's names."""

    info: TraceInfo
    data: TraceData

    def search_spans(self, span_type: str | None = None, name: str | None = None) -> list[Span]:
        """The spans of this type and name, in order of start; a type is compared without regard to case."""
        return [
            span
            for span in self.data.spans
            if (span_type is None or span.span_type.lower() == span_type.lower()) and name in (None, span.name)
        ]


def scorer(function: Callable[..., Any] | None = None, **_options: Any) -> Any:
    """MLflow's decorator, which here leaves the function as it is."""
    return function if function is not None else scorer


def wanted(function: Callable[..., Any]) -> list[str]:
    """The arguments that the function names. Raises BadFunction."""
    if inspect.iscoroutinefunction(function):
        raise BadFunction("the function is async; a scorer is a plain function")
    names = []
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            return list(ARGUMENTS)
        if name in ARGUMENTS and parameter.kind is not inspect.Parameter.POSITIONAL_ONLY:
            names.append(name)
        elif parameter.default is inspect.Parameter.empty:
            raise BadFunction(f"the argument {name} is none of {', '.join(ARGUMENTS)}")
    return names


def answer(function: Callable[..., Any], given: dict[str, Any]) -> dict[str, Any]:
    """Calls the function with the documents in `given`; `{value, rationale, metadata}` or `{failed: message}`.

    Raises BadAnswer, and whatever the function raises.
    """
    arguments = dict(given)
    if arguments.get("trace") is not None:
        arguments["trace"] = trace_of(arguments["trace"])
    if arguments.get("session") is not None:
        arguments["session"] = [trace_of(document) for document in arguments["session"]]
    return read(function(**arguments))


def read(found: Any) -> dict[str, Any]:
    """A function's answer as plain JSON values. Raises BadAnswer."""
    if isinstance(found, list | tuple) and found and all(map(_is_feedback, found)):
        return _checked(_several(found))
    if _is_feedback(found):
        if found.error is not None:
            return {"failed": str(getattr(found.error, "error_message", None) or found.error)[:2000]}
        rationale, metadata = found.rationale or "", getattr(found, "metadata", None) or {}
        return _checked({"value": _plain(found.value), "rationale": rationale, "metadata": metadata})
    return _checked({"value": _plain(found), "rationale": "", "metadata": {}})


def trace_of(document: dict[str, Any]) -> Trace:
    """A trace from its document, which has the fields of TraceInfo and a list `spans` with those of Span."""
    spans = [Span(**span) for span in document["spans"]]
    return Trace(TraceInfo(**{key: value for key, value in document.items() if key != "spans"}), TraceData(spans))


def _is_feedback(found: Any) -> bool:
    return hasattr(found, "value") and hasattr(found, "rationale") and hasattr(found, "error")


def _several(found: Any) -> dict[str, Any]:
    """Several feedbacks as one value: a dict by their names."""
    values: dict[str, Any] = {}
    rationales = []
    for number, each in enumerate(found, 1):
        name = str(getattr(each, "name", "") or number)
        if each.error is not None:
            raise BadAnswer(f"{name}: {each.error}"[:2000])
        values[name] = _plain(each.value)
        if each.rationale:
            rationales.append(f"{name}: {each.rationale}")
    return {"value": values, "rationale": "\n".join(rationales), "metadata": {}}


def _plain(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        value = value.value
    if hasattr(value, "item") and not isinstance(value, dict | list | tuple | str | bool | int | float):
        value = value.item()  # a number of numpy
    if value is None:
        raise BadAnswer("the function returned no value")
    return value


def _checked(verdict: dict[str, Any]) -> dict[str, Any]:
    verdict["rationale"] = str(verdict["rationale"])
    verdict["metadata"] = {str(key): str(value) for key, value in dict(verdict["metadata"]).items()}
    try:
        text = json.dumps(verdict, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        kind = type(verdict["value"]).__name__
        raise BadAnswer(f"the function returned a {kind} that is not a JSON value: {error}"[:500]) from error
    if len(text) > MAX_ANSWER_CHARACTERS:
        raise BadAnswer(f"the function returned more than {MAX_ANSWER_CHARACTERS} characters")
    return verdict
