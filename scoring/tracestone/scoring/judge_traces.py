"""The trace of one attempt of a judge: a span for the attempt, in it one for each call of a model. Pure.

Names and attributes follow OpenTelemetry's semantic conventions for generative AI (`gen_ai.*`); what they have no name
for is under `tracestone.*`. The ids follow from the job and the claim under which it was attempted, so a trace that is
written twice replaces itself. The span of the attempt links to what was judged: the span, the root of the trace, or the
roots of the session's traces.

What was asked and said is there only where the calls note it (setting `judge_trace_content`), up to `MOST_CONTENT`
characters of an attempt.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from tracestone.schema import clock
from tracestone.schema.assessments import value_number
from tracestone.schema.experiments import JUDGES_EXPERIMENT
from tracestone.schema.scorers.definition import Scorer
from tracestone.schema.stores.jobs import Job
from tracestone.scoring.calls.account import Account
from tracestone.scoring.calls.made import Made
from tracestone.scoring.scorers.protocol import Outcome, Subject

MOST_CONTENT = 1_000_000
_LONGEST_LABEL = 100

Values = Mapping[str, bool | int | float | str | None]


@dataclass
class Attempt:
    """One attempt as it went; what it has not come to is None. `failure` is a code and a message.

    `put_off` tells what an attempt that was broken off waits for.
    """

    job: Job
    definition: Scorer
    account: Account
    began_ns: int
    subject: Subject | None = None
    outcome: Outcome | None = None
    failure: tuple[str, str] | None = None
    put_off: str | None = None

    @property
    def tells_content(self) -> bool:
        """Whether what was asked and said is to be in its trace."""
        return any(made.asked is not None for made in self.account.made)

    @property
    def trace_id(self) -> str:
        """Of its trace, as lower-case hex; another claim of the job has another."""
        return hashlib.blake2b(f"{self.job.job_id}/{self.job.lease}".encode(), digest_size=16).hexdigest()


def request(attempt: Attempt) -> bytes:
    """The trace as an OTLP request in protobuf."""
    trace_id = bytes.fromhex(attempt.trace_id)
    root = _span(trace_id, 0, f"evaluate {attempt.definition.name}", attempt.began_ns, clock.now_ns())
    root.links.extend(
        Span.Link(trace_id=bytes.fromhex(trace), span_id=bytes.fromhex(span)) for trace, span in _judged(attempt)
    )
    _set(root, _of_attempt(attempt))
    if attempt.failure is not None:
        _fail(root, *attempt.failure)
    spans, content = [root], MOST_CONTENT
    for number, made in enumerate(attempt.account.made, start=1):
        span = _span(trace_id, number, f"{made.operation} {_name(made.model)}", made.began_ns, made.ended_ns)
        span.parent_span_id, span.kind = root.span_id, Span.SPAN_KIND_CLIENT
        _set(span, _of_call(made))
        if made.error is not None:
            _fail(span, *made.error)
        content -= _tell(span, made, content)
        spans.append(span)
    resource = ResourceSpans(scope_spans=[ScopeSpans(spans=spans)])
    _set(resource.resource, {"service.name": JUDGES_EXPERIMENT})
    resource.scope_spans[0].scope.name = "tracestone.scoring"
    return ExportTraceServiceRequest(resource_spans=[resource]).SerializeToString()


def _span(trace_id: bytes, number: int, name: str, began_ns: int, ended_ns: int) -> Span:
    span_id = hashlib.blake2b(trace_id + number.to_bytes(8, "big"), digest_size=8).digest()
    return Span(
        trace_id=trace_id,
        span_id=span_id,
        name=name,
        kind=Span.SPAN_KIND_INTERNAL,
        start_time_unix_nano=began_ns,
        end_time_unix_nano=max(began_ns, ended_ns),
    )


def _judged(attempt: Attempt) -> Iterator[tuple[str, str]]:
    if attempt.subject is None:
        return
    if attempt.subject.span is not None:
        yield attempt.subject.span.trace_id, attempt.subject.span.span_id
        return
    for turn in attempt.subject.turns:
        root = turn.trace.root or next(iter(turn.trace.spans), None)
        if root is not None:
            yield root.trace_id, root.span_id


def _of_attempt(attempt: Attempt) -> Values:
    job, outcome = attempt.job, attempt.outcome
    metadata = {} if outcome is None else outcome.metadata
    values: dict[str, bool | int | float | str | None] = {
        "openinference.span.kind": "EVALUATOR",
        "gen_ai.evaluation.name": job.scorer_name,
        "gen_ai.prompt.name": metadata.get("judge"),
        "gen_ai.prompt.version": metadata.get("prompt_version"),
        "tracestone.scorer.name": job.scorer_name,
        "tracestone.scorer.version": job.scorer_version,
        "tracestone.scorer.kind": attempt.definition.kind,
        "tracestone.judged.target_type": job.target_type,
        "tracestone.judged.experiment_id": job.experiment_id,
        "tracestone.judged.trace_id": job.trace_id or None,
        "tracestone.judged.span_id": job.span_id or None,
        "tracestone.judged.session_id": job.session_id or None,
        "tracestone.attempt": job.failures + 1,
        "tracestone.put_off": attempt.put_off,
    }
    if outcome is not None and outcome.error is None and not outcome.named:
        label = outcome.value if isinstance(outcome.value, str) else None
        values["gen_ai.evaluation.score.value"] = value_number(outcome.value)
        values["gen_ai.evaluation.score.label"] = label if label and len(label) <= _LONGEST_LABEL else None
    return values


def _of_call(made: Made) -> Values:
    provider, _, _ = made.model.rpartition("/")
    usage = made.usage
    return {
        "gen_ai.operation.name": made.operation,
        "gen_ai.provider.name": provider.partition("/")[0] or None,
        "gen_ai.request.model": _name(made.model),
        "gen_ai.response.model": made.response_model or None,
        "gen_ai.usage.input_tokens": None if made.cached else usage.input_tokens,
        "gen_ai.usage.output_tokens": None if made.cached else usage.output_tokens,
        "gen_ai.usage.cost": usage.cost_usd,
        "tracestone.judge.cached": True if made.cached else None,
    }


def _name(model: str) -> str:
    """A model without the provider that litellm wants in front."""
    return model.partition("/")[2] or model


def _tell(span: Span, made: Made, room: int) -> int:
    """Sets what was asked and said, where it is noted and fits into `room`; how many characters that took."""
    if made.asked is None:
        return 0
    said = [{"type": "text", "content": made.said}] if made.said else []
    said += [{"type": "tool_call", "name": name, "arguments": _parsed(text)} for name, text in made.tool_calls]
    asked = json.dumps([_message(message) for message in made.asked], ensure_ascii=False)
    answered = json.dumps([{"role": "assistant", "parts": said}], ensure_ascii=False)
    if len(asked) + len(answered) > room:
        _set(span, {"tracestone.judge.content_left_out": len(asked) + len(answered)})
        return 0
    _set(span, {"gen_ai.input.messages": _utf8(asked), "gen_ai.output.messages": _utf8(answered)})
    return len(asked) + len(answered)


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message of a chat completion in the form of the semantic conventions. Of pictures only that they were there."""
    role, content = str(message.get("role", "")), message.get("content")
    if role == "tool":
        parts = [{"type": "tool_call_response", "id": message.get("tool_call_id"), "response": content}]
        return {"role": role, "parts": parts}
    given: Sequence[Any] = content if isinstance(content, list) else [{"type": "text", "text": content}]
    parts = [
        {"type": "text", "content": part.get("text") or ""} if part.get("type") == "text" else {"type": "blob"}
        for part in given
    ]
    for call in message.get("tool_calls") or ():
        function = call["function"]
        arguments = _parsed(function["arguments"])
        parts.append({"type": "tool_call", "id": call["id"], "name": function["name"], "arguments": arguments})
    return {"role": role, "parts": parts}


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _fail(span: Span, code: str, message: str) -> None:
    span.status.code, span.status.message = Status.STATUS_CODE_ERROR, _utf8(message)
    _set(span, {"error.type": code})


def _set(holder: Any, values: Values) -> None:
    for key, value in values.items():
        if value is None:
            continue
        pair = KeyValue(key=key)
        if isinstance(value, bool):
            pair.value.bool_value = value
        elif isinstance(value, int):
            pair.value.int_value = value
        elif isinstance(value, float):
            pair.value.double_value = value
        else:
            pair.value.string_value = _utf8(value)
        holder.attributes.append(pair)


def _utf8(text: str) -> str:
    """Text as protobuf takes it: without halves of surrogate pairs."""
    return text.encode("utf-8", "replace").decode("utf-8")
