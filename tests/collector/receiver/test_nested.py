"""Nested attribute values: kept as JSON text, wherever they stand, with the type of every part (C9)."""

import json
import math
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from support.running import Running, grpc_export
from support.telemetry import export_request, otlp_span
from tracestone.collector.receiver.admission import admit
from tracestone.collector.receiver.pieces import Limits
from tracestone.collector.signals.traces import TRACES

START = 1_790_000_000_000_000_000


def _value(value: Any) -> AnyValue:
    match value:
        case dict():
            pairs = [KeyValue(key=key, value=_value(item)) for key, item in value.items()]
            return AnyValue(kvlist_value=KeyValueList(values=pairs))
        case list():
            return AnyValue(array_value=ArrayValue(values=[_value(item) for item in value]))
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case bytes():
            return AnyValue(bytes_value=value)
        case str():
            return AnyValue(string_value=value)
    return AnyValue()


def _attribute(key: str, value: Any) -> KeyValue:
    return KeyValue(key=key, value=_value(value))


async def _send(receiver: Running, *spans: Span) -> bytes:
    async with grpc_export(receiver.grpc_address) as export:
        return await export(export_request(*spans).SerializeToString())


async def _row(receiver: Running, trace: int) -> dict[str, Any]:
    (row,) = await receiver.rows("SELECT * FROM spans WHERE trace_id = {id:String}", id=f"{trace:032x}")
    return row


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": 1}, '{"a":1}'),
        ({}, "{}"),
        ({"a": {"b": [1, 2.0, "x", True, None]}}, '{"a":{"b":[1,2.0,"x",true,null]}}'),
        ([[1, 2], [3], []], "[[1,2],[3],[]]"),
        ([{"role": "user"}, {"role": "tool"}], '[{"role":"user"},{"role":"tool"}]'),
        ({"big": 2**63 - 1, "small": -(2**63)}, '{"big":9223372036854775807,"small":-9223372036854775808}'),
        ({"raw": b"\x00\xff"}, '{"raw":"AP8="}'),
        (
            {"nan": math.nan, "up": math.inf, "down": -math.inf},
            '{"nan":"NaN","up":"Infinity","down":"-Infinity"}',
        ),
        ({"text": 'quote " back \\ line \n tab \t nul \x00 é 日本 🙂'}, None),
        ({"": ""}, '{"":""}'),
    ],
)
async def test_values_within_values(receiver: Running, trace: int, value: Any, text: str | None) -> None:
    span = otlp_span(trace, 1, start_ns=START, attributes={"plain": "p"})
    span.attributes.append(_attribute("nested", value))
    assert await _send(receiver, span) == b""
    row = await _row(receiver, trace)
    assert row["attributes_string"] == {"plain": "p"}
    stored = row["attributes_json"]["nested"]
    assert json.loads(stored) == (value if text is None else json.loads(text))
    if text is not None:
        assert stored == text
    assert row["attributes"]["nested"] == stored


async def test_flat_arrays_need_no_rewriting_and_look_the_same(receiver: Running, trace: int) -> None:
    span = otlp_span(trace, 1, start_ns=START)
    values = {
        "texts": ["a", "", 'quo"te'],
        "ints": [1, 2**62],
        "floats": [1.0, 0.5, math.nan, math.inf, -math.inf, 1e300],
        "bools": [True, False],
        "bytes": [b"\x00\xff"],
        "mixed": ["a", 1, None, 2.5, True],
        "empty": [],
    }
    for key, value in values.items():
        span.attributes.append(_attribute(key, value))
    assert await _send(receiver, span) == b""
    stored = (await _row(receiver, trace))["attributes_json"]
    assert {key: json.loads(text) for key, text in stored.items()} == {
        **values,
        "floats": [1.0, 0.5, "NaN", "Infinity", "-Infinity", 1e300],
        "bytes": ["AP8="],
    }
    assert stored["floats"].startswith("[1.0,0.5,")


async def test_nested_values_of_resource_scope_event_and_link(receiver: Running, trace: int) -> None:
    span = otlp_span(trace, 1, start_ns=START, events={"happened": {}})
    nested = {"list": [1, {"deep": True}]}
    span.events[0].attributes.append(_attribute("of.event", nested))
    span.links.add(trace_id=b"t" * 16, span_id=b"s" * 8, attributes=[_attribute("of.link", nested)])
    request = export_request(span)
    request.resource_spans[0].resource.attributes.append(_attribute("of.resource", nested))
    request.resource_spans[0].scope_spans[0].scope.attributes.append(_attribute("of.scope", nested))
    async with grpc_export(receiver.grpc_address) as export:
        assert await export(request.SerializeToString()) == b""
    row = await _row(receiver, trace)
    assert json.loads(row["resource_attributes"]) == {"service.name": "agent", "of.resource": nested}
    assert json.loads(row["scope_attributes"]) == {"of.scope": nested}
    assert json.loads(row["events"][0]["attributes"]) == {"of.event": nested}
    assert json.loads(row["links"][0]["attributes"]) == {"of.link": nested}


