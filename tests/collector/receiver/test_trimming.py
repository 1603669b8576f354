"""Spans that hold more than is kept: made smaller, marked and counted; nothing else of them changes."""

import secrets
from collections.abc import Iterable

import grpc
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from support.running import Running, grpc_export
from support.telemetry import export_request, otlp_span
from tracestone.collector.receiver.admission import Admitted, admit, plain
from tracestone.collector.receiver.fields import delimited
from tracestone.collector.receiver.pieces import Limits
from tracestone.collector.receiver.trimming import MARK, Effort, ItemLimits, trimmed
from tracestone.collector.signals.logs import LOGS
from tracestone.collector.signals.traces import TRACES
from tracestone.protos.ingest.v1.traces_pb2 import Traces

START = 1_790_000_000_000_000_000
FEW = ItemLimits(attributes=3, events=2, links=2, value_bytes=100)


def _pair(key: str, text: str = "v") -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=text))


def _trimmed(span: Span, limits: ItemLimits = FEW) -> tuple[Span, list[str]]:
    """What is kept of a span, and the notes in it."""
    found = trimmed(TRACES, span.SerializeToString(), limits, Effort())
    assert found is not None
    kept = Span.FromString(found[0])
    mark = kept.attributes.pop()
    assert mark.key == MARK
    notes = [value.string_value for value in mark.value.array_value.values]
    assert notes[0] == found[1]
    return kept, notes


def _keys(attributes: Iterable[KeyValue]) -> list[str]:
    return [pair.key for pair in attributes]


def test_what_is_too_many_is_left_out_and_counted() -> None:
    span = otlp_span(1, 1, start_ns=START, attributes={"a": 1, "b": 2, "c": 3})
    span.dropped_attributes_count = 40
    span.dropped_events_count = 1
    span.events.extend(Span.Event(name=f"event {n}", time_unix_nano=START) for n in range(5))
    span.links.extend(Span.Link(trace_id=bytes([n] * 16), span_id=bytes(8)) for n in range(4))
    whole = Span.FromString(span.SerializeToString())
    span.attributes.extend([_pair("d"), _pair("e")])
    span.name = "last"  # stands before the attributes on the wire
    kept, notes = _trimmed(span)
    assert _keys(kept.attributes) == ["a", "b", "c"]
    assert [event.name for event in kept.events] == ["event 0", "event 1"]
    assert len(kept.links) == 2
    dropped = (kept.dropped_attributes_count, kept.dropped_events_count, kept.dropped_links_count)
    assert dropped == (42, 4, 2)
    assert notes == ["attributes: 3 of 5 kept", "events: 2 of 5 kept", "links: 2 of 4 kept"]
    for each in (kept, whole):
        for name in ("events", "links", "dropped_attributes_count", "dropped_events_count", "dropped_links_count"):
            each.ClearField(name)  # type: ignore[arg-type]
        each.name = ""
    assert kept == whole


def test_attributes_of_events_and_links_are_counted_there() -> None:
    many = [_pair(f"key {n}") for n in range(5)]
    span = otlp_span(1, 1, start_ns=START)
    span.events.add(name="full", attributes=many, dropped_attributes_count=1)
    span.events.add(name="empty")
    span.links.add(trace_id=bytes(16), span_id=bytes(8), attributes=many)
    kept, notes = _trimmed(span)
    assert [len(event.attributes) for event in kept.events] == [3, 0]
    assert [event.dropped_attributes_count for event in kept.events] == [3, 0]
    assert (len(kept.links[0].attributes), kept.links[0].dropped_attributes_count) == (3, 2)
    assert (kept.dropped_attributes_count, len(kept.attributes)) == (0, 0)
    assert notes == ["attributes of events: 3 of 5 kept", "attributes of links: 3 of 5 kept"]


@pytest.mark.parametrize("character", ["a", "é", "漢", "😀"])
def test_a_text_is_cut_between_characters(character: str) -> None:
    for before in range(4):
        text = "x" * before + character * 120
        span = otlp_span(1, 1, start_ns=START, attributes={"short": "y" * 100, "long": text})
        kept, (note,) = _trimmed(span)
        cut = kept.attributes[1].value.string_value
        size = len(cut.encode())
        assert text.startswith(cut)
        assert 96 < size <= 100
        assert kept.attributes[0].value.string_value == "y" * 100
        assert note == f"long: {size} of {len(text.encode())} bytes kept"


