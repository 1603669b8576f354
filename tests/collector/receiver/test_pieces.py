"""What one request may become is bounded on its bytes; a large one is gone through piece by piece, off the loop."""

import asyncio
import gzip

import grpc
import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from support.disk import SimulatedDisk
from support.running import Running, grpc_export
from support.telemetry import export_request, otlp_span
from support.wal import drain, opened
from tracestone.collector.receiver import pieces
from tracestone.collector.receiver.admission import Admitted, admit, plain
from tracestone.collector.receiver.arrivals import Arrivals
from tracestone.collector.receiver.budget import Budget
from tracestone.collector.receiver.export import Exporter, Work
from tracestone.collector.receiver.fields import delimited
from tracestone.collector.receiver.pieces import Limits
from tracestone.collector.signals.traces import TRACES
from tracestone.collector.wal.receipt import ReceiptClock
from tracestone.protos.ingest.v1.traces_pb2 import Traces
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.errors import Invalid, TooLarge
from tracestone.schema.stores.experiments import ExperimentStore

START = 1_790_000_000_000_000_000
EMPTY = 100_000  # of each kind; more than any limit of groups


def _span(number: int, size: int = 0) -> Span:
    return otlp_span(1, number, start_ns=START, attributes={"text": "x" * size} if size else {})


def _ids(data: bytes) -> list[tuple[str, int]]:
    """Service and span number, in order."""
    return [
        (resource.resource.attributes[0].value.string_value, int.from_bytes(span.span_id, "big"))
        for resource in Traces.FromString(data).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


@pytest.mark.parametrize(
    ("body", "what"),
    [
        pytest.param(b"\x0a\x00" * EMPTY, "resources", id="resources"),
        pytest.param(delimited(1, b"\x12\x00" * EMPTY), "scopes", id="scopes"),
        pytest.param(delimited(1, delimited(2, b"\x12\x00" * 3 * EMPTY)), "spans", id="spans"),
        pytest.param(delimited(1, b"\x12\x00" * 6000) * 2, "scopes", id="scopes of two resources"),
        pytest.param(delimited(1, b"\x1a\x00" * 6 * EMPTY), "fields", id="schema urls"),
    ],
)
async def test_a_body_of_empty_things_is_too_large(receiver: Running, body: bytes, what: str) -> None:
    async with grpc_export(receiver.grpc_address) as export:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await export(body)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert what in (refused.value.details() or "")
    async with httpx.AsyncClient() as http:
        answer = await http.post(
            receiver.traces_url,
            content=gzip.compress(body),
            headers={"content-type": "application/x-protobuf", "content-encoding": "gzip"},
        )
    assert answer.status_code == 413


def test_a_span_of_too_many_values_costs_itself_alone() -> None:
    many = _span(2).SerializeToString() + b"\x7a\x00" * (pieces.MAX_ITEM_VALUES + 1)
    within = delimited(5, b"\x0a\x00" * (pieces.MAX_ITEM_VALUES + 1))
    deep = _span(3).SerializeToString() + delimited(9, delimited(2, within))
    spans = [_span(1).SerializeToString(), many, deep, _span(4).SerializeToString()]
    body = delimited(1, delimited(2, b"".join(delimited(2, span) for span in spans)))
    admitted = admit(TRACES, body, Limits())
    assert (admitted.items, admitted.rejected) == (2, 2)
    assert "span 2 of its scope holds more than" in admitted.reason
    kept = Traces.FromString(admitted.data)
    numbers = [s.span_id[-1] for resource in kept.resource_spans for s in resource.scope_spans[0].spans]
    assert numbers == [1, 4]


def test_a_large_resource_costs_its_own_spans_alone() -> None:
    request = export_request(_span(1), _span(2), service="x" * (pieces.MAX_HEAD_BYTES + 1))
    request.MergeFrom(export_request(_span(3), service="small"))
    admitted = admit(TRACES, request.SerializeToString(), Limits())
    assert (admitted.rejected, _ids(admitted.data)) == (2, [("small", 3)])
    assert "the attributes of a resource or scope" in admitted.reason


def _large() -> ExportTraceServiceRequest:
    request = export_request(*(_span(number, 60_000) for number in range(1, 31)), service="first")
    request.MergeFrom(export_request(_span(31, 2_000_000), _span(32), service="second"))
    return request


def test_a_large_plain_request_is_cut_and_stored_as_it_came() -> None:
    body = _large().SerializeToString()
    cut = pieces.cut(TRACES, body, Limits()).pieces
    assert len(cut) > 4
    assert all(len(piece.data) < pieces.PIECE_BYTES + 1000 for piece in cut if piece.resource == 1)
    assert _ids(b"".join(piece.data for piece in cut)) == _ids(body)
    assert plain(TRACES, body, Limits()) is None
    assert admit(TRACES, body, Limits()) == Admitted(
        body, 32, ({"service.name": "first"}, {"service.name": "second"}), 0, ""
    )


def test_a_bad_span_of_a_large_request_leaves_the_rest_with_its_service() -> None:
    request = _large()
    request.resource_spans[0].scope_spans[0].spans[20].span_id = b"short"
    request.resource_spans[0].scope_spans[0].spans[9].attributes.append(
        KeyValue(key="nested", value=AnyValue.FromString(delimited(6, b"")))
    )
    admitted = admit(TRACES, request.SerializeToString(), Limits())
    assert (admitted.items, admitted.rejected) == (31, 1)
    expected = [("first", number) for number in range(1, 31) if number != 21] + [("second", 31), ("second", 32)]
    assert _ids(admitted.data) == expected
    resources = Traces.FromString(admitted.data).resource_spans
    assert [names["service.name"] for names in admitted.resources] == [
        resource.resource.attributes[0].value.string_value for resource in resources
    ]


def test_the_number_of_an_unreadable_span_counts_from_its_scope() -> None:
    request = _large()
    request.resource_spans[0].scope_spans[0].spans[24].name = "cut-here"
    body = request.SerializeToString().replace(b"cut-here", b"cut-her\xc3")
    admitted = admit(TRACES, body, Limits())
    assert (admitted.rejected, admitted.reason) == (1, "span 25 of its scope: a text is not UTF-8")


def test_resources_without_spans_are_left_out() -> None:
    request = ExportTraceServiceRequest(resource_spans=[ResourceSpans(), ResourceSpans(scope_spans=[ScopeSpans()])])
    request.MergeFrom(export_request(_span(1), service="kept"))
    body = request.SerializeToString()
    assert plain(TRACES, body, Limits()) is None
    admitted = admit(TRACES, body, Limits())
    assert admitted.resources == ({"service.name": "kept"},)
    assert len(Traces.FromString(admitted.data).resource_spans) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"\x0a",
        b"\x0a\x05ab",
        b"\x0a\x02\x12\x05",
        b"\x0b\x0c",
        b"\x00\x00",
        b"\xff" * 11,
        b"\x09abc",
        b"\x0a\x04\x12\x02\x12\x7f",
    ],
)
def test_a_body_cut_short_is_no_request(body: bytes) -> None:
    with pytest.raises(Invalid, match="not an ExportTraceServiceRequest"):
        admit(TRACES, body, Limits())


