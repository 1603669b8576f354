"""Traces on the wire, read back by MLflow's own classes."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from mlflow.entities import Trace as MlflowTrace
from mlflow.protos.service_pb2 import Trace as TraceMessage
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from tracestone.collector.mlflow_api import trace_wire
from tracestone.schema.assessments import Assessment
from tracestone.schema.spans import Span, SpanEvent, SpanLink
from tracestone.schema.traces import Trace, TraceInfo

TRACE = "0af7651916cd43dd8448eb211c80319c"
ROOT, CHILD = "b7ad6b7169203331", "00f067aa0ba902b7"
SPAN = Span(
    experiment_id=7,
    trace_id=TRACE,
    span_id=ROOT,
    parent_span_id="",
    name="chat",
    kind="CLIENT",
    span_type="LLM",
    service_name="shop",
    start_time_ns=1_700_000_000_123_456_789,
    end_time_ns=1_700_000_001_000_000_001,
    duration_ns=876_543_212,
    in_progress=False,
    status_code="ERROR",
    status_message="it broke",
    scope_name="",
    scope_version="",
    trace_state="",
    resource_attributes={},
    attributes={
        "text": "ü",
        "whole": 2**53 + 1,
        "part": 0.5,
        "flag": False,
        "list": ["a", 1, 2.5, True],
        "tree": {"a": {"b": []}},
        "bytes": b"\x00\xff",
        "endless": math.inf,
        "nothing": None,
    },
    events=(SpanEvent(1_700_000_000_500_000_000, "exception", {"exception.message": "boom"}),),
    links=(SpanLink("1" * 32, "2" * 16, {"why": "retry"}),),
    operation="chat",
    provider="openai",
    request_model="gpt",
    response_model="gpt",
    input='{"question": "why"}',
    output="because",
    input_messages="",
    output_messages="",
    system_instructions="",
    tool_name="",
    tool_arguments="",
    tool_result="",
    retrieval_documents="",
    input_tokens=10,
    output_tokens=5,
    total_tokens=None,
    cost_total=0.01,
    session_id="s1",
    user_id="u1",
    agent_name="",
    error_type="",
    received_at_ns=1_700_000_002_000_000_000,
)
INFO = TraceInfo(
    experiment_id=7,
    trace_id=TRACE,
    root_name="chat",
    service_name="shop",
    start_time_ns=SPAN.start_time_ns,
    end_time_ns=SPAN.end_time_ns,
    duration_ns=SPAN.duration_ns,
    state="ERROR",
    span_count=2,
    error_count=1,
    input_tokens=10,
    output_tokens=5,
    total_tokens=15,
    cost_total=0.01,
    models=("gpt",),
    session_id="s1",
    user_id="u1",
    tags={"team": "a"},
    input_preview="why",
    output_preview="because",
    complete=True,
    last_seen_ns=SPAN.received_at_ns,
)


def read(trace: Trace, assessments: list[Assessment] | None = None) -> MlflowTrace:
    wire = json.loads(json.dumps(trace_wire.trace_json(trace, assessments or [])))
    return MlflowTrace.from_proto(ParseDict(wire, TraceMessage()))


def test_info_as_the_client_reads_it() -> None:
    verdict = Assessment(
        7,
        "trace",
        "quality",
        "feedback",
        "LLM_JUDGE",
        trace_id=TRACE,
        value=0.5,
        scorer_name="judge",
        scorer_version=3,
        cost_usd=0.25,
        assessment_id="a-1",
        created_at_ms=1_700_000_000_123,
        updated_at_ms=1_700_000_000_124,
    )
    info = read(Trace(INFO, (SPAN,)), [verdict]).info
    assert info.trace_id == f"tr-{TRACE}"
    assert info.experiment_id == "7"
    assert info.request_time == 1_700_000_000_123
    assert info.execution_duration == 876
    assert info.state.value == "ERROR"
    assert (info.request_preview, info.response_preview) == ("why", "because")
    assert info.token_usage == {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
    assert info.cost == {"total_cost": 0.01}
    assert info.tags["team"] == "a"
    assert info.tags["mlflow.trace.spansLocation"] == "TRACKING_STORE"
    assert info.trace_metadata["mlflow.trace.session"] == "s1"
    (assessment,) = info.assessments
    assert (assessment.value, assessment.create_time_ms) == (0.5, 1_700_000_000_123)
    assert assessment.metadata["mlflow.assessment.scorerVersion"] == "3"
    assert assessment.metadata["mlflow.assessment.judgeCost"] == "0.25"


def test_unfinished_trace_has_no_duration() -> None:
    info = read(Trace(replace(INFO, state="IN_PROGRESS"), (SPAN,))).info
    assert info.state.value == "IN_PROGRESS"
    assert not info.execution_duration


def test_a_span_in_progress_has_no_end() -> None:
    assert trace_wire.span_json(replace(SPAN, in_progress=True))["end_time_unix_nano"] == "0"


def test_spans_as_the_client_reads_them() -> None:
    child = replace(SPAN, span_id=CHILD, parent_span_id=ROOT, name="tool", status_code="OK", status_message="")
    first, second = read(Trace(INFO, (SPAN, child))).data.spans
    assert (first.trace_id, first.span_id, first.parent_id) == (f"tr-{TRACE}", ROOT, None)
    assert (second.span_id, second.parent_id) == (CHILD, ROOT)
    assert (first.start_time_ns, first.end_time_ns) == (SPAN.start_time_ns, SPAN.end_time_ns)
    assert (first.status.status_code.value, first.status.description) == ("ERROR", "it broke")
    assert (second.status.status_code.value) == "OK"
    assert first.span_type == "CHAT_MODEL"
    assert (first.inputs, first.outputs) == ({"question": "why"}, "because")
    (event,) = first.events
    assert (event.name, event.attributes) == ("exception", {"exception.message": "boom"})
    (link,) = first.links
    assert link.span_id == "2" * 16


def test_attributes_keep_their_types() -> None:
    (span,) = read(Trace(INFO, (replace(SPAN, attributes={**SPAN.attributes, "bytes": b""}),))).data.spans
    expected = {key: value for key, value in SPAN.attributes.items() if key not in ("bytes", "endless")}
    assert {key: span.attributes[key] for key in expected} == expected
    assert type(span.attributes["flag"]) is bool
    assert span.attributes["endless"] == math.inf


def test_attributes_of_mlflow_are_not_replaced() -> None:
    attributes = {"mlflow.spanType": "TOOL", "mlflow.spanInputs": {"a": 1}}
    (span,) = read(Trace(INFO, (replace(SPAN, attributes=attributes),))).data.spans
    assert (span.span_type, span.inputs) == ("TOOL", {"a": 1})


@pytest.mark.parametrize(
    ("value", "field", "read_back"),
    [
        (True, "bool_value", True),
        (-(2**63), "int_value", -(2**63)),
        (2**64, "string_value", str(2**64)),
        (0.1, "double_value", 0.1),
        (-math.inf, "double_value", -math.inf),
        ("", "string_value", ""),
        (b"\x00\xff", "bytes_value", b"\x00\xff"),
        (None, None, None),
    ],
)
def test_any_value(value: Any, field: str | None, read_back: Any) -> None:
    message = ParseDict(trace_wire.any_value(value), AnyValue())
    assert message.WhichOneof("value") == field
    if field is not None:
        assert getattr(message, field) == read_back


def test_nan_survives() -> None:
    assert math.isnan(ParseDict(trace_wire.any_value(math.nan), AnyValue()).double_value)
