"""OTLP's JSON form against protobuf's own classes: whatever a message holds, its JSON becomes the same message."""

import json
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from support.otlp_json import messages, otlp_json
from tracestone.collector.receiver.otlp_json.convert import Form
from tracestone.schema.errors import Invalid, TooLarge

REQUESTS = (ExportTraceServiceRequest, ExportLogsServiceRequest, ExportMetricsServiceRequest)
FORMS = {kind: Form(kind) for kind in REQUESTS}
SOME = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
_NANOS = "UnixNano"


def _same(kind: type[Message], body: Any, message: Message) -> None:
    converted = FORMS[kind].to_protobuf(json.dumps(body).encode())
    assert (converted.rejected, converted.reason) == (0, "")
    found = kind.FromString(converted.data)
    # As bytes, because a NaN is not equal to itself.
    assert found.SerializeToString(deterministic=True) == message.SerializeToString(deterministic=True)


@pytest.mark.parametrize("kind", REQUESTS)
@SOME
@given(data=st.data())
def test_any_message(kind: type[Message], data: st.DataObject) -> None:
    message = data.draw(messages(kind))
    _same(kind, otlp_json(message), message)


@pytest.mark.parametrize("kind", REQUESTS)
@SOME
@given(data=st.data())
def test_the_spellings_that_receivers_take(kind: type[Message], data: st.DataObject) -> None:
    """Numbers for texts of digits, null for what is absent, keys in another order, keys that nobody knows."""
    message = data.draw(messages(kind))
    _same(kind, _respelled(otlp_json(message), data), message)


@pytest.mark.parametrize("kind", REQUESTS)
@SOME
@given(data=st.data())
def test_keys_in_snake_case(kind: type[Message], data: st.DataObject) -> None:
    message = data.draw(messages(kind))
    camel = otlp_json(message)
    snake = MessageToDict(message, use_integers_for_enums=True, preserving_proto_field_name=True)
    _same(kind, _like(camel, snake), message)


@pytest.mark.parametrize("kind", REQUESTS)
@SOME
@given(
    body=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "resourceSpans",
                        "resourceLogs",
                        "resourceMetrics",
                        "scopeSpans",
                        "scopeLogs",
                        "scopeMetrics",
                        "spans",
                    ]
                    + [
                        "logRecords",
                        "metrics",
                        "resource",
                        "attributes",
                        "key",
                        "value",
                        "stringValue",
                        "arrayValue",
                        "x",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=15,
    )
)
def test_any_json_is_taken_or_refused(kind: type[Message], body: Any) -> None:
    try:
        converted = FORMS[kind].to_protobuf(json.dumps(body).encode())
    except (Invalid, TooLarge) as refusal:
        assert str(refusal)
    else:
        kind.FromString(converted.data)


def _respelled(value: Any, data: st.DataObject) -> Any:
    if isinstance(value, list):
        return [_respelled(item, data) for item in value]
    if not isinstance(value, dict):
        return value
    found = {}
    for key, item in value.items():
        number = key in ("intValue", "asInt", "count", "zeroCount") or key.endswith(_NANOS)
        found[key] = int(item) if number and data.draw(st.booleans()) else _respelled(item, data)
    found |= data.draw(st.sampled_from([{}, {"new": {"of": [1, "later"]}}, {"attributesNext": None}]))
    if "spans" in found:
        found["schemaUrl"] = found.get("schemaUrl")
    return dict(data.draw(st.permutations(list(found.items()))))


def _like(camel: Any, snake: Any) -> Any:
    """The values of the first under the keys of the second, which has them in the same order."""
    if isinstance(camel, list):
        return [_like(one, other) for one, other in zip(camel, snake, strict=True)]
    if isinstance(camel, dict):
        pairs = zip(camel.items(), snake.items(), strict=True)
        return {name: _like(one, other) for (_, one), (name, other) in pairs}
    return camel