def test_limits_count_exactly() -> None:
    request = export_request(*(_span(number) for number in range(1, 11)))
    body = request.SerializeToString()
    for limits in (Limits(items=10), Limits(groups=1)):
        exact = plain(TRACES, body, limits)
        assert exact is not None
        assert exact == admit(TRACES, body, limits)
    for decide in (plain, admit):
        with pytest.raises(TooLarge):
            decide(TRACES, body, Limits(items=9))
        with pytest.raises(TooLarge):
            decide(TRACES, body * 2, Limits(groups=1))


@pytest.mark.parametrize("nested", [False, True])
async def test_others_go_on_while_a_large_request_is_gone_through(pool: Pool, nested: bool) -> None:
    log = opened(SimulatedDisk(), max_bytes=256 * 1024 * 1024, segment_bytes=64 * 1024 * 1024)
    exporter = Exporter(
        TRACES,
        log.writer,
        ExperimentStore(pool, 100),
        ReceiptClock.alone(),
        limits=Limits(),
        work=Work(Arrivals(Budget(2**30))),
    )
    request = export_request(*(_span(number, 600) for number in range(1, 5001)))
    if nested:
        for span in request.resource_spans[0].scope_spans[0].spans:
            span.attributes.append(KeyValue(key="n", value=AnyValue.FromString(delimited(6, b""))))
    body = request.SerializeToString()
    await exporter.export(export_request(_span(0x77)).SerializeToString(), "0")  # the experiment is known now
    turns = 0
    sending = asyncio.create_task(exporter.export(body, "0"))
    while not log.writer.pending_bytes and not sending.done():
        await asyncio.sleep(0)
        turns += 1
    accepted = await sending
    await drain(log)
    await log.close()
    assert accepted.items == 5000
    assert turns > 10  # on the loop it would be one or two
