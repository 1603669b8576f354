"""OTLP's JSON form by example: what is taken, what is refused and where the refusal points."""

import base64
import json
import math
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tracestone.collector.receiver.otlp_json.convert import Form
from tracestone.schema.errors import Invalid, TooLarge

TRACES = Form(ExportTraceServiceRequest)
LOGS = Form(ExportLogsServiceRequest)
METRICS = Form(ExportMetricsServiceRequest)
IDS = {"traceId": "0102030405060708090a0b0c0d0e0f10", "spanId": "0102030405060708"}


def _body(*spans: dict[str, Any]) -> bytes:
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).encode()


def _spans(body: bytes) -> list[Span]:
    request = ExportTraceServiceRequest.FromString(TRACES.to_protobuf(body).data)
    return list(request.resource_spans[0].scope_spans[0].spans)


def _span(**fields: Any) -> Span:
    (span,) = _spans(_body({**IDS, **fields}))
    return span


def _value(value: str) -> AnyValue:
    body = b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"attributes":[{"key":"a","value":%s}]}]}]}]}'
    (span,) = _spans(body % value.encode())
    return span.attributes[0].value


def _refusal(form: Form, body: bytes | str) -> tuple[str, str]:
    with pytest.raises(Invalid) as refused:
        form.to_protobuf(body.encode() if isinstance(body, str) else body)
    return refused.value.field, refused.value.reason


@pytest.mark.parametrize("body", [b"", b"{}", b'{"resourceSpans":[]}', b'{"resourceSpans":null}', b"\xef\xbb\xbf{}"])
def test_nothing(body: bytes) -> None:
    assert TRACES.to_protobuf(body).data == b""


@pytest.mark.parametrize("change", [str.lower, str.upper])
def test_ids_are_hex_of_either_case(change: Any) -> None:
    trace, span, parent = "5b8efff798038103d269b633813fc60c", "eee19b7ec3c1b174", "eee19b7ec3c1b173"
    link = {"traceId": change(trace), "spanId": change(span)}
    found = _span(traceId=change(trace), spanId=change(span), parentSpanId=change(parent), links=[link])
    assert (found.trace_id.hex(), found.span_id.hex(), found.parent_span_id.hex()) == (trace, span, parent)
    assert (found.links[0].trace_id.hex(), found.links[0].span_id.hex()) == (trace, span)


@pytest.mark.parametrize("name", ["traceId", "spanId", "parentSpanId"])
@pytest.mark.parametrize("value", ["W47/95gDgQPSabYzgT/GDA==", "xyz", "01 02 03 04 05 06 07", "0102030405060708090"])
def test_an_id_that_is_not_hex_costs_its_span_alone(name: str, value: str) -> None:
    good, bad = {**IDS, "name": "good"}, {**IDS, "name": "bad", name: value}
    converted = TRACES.to_protobuf(_body(good, bad, good))
    assert [span.name for span in _spans(_body(good, bad, good))] == ["good", "good"]
    assert converted.rejected == 1
    assert converted.reason.startswith(f"spans[1].{name}: must be ")
    assert f"hexadecimal digits, and is {value!r}" in converted.reason


def test_an_id_of_another_length_is_left_to_the_rules_of_protobuf() -> None:
    assert _span(traceId="01").trace_id == b"\x01"
    assert _span(spanId="").span_id == b""


def test_a_reference_that_cannot_be_is_none() -> None:
    assert _span(links=[{**IDS, "traceId": "what?"}]).links[0].trace_id == b""
    body = {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"traceId": "what?", "body": {"stringValue": "x"}}]}]}]}
    converted = LOGS.to_protobuf(json.dumps(body).encode())
    (resource,) = ExportLogsServiceRequest.FromString(converted.data).resource_logs
    assert resource.scope_logs[0].log_records[0].trace_id == b""
    assert converted.rejected == 0


@pytest.mark.parametrize(
    ("value", "number"),
    [(2, 2), ("SPAN_KIND_SERVER", 2), (99, 99), ("3", 3), (None, 0), (0, 0)],
)
def test_enums(value: Any, number: int) -> None:
    assert _span(kind=value).kind == number


