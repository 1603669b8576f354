"""What an attribute, a time or a field holds comes back from SQL as it was sent, in every form of OTLP (C9)."""

import json
import math
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, EntityRef, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from support.otlp_json import otlp_json
from support.running import Running, grpc_export
from support.telemetry import export_request, otlp_span
from tracestone.collector.receiver.fields import delimited

START = 1_790_000_000_000_000_000
MS = 1_000_000
Send = Callable[[ExportTraceServiceRequest], Awaitable[None]]


@pytest.fixture(params=["grpc", "http", "json"])
def send(request: pytest.FixtureRequest, receiver: Running) -> Send:
    """Sends a request, which must be taken whole."""

    async def posted(body: bytes, media_type: str, answer: bytes) -> None:
        async with httpx.AsyncClient() as http:
            given = await http.post(receiver.traces_url, content=body, headers={"content-type": media_type})
        assert (given.status_code, given.content) == (200, answer)

    async def over_grpc(message: ExportTraceServiceRequest) -> None:
        async with grpc_export(receiver.grpc_address) as export:
            assert await export(message.SerializeToString()) == b""

    async def over_http(message: ExportTraceServiceRequest) -> None:
        await posted(message.SerializeToString(), "application/x-protobuf", b"")

    async def in_json(message: ExportTraceServiceRequest) -> None:
        await posted(json.dumps(otlp_json(message)).encode(), "application/json", b"{}")

    ways: dict[str, Send] = {"grpc": over_grpc, "http": over_http, "json": in_json}
    return ways[request.param]


async def _rows(receiver: Running, trace: int) -> list[dict[str, Any]]:
    return await receiver.rows("SELECT * FROM spans WHERE trace_id = {id:String} ORDER BY span_id", id=f"{trace:032x}")


async def _row(receiver: Running, trace: int) -> dict[str, Any]:
    (row,) = await _rows(receiver, trace)
    return row


async def test_every_kind_of_value(send: Send, receiver: Running, trace: int) -> None:
    values = {
        "text": AnyValue(string_value='é日🙂 \0 \\ " \n'),
        "empty text": AnyValue(string_value=""),
        "max": AnyValue(int_value=2**63 - 1),
        "min": AnyValue(int_value=-(2**63)),
        "zero": AnyValue(int_value=0),
        "zero float": AnyValue(double_value=0.0),
        "tiny": AnyValue(double_value=5e-324),
        "huge": AnyValue(double_value=-1.7976931348623157e308),
        "nan": AnyValue(double_value=math.nan),
        "inf": AnyValue(double_value=math.inf),
        "-inf": AnyValue(double_value=-math.inf),
        "yes": AnyValue(bool_value=True),
        "no": AnyValue(bool_value=False),
        "bytes": AnyValue(bytes_value=b"\x00\xff\x80"),
        "no bytes": AnyValue(bytes_value=b""),
        "list": AnyValue(array_value=ArrayValue()),
        "nulls": AnyValue(array_value=ArrayValue(values=[AnyValue(), AnyValue(int_value=2**53 + 1), AnyValue()])),
        "null": AnyValue(),
        "Text": AnyValue(string_value="another key"),
        "x" * 300: AnyValue(string_value="long key"),
    }
    span = otlp_span(trace, 1, start_ns=START)
    span.attributes.extend(KeyValue(key=key, value=value) for key, value in values.items())
    await send(export_request(span))
    row = await _row(receiver, trace)
    assert row["attributes_string"] == {
        "text": 'é日🙂 \0 \\ " \n',
        "empty text": "",
        "Text": "another key",
        "x" * 300: "long key",
    }
    assert row["attributes_int"] == {"max": 2**63 - 1, "min": -(2**63), "zero": 0}
    floats = row["attributes_float"]
    assert math.isnan(floats.pop("nan"))
    assert floats == {
        "zero float": 0.0,
        "tiny": 5e-324,
        "huge": -1.7976931348623157e308,
        "inf": math.inf,
        "-inf": -math.inf,
    }
    assert row["attributes_bool"] == {"yes": True, "no": False}
    assert row["attributes_json"] == {"list": "[]", "nulls": "[null,9007199254740993,null]", "null": "null"}
    raw = await receiver.rows(
        "SELECT hex(attributes_bytes['bytes']) AS some, mapContains(attributes_bytes, 'no bytes') AS empty"
        " FROM spans WHERE trace_id = {id:String}",
        id=f"{trace:032x}",
    )
    assert raw == [{"some": "00FF80", "empty": 1}]
    assert row["attributes"].keys() == values.keys()
    shown = ("max", "zero", "no", "bytes", "no bytes", "null", "zero float", "tiny", "nan", "-inf")
    assert {key: row["attributes"][key] for key in shown} == {
        "max": str(2**63 - 1),
        "zero": "0",
        "no": "false",
        "bytes": "AP+A",
        "no bytes": "",
        "null": "null",
        "zero float": "0",
        "tiny": "5e-324",
        "nan": "nan",
        "-inf": "-inf",
    }