def test_values_anywhere_are_cut() -> None:
    long = AnyValue(string_value="x" * 200)
    raw = AnyValue(bytes_value=b"\xff" * 200)
    nested = AnyValue(
        kvlist_value=KeyValueList(values=[KeyValue(key="in", value=AnyValue(array_value=ArrayValue(values=[long])))])
    )
    span = otlp_span(1, 1, start_ns=START)
    span.attributes.append(KeyValue(key="array", value=AnyValue(array_value=ArrayValue(values=[raw, long, raw]))))
    span.attributes.append(KeyValue(key="nested", value=nested))
    span.events.add(name="event", attributes=[KeyValue(key="of event", value=long)])
    span.links.add(trace_id=bytes(16), span_id=bytes(8), attributes=[KeyValue(key="of link", value=long)])
    kept, notes = _trimmed(span)
    values = kept.attributes[0].value.array_value.values
    assert [len(value.bytes_value or value.string_value) for value in values] == [100, 100, 100]
    inner = kept.attributes[1].value.kvlist_value.values[0].value.array_value.values[0]
    assert inner.string_value == "x" * 100
    assert len(kept.events[0].attributes[0].value.string_value) == 100
    assert len(kept.links[0].attributes[0].value.string_value) == 100
    assert [note.partition(":")[0] for note in notes] == ["array", "array", "array", "in", "of event", "of link"]


def test_a_value_that_stands_there_twice_is_cut_twice() -> None:
    value = b"".join(AnyValue(string_value=text * 200).SerializeToString() for text in "ab")
    item = otlp_span(1, 1, start_ns=START).SerializeToString()
    item += delimited(9, delimited(1, b"key") + delimited(2, value))
    kept = trimmed(TRACES, item, FEW, Effort())
    assert kept is not None
    assert Span.FromString(kept[0]).attributes[0].value.string_value == "b" * 100


def test_a_log_record_is_trimmed_too() -> None:
    record = LogRecord(body=AnyValue(string_value="x" * 200), attributes=[_pair(f"key {n}") for n in range(5)])
    found = trimmed(LOGS, record.SerializeToString(), FEW, Effort())
    assert found is not None
    kept = LogRecord.FromString(found[0])
    assert kept.body.string_value == "x" * 100
    assert _keys(kept.attributes) == ["key 0", "key 1", "key 2", MARK]
    assert kept.dropped_attributes_count == 2
    notes = [value.string_value for value in kept.attributes[3].value.array_value.values]
    assert notes == ["body: 100 of 200 bytes kept", "attributes: 3 of 5 kept"]


def test_notes_are_few() -> None:
    span = otlp_span(1, 1, start_ns=START, attributes={f"key {n}": "x" * 200 for n in range(50)})
    _, notes = _trimmed(span, ItemLimits(value_bytes=100))
    assert len(notes) == 20


def test_values_nested_without_end_are_for_the_parser() -> None:
    value = AnyValue(string_value="x" * 200).SerializeToString()
    for _ in range(3000):
        value = delimited(5, delimited(1, value))
    item = delimited(9, delimited(1, b"deep") + delimited(2, value))
    assert trimmed(TRACES, item, FEW, Effort()) is None


_texts = st.text(max_size=150)
_values = st.recursive(
    st.builds(AnyValue, string_value=_texts) | st.builds(AnyValue, bytes_value=st.binary(max_size=150)),
    lambda inner: st.builds(
        AnyValue, array_value=st.builds(ArrayValue, values=st.lists(inner, max_size=4))
    ) | st.builds(
        AnyValue,
        kvlist_value=st.builds(
            KeyValueList, values=st.lists(st.builds(KeyValue, key=st.text(max_size=5), value=inner), max_size=4)
        ),
    ),
    max_leaves=6,
)  # fmt: skip
_pairs = st.lists(st.builds(KeyValue, key=st.text(max_size=8), value=_values), max_size=6)
_spans = st.builds(
    Span,
    name=_texts,
    attributes=_pairs,
    events=st.lists(st.builds(Span.Event, name=_texts, attributes=_pairs), max_size=4),
    links=st.lists(st.builds(Span.Link, attributes=_pairs), max_size=4),
    dropped_links_count=st.integers(0, 2**32 - 1),
)


@given(_spans)
def test_what_is_kept_is_within_the_limits_and_smaller_limits_change_nothing_more(span: Span) -> None:
    item = span.SerializeToString()
    found = trimmed(TRACES, item, FEW, Effort())
    if found is None:
        assert len(item) <= FEW.unseen_bytes or (_largest(span) <= 100 and len(span.events) <= 2)
        return
    kept, _ = _trimmed(span)
    assert _largest(kept) <= 100
    assert max(len(kept.attributes), *(len(each.attributes) for each in (*kept.events, *kept.links, kept))) <= 3
    assert len(kept.events) <= 2
    assert len(kept.links) <= 2
    assert kept.dropped_links_count == min(span.dropped_links_count + max(len(span.links) - 2, 0), 2**32 - 1)
    assert kept.name == span.name
    again = trimmed(TRACES, kept.SerializeToString(), FEW, Effort())
    assert again is None