def test_an_enum_nobody_knows() -> None:
    assert _refusal(TRACES, _body({**IDS, "status": {"code": "FINE"}}))[0] == (
        "resourceSpans[0].scopeSpans[0].spans[0].status.code"
    )


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1790000000123456789", 1_790_000_000_123_456_789),
        ('"1790000000123456789"', 1_790_000_000_123_456_789),
        ("1.54e18", 1_540_000_000_000_000_000),
        ("18446744073709551615", 2**64 - 1),
        ('"18446744073709551615"', 2**64 - 1),
        ("null", 0),
        ("0", 0),
        ("-0", 0),
    ],
)
def test_times(text: str, number: int) -> None:
    body = b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"startTimeUnixNano":%s}]}]}]}' % text.encode()
    (span,) = _spans(body)
    assert span.start_time_unix_nano == number


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("18446744073709551616", "between 0 and 18446744073709551615"),
        ('"18446744073709551616"', "between 0 and 18446744073709551615"),
        ("-1", "between 0 and"),
        ('"-1"', "between 0 and"),
        ("1.5", "whole number"),
        ("1e300", "whole number"),
        ('"soon"', "whole number, and is 'soon'"),
        ('""', "whole number"),
        ('" 1"', "whole number"),
        ('"1_000"', "whole number"),
        ('"١"', "whole number"),
        ("true", "Expected `int | float | str | null`, got `bool`"),
        ("[]", "got `array`"),
        ("9" * 5000, "out of range"),
        ('"' + "9" * 5000 + '"', "whole number"),
    ],
)
def test_what_is_no_time(text: str, reason: str) -> None:
    body = f'{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{}},{{"startTimeUnixNano":{text}}}]}}]}}]}}'
    field, why = _refusal(TRACES, body)
    assert field == "resourceSpans[0].scopeSpans[0].spans[1].startTimeUnixNano"
    assert reason in why


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"stringValue":"x"}', AnyValue(string_value="x")),
        ('{"stringValue":""}', AnyValue(string_value="")),
        ('{"stringValue":"nul \\u0000"}', AnyValue(string_value="nul \0")),
        ('{"stringValue":"\\ud83d\\ude00"}', AnyValue(string_value="😀")),
        ('{"boolValue":false}', AnyValue(bool_value=False)),
        ('{"intValue":0}', AnyValue(int_value=0)),
        ('{"intValue":"-9223372036854775808"}', AnyValue(int_value=-(2**63))),
        ('{"intValue":9223372036854775807}', AnyValue(int_value=2**63 - 1)),
        ('{"doubleValue":1}', AnyValue(double_value=1.0)),
        ('{"doubleValue":0.0}', AnyValue(double_value=0.0)),
        ('{"doubleValue":"1.5"}', AnyValue(double_value=1.5)),
        ('{"doubleValue":"Infinity"}', AnyValue(double_value=math.inf)),
        ('{"doubleValue":"-Infinity"}', AnyValue(double_value=-math.inf)),
        ('{"bytesValue":""}', AnyValue(bytes_value=b"")),
        ('{"bytesValue":"+/8="}', AnyValue(bytes_value=b"\xfb\xff")),
        ('{"bytesValue":"-_8"}', AnyValue(bytes_value=b"\xfb\xff")),
        ("{}", AnyValue()),
        ("null", AnyValue()),
        ('{"stringValue":null}', AnyValue()),
        ('{"stringValueStrindex":3}', AnyValue()),
        ('{"laterValue":{"of":[1]}}', AnyValue()),
        ('{"intValue":1,"intValue":2}', AnyValue(int_value=2)),
        ('{"intValue":1,"stringValue":null}', AnyValue(int_value=1)),
        ('{"arrayValue":{}}', AnyValue(array_value={})),
        ('{"arrayValue":{"values":[{},{"intValue":1}]}}', AnyValue(array_value={"values": [{}, {"int_value": 1}]})),
        ('{"kvlistValue":{"values":[]}}', AnyValue(kvlist_value={})),
    ],
)
def test_values(text: str, value: AnyValue) -> None:
    assert _value(text) == value


def test_a_value_that_is_not_a_number() -> None:
    assert math.isnan(_value('{"doubleValue":"NaN"}').double_value)


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        ('{"intValue":1,"stringValue":"x"}', "", "has stringValue and intValue; only one of them may be given"),
        ('{"intValue":"9223372036854775808"}', ".intValue", "between"),
        ('{"intValue":-9223372036854775809}', ".intValue", "between"),
        ('{"intValue":-9.223372036854775809e18}', ".intValue", "whole number of 64 bits"),
        ('{"doubleValue":"inf"}', ".doubleValue", "must be a number, NaN, Infinity or -Infinity, and is 'inf'"),
        ('{"doubleValue":"1e999"}', ".doubleValue", "must be a number"),
        ('{"bytesValue":"%%"}', ".bytesValue", "must be base64"),
        ('{"boolValue":1}', ".boolValue", "Expected `bool | null`, got `int`"),
        ('{"stringValue":1}', ".stringValue", "Expected `str | null`, got `int`"),
        ('{"arrayValue":[]}', ".arrayValue", "Expected `object | null`, got `array`"),
        ('{"arrayValue":{"values":[null]}}', ".arrayValue.values[0]", "got `null`"),
        (
            '{"kvlistValue":{"values":[{"key":"k"},{"key":"k","value":{"arrayValue":{"values":[{"intValue":"x"}]}}}]}}',
            ".kvlistValue.values[1].value.arrayValue.values[0].intValue",
            "must be a whole number, and is 'x'",
        ),
    ],
)
def test_what_is_no_value(text: str, place: str, reason: str) -> None:
    body = '{"resourceSpans":[{"scopeSpans":[{"spans":[{"attributes":[{},{"key":"a","value":%s}]}]}]}]}'
    field, why = _refusal(TRACES, body % text)
    assert field == f"resourceSpans[0].scopeSpans[0].spans[0].attributes[1].value{place}"
    assert reason in why