async def test_a_key_twice_loses_neither_value(send: Send, receiver: Running, trace: int) -> None:
    """OTLP forbids it and says nothing of what follows. The map keeps both; read by its key, it gives the first."""
    span = otlp_span(trace, 1, start_ns=START)
    for value in (AnyValue(string_value="first"), AnyValue(string_value="second"), AnyValue(int_value=3)):
        span.attributes.add(key="twice", value=value)
    await send(export_request(span))
    (row,) = await receiver.rows(
        "SELECT mapKeys(attributes_string) AS names, mapValues(attributes_string) AS texts,"
        " attributes_string['twice'] AS read, attributes_int['twice'] AS number"
        " FROM spans WHERE trace_id = {id:String}",
        id=f"{trace:032x}",
    )
    assert row == {"names": ["twice", "twice"], "texts": ["first", "second"], "read": "first", "number": 3}


async def test_ten_thousand_attributes_and_a_text_of_a_megabyte(send: Send, receiver: Running, trace: int) -> None:
    span = otlp_span(trace, 1, start_ns=START, attributes={f"key.{n}": n for n in range(9_999)})
    span.attributes.add(key="image", value=AnyValue(string_value="QUJD" * 2**18))
    await send(export_request(span))
    row = await _row(receiver, trace)
    assert row["attributes_int"] == {f"key.{n}": n for n in range(9_999)}
    assert row["attributes_text"] == {"image": "QUJD" * 2**18}


async def test_a_flattened_index_allocates_nothing(send: Send, receiver: Running, trace: int) -> None:
    indexes = ["999999999", "18446744073709551616", "-1", "__proto__", ""]
    texts = {f"llm.input_messages.{index}.message.content": "hello" for index in indexes}
    span = otlp_span(trace, 1, start_ns=START, attributes={"openinference.span.kind": "LLM", **texts})
    await send(export_request(span))
    assert texts.items() <= (await _row(receiver, trace))["attributes_string"].items()


