"""Stored traces as MLflow's TraceInfoV3 and as OpenTelemetry's span JSON (snake case, ids in base64)."""

import base64
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from tracestone.collector.mlflow_api import assessment_wire, wire
from tracestone.schema.assessments import Assessment
from tracestone.schema.spans import Span, SpanEvent, SpanLink
from tracestone.schema.traces import Trace, TraceInfo

_PREVIEW_CHARACTERS = 1000
_TRUNCATED_CHARACTERS = 250
_SCHEMA_VERSION = "3"

# MLflow's attributes, which its client and its pages read; filled where a span came in another convention.
_SPAN_TYPE = "mlflow.spanType"
_SPAN_INPUTS = "mlflow.spanInputs"
_SPAN_OUTPUTS = "mlflow.spanOutputs"
_TOKEN_USAGE = "mlflow.chat.tokenUsage"


def trace_info_json(info: TraceInfo, assessments: Sequence[Assessment]) -> dict[str, Any]:
    """MLflow's TraceInfoV3."""
    artifacts = f"mlflow-artifacts:/{info.experiment_id}/traces/tr-{info.trace_id}/artifacts"
    answer: dict[str, Any] = {
        "trace_id": f"tr-{info.trace_id}",
        "trace_location": {
            "type": "MLFLOW_EXPERIMENT",
            "mlflow_experiment": {"experiment_id": str(info.experiment_id)},
        },
        "request_preview": info.input_preview[:_PREVIEW_CHARACTERS],
        "response_preview": info.output_preview[:_PREVIEW_CHARACTERS],
        "request_time": wire.moment_text(info.start_time_ns // 1_000_000),
        "state": info.state,
        "trace_metadata": _metadata(info),
        "tags": {
            **info.tags,
            "mlflow.traceName": info.root_name,
            "mlflow.artifactLocation": artifacts,
            # Tells the client that the spans are here, and spares it from uploading them a second time.
            "mlflow.trace.spansLocation": "TRACKING_STORE",
        },
        "assessments": [assessment_wire.assessment_json(assessment) for assessment in assessments],
    }
    if info.state != "IN_PROGRESS":
        answer["execution_duration"] = f"{info.duration_ns // 1_000_000 / 1000:.3f}s"
    return answer


def trace_json(trace: Trace, assessments: Sequence[Assessment]) -> dict[str, Any]:
    """MLflow's Trace: the info and all spans."""
    return {
        "trace_info": trace_info_json(trace.info, assessments),
        "spans": [span_json(span) for span in trace.spans],
    }


def span_json(span: Span) -> dict[str, Any]:
    """An opentelemetry.proto.trace.v1.Span in protobuf's JSON."""
    answer: dict[str, Any] = {
        "trace_id": _base64_id(span.trace_id),
        "span_id": _base64_id(span.span_id),
        "name": span.name,
        "start_time_unix_nano": str(span.start_time_ns),
        "end_time_unix_nano": "0" if span.in_progress else str(span.end_time_ns),
        "attributes": _attributes(_with_mlflow_names(span)),
        "events": [_event(event) for event in span.events],
        "links": [_link(link) for link in span.links],
        "status": {"code": f"STATUS_CODE_{span.status_code or 'UNSET'}", "message": span.status_message},
    }
    if span.parent_span_id:
        answer["parent_span_id"] = _base64_id(span.parent_span_id)
    if span.trace_state:
        answer["trace_state"] = span.trace_state
    return answer


def any_value(value: Any) -> dict[str, Any]:
    """An AnyValue in protobuf's JSON; None is the empty one."""
    if value is None:
        return {}
    if isinstance(value, bool):
        return {"bool_value": value}
    if isinstance(value, int):
        return {"int_value": str(value)} if -(2**63) <= value < 2**63 else {"string_value": str(value)}
    if isinstance(value, float):
        return {"double_value": _double(value)}
    if isinstance(value, bytes):
        return {"bytes_value": base64.b64encode(value).decode()}
    if isinstance(value, list | tuple):
        return {"array_value": {"values": [any_value(item) for item in value]}}
    if isinstance(value, Mapping):
        return {"kvlist_value": {"values": _attributes(value)}}
    return {"string_value": str(value)}


def _attributes(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": str(key), "value": any_value(value)} for key, value in attributes.items()]


def _event(event: SpanEvent) -> dict[str, Any]:
    return {
        "time_unix_nano": str(event.time_ns),
        "name": event.name,
        "attributes": _attributes(event.attributes),
    }


def _link(link: SpanLink) -> dict[str, Any]:
    return {
        "trace_id": _base64_id(link.trace_id),
        "span_id": _base64_id(link.span_id),
        "attributes": _attributes(link.attributes),
    }


def _with_mlflow_names(span: Span) -> dict[str, Any]:
    derived: dict[str, Any] = {}
    if span.span_type:
        derived[_SPAN_TYPE] = "CHAT_MODEL" if span.operation == "chat" else span.span_type.upper()
    # messages alone where events or log records told them
    if given := span.input or span.input_messages:
        derived[_SPAN_INPUTS] = _parsed(given)
    if answered := span.output or span.output_messages:
        derived[_SPAN_OUTPUTS] = _parsed(answered)
    if span.input_tokens is not None or span.output_tokens is not None:
        derived[_TOKEN_USAGE] = _token_usage(span)
    return derived | span.attributes


def _metadata(info: TraceInfo) -> dict[str, str]:
    metadata = {
        "mlflow.trace_schema.version": _SCHEMA_VERSION,
        "mlflow.traceInputs": info.input_preview[:_TRUNCATED_CHARACTERS],
        "mlflow.traceOutputs": info.output_preview[:_TRUNCATED_CHARACTERS],
        "mlflow.trace.session": info.session_id,
        "mlflow.trace.user": info.user_id,
        "mlflow.trace.sizeStats": json.dumps({"num_spans": info.span_count}),
    }
    if info.input_tokens is not None or info.output_tokens is not None:
        metadata["mlflow.trace.tokenUsage"] = json.dumps(_token_usage(info))
    if info.cost_total is not None:
        metadata["mlflow.trace.cost"] = json.dumps({"total_cost": info.cost_total})
    return {key: text for key, text in metadata.items() if text}


def _token_usage(counted: Span | TraceInfo) -> dict[str, int]:
    given, made = counted.input_tokens or 0, counted.output_tokens or 0
    total = counted.total_tokens
    return {
        "input_tokens": given,
        "output_tokens": made,
        "total_tokens": given + made if total is None else total,
    }


def _parsed(text: str) -> Any:
    """What a text means that may be JSON: only objects and lists are taken for it."""
    if text[:1] not in "{[":
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _base64_id(hexadecimal: str) -> str:
    return base64.b64encode(bytes.fromhex(hexadecimal)).decode()


def _double(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