async def test_arrays_of_events_links_and_scopes(receiver: Running, trace: int) -> None:
    span = otlp_span(trace, 1, start_ns=START, events={"happened": {"list": ["a", "b"]}})
    request = export_request(span)
    request.resource_spans[0].scope_spans[0].scope.attributes.append(_attribute("list", [1, 2]))
    async with grpc_export(receiver.grpc_address) as export:
        assert await export(request.SerializeToString()) == b""
    row = await _row(receiver, trace)
    assert json.loads(row["events"][0]["attributes"]) == {"list": ["a", "b"]}
    assert json.loads(row["scope_attributes"]) == {"list": [1, 2]}


async def test_a_nested_value_leaves_other_services_of_the_request_alone(receiver: Running, trace: int) -> None:
    first = otlp_span(trace, 1, start_ns=START)
    first.attributes.append(_attribute("nested", {"a": 1}))
    request = export_request(first, service="first")
    request.MergeFrom(export_request(otlp_span(trace, 2, start_ns=START, attributes={"n": 7}), service="second"))
    async with grpc_export(receiver.grpc_address) as export:
        assert await export(request.SerializeToString()) == b""
    rows = await receiver.rows(
        "SELECT service_name, attributes FROM spans WHERE trace_id = {id:String} ORDER BY span_id", id=f"{trace:032x}"
    )
    assert [(row["service_name"], row["attributes"]) for row in rows] == [
        ("first", {"nested": '{"a":1}'}),
        ("second", {"n": "7"}),
    ]


async def test_a_key_twice_loses_no_value(receiver: Running, trace: int) -> None:
    span = otlp_span(trace, 1, start_ns=START)
    twice = KeyValueList(values=[_attribute("a", 1), _attribute("b", "x"), _attribute("a", {"deep": True})])
    span.attributes.append(KeyValue(key="nested", value=AnyValue(kvlist_value=twice)))
    assert await _send(receiver, span) == b""
    assert (await _row(receiver, trace))["attributes_json"]["nested"] == '[["a",1],["b","x"],["a",{"deep":true}]]'


def _deep(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {"bottom": 1}
    for _ in range(levels - 1):
        value = {"d": value}
    return value


def _depth(value: Any) -> int:
    return 1 + max(map(_depth, value.values())) if isinstance(value, dict) else 0


async def test_the_deepest_value_that_protobuf_reads(receiver: Running, trace: int) -> None:
    span = otlp_span(trace, 1, start_ns=START)
    span.attributes.append(_attribute("deep", _deep(31)))
    assert await _send(receiver, span) == b""
    stored = json.loads((await _row(receiver, trace))["attributes_json"]["deep"])
    assert stored == _deep(31)


async def test_a_value_too_deep_costs_its_span_alone(receiver: Running, trace: int) -> None:
    good, bad = otlp_span(trace, 1, start_ns=START), otlp_span(trace, 2, start_ns=START)
    # Put together from bytes: the message classes refuse to make one that they would not read.
    value = AnyValue(int_value=1).SerializeToString()
    for _ in range(60):
        value = _field(6, _field(1, _field(1, b"d") + _field(2, value)))
    data = bad.SerializeToString() + _field(9, _field(1, b"deep") + _field(2, value))
    scope = _field(2, good.SerializeToString()) + _field(2, data)
    request = _field(1, _field(2, scope))
    async with grpc_export(receiver.grpc_address) as export:
        answer = ExportTraceServiceResponse.FromString(await export(request))
    assert answer.partial_success.rejected_spans == 1
    assert "nested too deep" in answer.partial_success.error_message
    rows = await receiver.rows("SELECT span_id FROM spans WHERE trace_id = {id:String}", id=f"{trace:032x}")
    assert [row["span_id"] for row in rows] == [f"{1:016x}"]


def _field(number: int, data: bytes) -> bytes:
    size, length = len(data), bytearray()
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return bytes([number << 3 | 2]) + bytes(length) + data


async def test_a_configured_depth_cuts_visibly(trace: int) -> None:
    span = otlp_span(trace, 1, start_ns=START)
    span.attributes.append(_attribute("deep", _deep(5)))
    admitted = admit(TRACES, export_request(span).SerializeToString(), Limits(nesting=3))
    assert b'{"d":{"d":{"d":"[nested too deep]"}}}' in admitted.data


async def test_what_no_sdk_of_today_sends(receiver: Running, trace: int) -> None:
    span = otlp_span(trace, 1, start_ns=START)
    span.trace_state, span.flags, span.kind = "ot=th:8", 0x301, 99
    span.status.code = 7  # type: ignore[assignment]
    span.links.add(trace_id=b"short", span_id=b"", trace_state="vendor=x")
    span.attributes.append(KeyValue(key="none"))
    span.attributes.append(KeyValue(key="", value=AnyValue(string_value="no key")))
    assert await _send(receiver, span) == b""
    row = await _row(receiver, trace)
    assert (row["trace_state"], row["flags"], row["kind"], row["status_code"]) == (
        "ot=th:8",
        0x301,
        "UNSPECIFIED",
        "UNSET",
    )
    assert [(link["trace_id"], link["span_id"], link["trace_state"]) for link in row["links"]] == [
        (b"short".hex(), "", "vendor=x")
    ]
    assert row["attributes"] == {"none": "null", "": "no key"}


async def test_an_all_zero_parent_is_none(receiver: Running, trace: int) -> None:
    span = otlp_span(trace, 1, start_ns=START)
    span.parent_span_id = bytes(8)
    assert await _send(receiver, span) == b""
    assert (await _row(receiver, trace))["parent_span_id"] == ""