async def test_times_at_the_edges(send: Send, receiver: Running, trace: int) -> None:
    """Kept up to the year 2262, shown as that bound beyond it; a duration is never negative."""
    latest = 9_223_286_400_000_000_000
    cases = {
        (START, START + 5): (START, START + 5, 5),
        (START, START - 5): (START, START - 5, 0),
        (0, START): (START, START, 0),
        (START // MS, START // MS + 5): (START // MS, START // MS + 5, 5),
        (2**63, 2**64 - 1): (latest, latest, 0),
        (START, 2**64 - 1): (START, latest, 2**63 - 1 - START),
        (1, 2**63 - 1): (1, latest, 2**63 - 2),
    }
    spans = []
    for number, (start, end) in enumerate(cases, start=1):
        span = otlp_span(trace, number, start_ns=START)
        span.start_time_unix_nano, span.end_time_unix_nano = start, end
        span.events.add(name="of a later age", time_unix_nano=2**64 - 1)
        spans.append(span)
    await send(export_request(*spans))
    rows = await receiver.rows(
        "SELECT toUnixTimestamp64Nano(start_time) AS began, toUnixTimestamp64Nano(end_time) AS ended, duration_ns"
        " FROM spans WHERE trace_id = {id:String} ORDER BY span_id",
        id=f"{trace:032x}",
    )
    assert [tuple(row.values()) for row in rows] == list(cases.values())


async def test_a_span_without_times_is_of_when_it_came(send: Send, receiver: Running, trace: int) -> None:
    span = otlp_span(trace, 1, start_ns=START)
    span.start_time_unix_nano = span.end_time_unix_nano = 0
    await send(export_request(span))
    (row,) = await receiver.rows(
        "SELECT start_time = received_at AS same, end_time = received_at AS both FROM spans"
        " WHERE trace_id = {id:String}",
        id=f"{trace:032x}",
    )
    assert row == {"same": 1, "both": 1}


async def test_every_other_field_of_a_span(send: Send, receiver: Running, trace: int) -> None:
    span = otlp_span(trace, 2, 9, start_ns=START, name="")
    span.trace_state, span.flags, span.kind = "ot=th:8,not a list=", 0xFFFFFF01, Span.SPAN_KIND_PRODUCER
    span.dropped_attributes_count, span.dropped_events_count, span.dropped_links_count = 1, 2, 2**32 - 1
    span.events.add(name="late", time_unix_nano=START + 10_000 * MS)
    span.events.add(name="early", time_unix_nano=START - 10_000 * MS)
    span.links.add(trace_id=b"t" * 16, span_id=b"s" * 8)
    span.links.add(trace_id=bytes(16))
    request = export_request(span)
    resource, scope = request.resource_spans[0], request.resource_spans[0].scope_spans[0]
    resource.schema_url, scope.schema_url = "https://example.com/resource", "https://example.com/scope"
    resource.resource.entity_refs.append(EntityRef(type="service", id_keys=["service.name"]))
    scope.scope.name, scope.scope.version = "a.library", "1.2.3"
    await send(request)
    row = await _row(receiver, trace)
    assert (row["parent_span_id"], row["name"], row["kind"]) == (f"{9:016x}", "", "PRODUCER")
    assert (row["trace_state"], row["flags"]) == ("ot=th:8,not a list=", 0xFFFFFF01)
    dropped = [row[f"dropped_{name}_count"] for name in ("attributes", "events", "links")]
    assert dropped == [1, 2, 2**32 - 1]
    assert [event["name"] for event in row["events"]] == ["late", "early"]
    assert [link["trace_id"] for link in row["links"]] == [(b"t" * 16).hex(), "0" * 32]
    assert (row["scope_name"], row["scope_version"]) == ("a.library", "1.2.3")
    assert row["schema_url"] == "https://example.com/scope"
    assert json.loads(row["resource_attributes"]) == {"service.name": "agent"}


async def test_neither_resource_nor_scope(send: Send, receiver: Running, trace: int) -> None:
    spans = [ScopeSpans(spans=[otlp_span(trace, 1, start_ns=START)])]
    await send(ExportTraceServiceRequest(resource_spans=[ResourceSpans(scope_spans=spans)]))
    row = await _row(receiver, trace)
    assert (row["service_name"], row["scope_name"], row["resource_attributes"]) == ("", "", "{}")
    assert row["experiment_id"] == 0


async def test_an_index_into_a_profiles_table_is_no_value(receiver: Running, trace: int) -> None:
    span = otlp_span(trace, 1, start_ns=START).SerializeToString()
    pair = delimited(1, b"indexed") + delimited(2, b"\x40\x07")
    key_index = b"\x18\x07" + delimited(2, AnyValue(string_value="of an indexed key").SerializeToString())
    body = delimited(1, delimited(2, delimited(2, span + delimited(9, pair) + delimited(9, key_index))))
    async with grpc_export(receiver.grpc_address) as export:
        assert await export(body) == b""
    assert (await _row(receiver, trace))["attributes"] == {"indexed": "null", "": "of an indexed key"}


async def test_unknown_fields_everywhere(receiver: Running, trace: int) -> None:
    """A newer version of the protocol may add a field to every message."""
    new = delimited(99, b"new") + b"\xa0\x06\x01"
    pair = delimited(1, b"k") + delimited(2, AnyValue(string_value="v").SerializeToString() + new) + new
    event = delimited(11, delimited(2, b"e") + new)
    span = otlp_span(trace, 1, start_ns=START).SerializeToString() + delimited(9, pair) + event + new
    scope = delimited(2, delimited(1, delimited(1, b"lib") + new) + delimited(2, span) + new)
    async with grpc_export(receiver.grpc_address) as export:
        assert await export(delimited(1, delimited(1, new) + scope + new) + new) == b""
    row = await _row(receiver, trace)
    assert (row["attributes"], row["events"][0]["name"], row["scope_name"]) == ({"k": "v"}, "e", "lib")


async def test_a_span_sent_when_it_begins_and_again_when_it_has_ended(
    send: Send, receiver: Running, trace: int
) -> None:
    """As MLflow's client does: the first time without an end. The later version is the one that counts."""
    span = otlp_span(trace, 1, start_ns=START, name="begun")
    ended = otlp_span(trace, 1, start_ns=START, name="ended", attributes={"gen_ai.usage.input_tokens": 7})
    span.end_time_unix_nano = 0
    await send(export_request(span))
    row = await _row(receiver, trace)
    assert (row["name"], row["duration_ns"], row["input_tokens"]) == ("begun", 0, None)
    await send(export_request(ended))
    row = await _row(receiver, trace)
    assert (row["name"], row["duration_ns"], row["input_tokens"]) == ("ended", 100 * MS, 7)
    (whole,) = await receiver.rows(
        "SELECT span_count, input_tokens, duration_ns FROM traces WHERE trace_id = {id:String}", id=f"{trace:032x}"
    )
    assert whole == {"span_count": 1, "input_tokens": 7, "duration_ns": 100 * MS}