@pytest.mark.parametrize("attributes", ["{}", '{"model":"gpt-4.1"}'])
def test_attributes_as_an_object(attributes: str) -> None:
    body = b'{"resourceSpans":[{"scopeSpans":[{"spans":[{},{},{},{"attributes":%s}]}]}]}'
    field, reason = _refusal(TRACES, body % attributes.encode())
    assert field == "resourceSpans[0].scopeSpans[0].spans[3].attributes"
    assert reason == 'must be an array of {"key": …, "value": {"stringValue": …}}, and is an object'


@pytest.mark.parametrize(
    "body",
    [
        "[",
        "[" * 100_000,
        '{"x":' + "[" * 100_000,
        '{"x":' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"resourceSpans":' * 50_000,
        '{"resourceSpans":[{"scopeSpans":[{"spans":[{"attributes":[{"value":'
        + '{"arrayValue":{"values":[' * 5000
        + "{}"
        + "]}}" * 5000
        + "}]}]}]}]}",
        "[]",
        "null",
        '"text"',
        "{} {}",
        "{'a': 1}",
        '{"resourceSpans":[{"scopeSpans":[{"spans":[{"attributes":[{"value":{"doubleValue":NaN}}]}]}]}]}',
        '{"resourceSpans":[{"scopeSpans":[{"spans":[{"attributes":[{"value":{"doubleValue":1e400}}]}]}]}]}',
        '{"resource_spans":[{"scope_spans":[{"spans":[{"attributes":[{"value":{"doubleValue":Infinity}}]}]}]}]}',
        '{"resource_spans":[{"scope_spans":[{"spans":[{"kind":' + "9" * 5000 + "}]}]}]}",
        '{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"\x01"}]}]}]}',
        '{"resourceSpans":[{"resource":{"attributes":[{"key":"\\ud800"}]}}]}',
    ],
    ids=range(17),
)
def test_what_is_no_request(body: str) -> None:
    assert _refusal(TRACES, body)[1]


@pytest.mark.parametrize("text", [b"cut \\ud83d", b"cut \xf0\x9f", b"\xff", b"\\udc80"])
@pytest.mark.parametrize("field", [b'"name":"%s"', b'"attributes":[{"key":"a","value":{"stringValue":"%s"}}]'])
def test_a_text_that_is_not_utf8_costs_its_span_alone(text: bytes, field: bytes) -> None:
    """A browser's SDK that cuts a text in the middle of an emoji sends half of a pair of surrogates."""
    good = b'{"traceId":"0102030405060708090a0b0c0d0e0f10","name":"\xc3\xa9"}'
    body = b'{"resourceSpans":[{"scopeSpans":[{"spans":[%s,{%s}]}]}]}' % (good, field % text)
    converted = TRACES.to_protobuf(body)
    assert converted.rejected == 1
    assert converted.reason.startswith("spans[1].")
    assert converted.reason.endswith(": the text is not UTF-8")
    assert [span.name for span in _spans(body)] == ["é"]


def test_values_nested_without_end_cost_their_span_alone() -> None:
    value = '{"stringValue":"x"}'
    for _ in range(101):
        value = f'{{"arrayValue":{{"values":[{value}]}}}}'
    spans = f'{{"name":"deep","attributes":[{{"key":"a","value":{value}}}]}},{{"name":"good"}}'
    body = f'{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{spans}]}}]}}]}}'.encode()
    converted = TRACES.to_protobuf(body)
    assert converted.rejected == 1
    assert "nested more than 100 levels deep" in converted.reason
    assert [span.name for span in _spans(body)] == ["good"]


def test_snake_case_inside_and_out() -> None:
    span = {"trace_id": "01", "start_time_unix_nano": "5", "attributes": [{"key": "a_b", "value": {"int_value": "7"}}]}
    mixed = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()
    for body in (mixed, mixed.replace(b"resourceSpans", b"resource_spans").replace(b"scopeSpans", b"scope_spans")):
        (found,) = _spans(body)
        assert (found.trace_id, found.start_time_unix_nano) == (b"\x01", 5)
        assert (found.attributes[0].key, found.attributes[0].value.int_value) == ("a_b", 7)


def test_two_values_of_a_data_point() -> None:
    point = {"asInt": "1", "asDouble": 1.0}
    metrics = [{"name": "m", "gauge": {"dataPoints": [point]}}]
    body = json.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]})
    field, reason = _refusal(METRICS, body)
    assert field == "resourceMetrics[0].scopeMetrics[0].metrics[0].gauge.dataPoints[0]"
    assert reason == "has asDouble and asInt; only one of them may be given"


def test_the_number_of_values_is_bounded() -> None:
    form = Form(ExportTraceServiceRequest, 1000)
    with pytest.raises(TooLarge, match="more than 1000 values"):
        form.to_protobuf(_body(*[{}] * 600))
    assert form.to_protobuf(_body({"name": "x" * 5000})).rejected == 0


def test_an_id_in_base64_is_not_taken_for_hex() -> None:
    """Protobuf's own JSON writes ids as base64, and would read hex as if it were that."""
    wrong = base64.b64encode(bytes(range(16))).decode()
    assert TRACES.to_protobuf(_body({**IDS, "traceId": wrong})).rejected == 1
