"""Nested attribute values: kept as JSON text, wherever they stand, with the type of every part (C9)."""

import json
import math
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from support.running import Running, grpc_export
from support.telemetry import export_request, otlp_span
from tracestone.collector.receiver.admission import admit, plain
from tracestone.collector.receiver.fields import delimited
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


def _deep(kind: str, levels: int) -> Any:
    """So many lists or maps in each other, around a one."""
    value: Any = 1
    for _ in range(levels):
        value = [value, "beside"] if kind == "lists" else {"d": value, "beside": 2}
    return value


def _deep_bytes(kind: str, levels: int) -> bytes:
    """The same as a serialised AnyValue, put together from bytes: the classes refuse to make what they do not read."""
    value = AnyValue(int_value=1).SerializeToString()
    beside = _value("beside" if kind == "lists" else 2).SerializeToString()
    for _ in range(levels):
        if kind == "lists":
            value = delimited(5, delimited(1, value) + delimited(1, beside))
        else:
            pairs = [delimited(1, name) + delimited(2, item) for name, item in ((b"d", value), (b"beside", beside))]
            value = delimited(6, b"".join(delimited(1, pair) for pair in pairs))
    return value


def _deep_request(trace: int, value: bytes) -> bytes:
    """A span with the value in an attribute of its own, its event, its resource and its scope, and one without."""
    pair = delimited(1, b"deep") + delimited(2, value)
    event = delimited(11, delimited(2, b"happened") + delimited(3, pair))
    good, span = (otlp_span(trace, number, start_ns=START).SerializeToString() for number in (1, 2))
    spans = delimited(2, good) + delimited(2, span + delimited(9, pair) + event)
    scope = delimited(1, delimited(1, b"lib") + delimited(3, pair)) + spans
    return delimited(1, delimited(1, delimited(1, pair)) + delimited(2, scope))


@pytest.mark.parametrize("kind", ["lists", "maps"])
@pytest.mark.parametrize("levels", [31, 32, 47, 48, 63, 64])
async def test_values_as_deep_as_sdks_allow(receiver: Running, trace: int, kind: str, levels: int) -> None:
    """Protobuf's parser reads 31 maps or 47 lists in each other; SDKs send up to 64."""
    async with grpc_export(receiver.grpc_address) as export:
        assert await export(_deep_request(trace, _deep_bytes(kind, levels))) == b""
    good, row = await receiver.rows(
        "SELECT * FROM spans WHERE trace_id = {id:String} ORDER BY span_id", id=f"{trace:032x}"
    )
    value = _deep(kind, levels)
    assert good["attributes"] == {}
    assert json.loads(row["attributes_json"]["deep"]) == value
    for text in (row["events"][0]["attributes"], row["resource_attributes"], row["scope_attributes"]):
        assert json.loads(text) == {"deep": value}


@pytest.mark.parametrize("kind", ["lists", "maps"])
@pytest.mark.parametrize("levels", [65, 200, 5000])
async def test_what_is_deeper_is_cut_visibly(receiver: Running, trace: int, kind: str, levels: int) -> None:
    async with grpc_export(receiver.grpc_address) as export:
        assert await export(_deep_request(trace, _deep_bytes(kind, levels))) == b""
    rows = await receiver.rows(
        "SELECT attributes_json FROM spans WHERE trace_id = {id:String} ORDER BY span_id", id=f"{trace:032x}"
    )
    assert len(rows) == 2
    value = json.loads(rows[1]["attributes_json"]["deep"])
    for _ in range(64):
        value = value[0] if kind == "lists" else value["d"]
    assert value == "[nested too deep]"


def test_bytes_of_a_sender_are_bytes_inside_of_deep_values() -> None:
    value = _value({"raw": b"\x00" * 40}).SerializeToString()
    for _ in range(40):
        value = delimited(5, delimited(1, value))
    admitted = admit(TRACES, _deep_request(1, value), Limits())
    assert admitted.items == 2
    assert b"[" * 40 + b'{"raw":"' + b"A" * 53 in admitted.data


def test_a_text_that_is_not_utf8_deep_inside_costs_its_span_alone() -> None:
    value = delimited(1, b"cut \xc3")
    for _ in range(40):
        value = delimited(5, delimited(1, value))
    admitted = admit(TRACES, _deep_request(1, value), Limits())
    assert (admitted.items, admitted.rejected) == (0, 2)  # it stands in the resource and the scope as well
    span = otlp_span(1, 2, start_ns=START).SerializeToString()
    spans = delimited(2, span + delimited(9, delimited(1, b"deep") + delimited(2, value))) + delimited(2, span)
    admitted = admit(TRACES, delimited(1, delimited(2, spans)), Limits())
    assert (admitted.items, admitted.rejected) == (1, 1)
    assert "span 1 of its scope: a text is not UTF-8" in admitted.reason


async def test_a_configured_depth_cuts_visibly(trace: int) -> None:
    span = otlp_span(trace, 1, start_ns=START)
    span.attributes.append(_attribute("deep", _deep("maps", 5)))
    admitted = admit(TRACES, export_request(span).SerializeToString(), Limits(nesting=3))
    assert b'{"d":{"d":{"d":"[nested too deep]","beside":2},"beside":2},"beside":2}' in admitted.data


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


@pytest.mark.parametrize("nested", [{"a": 1}, {}, [[1]], [{"a": 1}], [1, [2], 3], ["x", {}, "y"]])
@pytest.mark.parametrize("place", ["resource", "scope", "span", "event", "link"])
def test_a_nested_value_is_seen_whatever_stands_around_it(place: str, nested: Any) -> None:
    """Attributes are merged while a request is checked; what comes after a nested value must not hide it."""

    def request(*values: Any) -> bytes:
        spans = [otlp_span(1, number, start_ns=START, attributes={"plain": "p"}) for number in (1, 2, 3)]
        spans[1].events.add(name="e")
        spans[1].links.add(trace_id=b"\1" * 16, span_id=b"\1" * 8)
        message = export_request(*spans)
        (resource,) = message.resource_spans
        (scope,) = resource.scope_spans
        span = scope.spans[1]
        holder = {
            "resource": resource.resource,
            "scope": scope.scope,
            "span": span,
            "event": span.events[0],
            "link": span.links[0],
        }[place]
        holder.attributes.extend(_attribute(f"key {number}", value) for number, value in enumerate(values))
        return message.SerializeToString()

    plain_values = ["text", 1, 2.0, True, b"raw", None]
    if place in ("resource", "span"):
        plain_values.append(["a", "b"])
    assert plain(TRACES, request(*plain_values), Limits()) is not None
    assert plain(TRACES, request(*plain_values, nested, *plain_values), Limits()) is None


def test_a_bad_span_costs_its_neighbours_no_attribute() -> None:
    good = otlp_span(1, 1, start_ns=START, attributes={"a": "x", "b": 2, "c": 0.5, "d": ["e", "f"]})
    good.events.add(name="e").attributes.extend([_attribute("g", "h"), _attribute("i", 1)])
    bad = otlp_span(1, 2, start_ns=START, attributes={"a": "x"})
    bad.span_id = b"short"
    admitted = admit(TRACES, export_request(good, bad, good).SerializeToString(), Limits())
    assert (admitted.items, admitted.rejected) == (2, 1)
    kept = ExportTraceServiceRequest.FromString(admitted.data)
    assert list(kept.resource_spans[0].scope_spans[0].spans) == [good, good]