def _largest(span: Span) -> int:
    def size(value: AnyValue) -> int:
        inner = [*value.array_value.values, *(pair.value for pair in value.kvlist_value.values)]
        return max(len(value.string_value.encode()), len(value.bytes_value), *map(size, inner), 0)

    holders = [span, *span.events, *span.links]
    return max((size(pair.value) for holder in holders for pair in holder.attributes), default=0)


def _admitted(span: Span, **limits: int) -> tuple[Admitted | None, Admitted]:
    body = export_request(otlp_span(1, 9, start_ns=START), span).SerializeToString()
    chosen = Limits(item=ItemLimits(**limits))
    return plain(TRACES, body, chosen), admit(TRACES, body, chosen)


def test_requests_within_the_limits_are_taken_as_they_came() -> None:
    span = otlp_span(1, 1, start_ns=START, attributes={f"k{n}": n for n in range(200)})
    quick, thorough = _admitted(span, attributes=200)
    assert quick is not None or len(span.SerializeToString()) > 1000
    assert (thorough.truncated, thorough.reason) == (0, "")
    body = export_request(otlp_span(1, 9, start_ns=START), span).SerializeToString()
    assert thorough.data == body


def test_one_span_is_truncated_and_the_sender_told() -> None:
    span = otlp_span(1, 1, start_ns=START, attributes={f"k{n}": n for n in range(201)})
    quick, thorough = _admitted(span, attributes=200)
    assert quick is None
    assert (thorough.items, thorough.rejected, thorough.truncated) == (2, 0, 1)
    assert thorough.reason == "1 span(s) hold more than is kept and were truncated; attributes: 200 of 201 kept"
    first, second = Traces.FromString(thorough.data).resource_spans[0].scope_spans[0].spans
    assert (len(first.attributes), len(second.attributes)) == (0, 201)
    assert second.dropped_attributes_count == 1


def test_a_corrupt_span_costs_itself_alone() -> None:
    good = otlp_span(1, 1, start_ns=START).SerializeToString()
    bad = good + delimited(9, b"\x0a\x7f" + b"x" * 2000)
    body = delimited(1, delimited(2, delimited(2, good) + delimited(2, bad)))
    admitted = admit(TRACES, body, Limits(item=FEW))
    assert (admitted.items, admitted.rejected, admitted.truncated) == (1, 1, 0)


def test_too_many_values_to_look_at_cost_their_spans_alone() -> None:
    small = otlp_span(1, 1, start_ns=START).SerializeToString()
    large = small + b"\x5a\x00" * 1_700_000
    later = _pair("text", "x" * 60_000)
    middling = small + delimited(9, later.SerializeToString())
    spans = [small, large, middling, small, large]
    body = delimited(1, delimited(2, b"".join(delimited(2, span) for span in spans)))
    admitted = admit(TRACES, body, Limits())
    assert (admitted.items, admitted.rejected, admitted.truncated) == (2, 3, 0)
    assert admitted.reason == "the request's spans hold too many values to look at"


async def test_what_is_kept_can_be_read(receiver: Running, trace: int) -> None:
    """Over both transports, with the sender told and the other spans of the request as they came."""
    number = secrets.randbits(60) + 1
    large = otlp_span(trace, number, start_ns=START, name="large").SerializeToString()
    large += b"".join(delimited(9, b"\x0a\x06%06d\x12\x02\x18\x01" % n) for n in range(130_000))
    small = otlp_span(trace, number + 1, start_ns=START, name="small", attributes={"a": 1}).SerializeToString()
    body = delimited(1, delimited(2, delimited(2, large) + delimited(2, small)))
    async with grpc_export(receiver.grpc_address, grpc.Compression.Gzip) as export, httpx.AsyncClient() as http:
        headers = {"content-type": "application/x-protobuf"}
        answers = [await export(body), (await http.post(receiver.traces_url, content=body, headers=headers)).content]
    for answer in answers:
        partial = ExportTraceServiceResponse.FromString(answer).partial_success
        assert partial.rejected_spans == 0
        assert "1 span(s) hold more than is kept" in partial.error_message
    rows = await receiver.rows(
        "SELECT name, length(attributes_int) AS kept, attributes[{mark:String}] AS mark FROM spans"
        " WHERE trace_id = {id:String} ORDER BY name",
        id=f"{trace:032x}",
        mark=MARK,
    )
    assert [(row["name"], row["kept"]) for row in rows] == [("large", 10_000), ("small", 1)]
    assert "attributes: 10000 of 130000 kept" in rows[0]["mark"]
    assert rows[1]["mark"] == ""
