"""Which spans of a request are taken, over both transports: a bad span never costs a good one (C3)."""

import gzip
import json
import sys
from collections.abc import Awaitable, Callable

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

import grpc
import httpx
import pytest
from google.protobuf.json_format import Parse
from google.rpc.error_details_pb2 import BadRequest
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans

from support.otlp_json import otlp_json
from support.running import Running, grpc_export
from support.telemetry import export_request, otlp_span

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
START = 1_790_000_000_000_000_000
Send = Callable[[bytes], Awaitable[bytes]]


PROTOBUF_TRANSPORTS = ["grpc", "grpc gzip", "http", "http gzip", "http zstd"]


@pytest.fixture(params=[*PROTOBUF_TRANSPORTS, "http json"])
def send(request: pytest.FixtureRequest, receiver: Running) -> Send:
    """Sends a request's bytes, which must be answered with success; returns the answer's bytes."""
    return _sender(request.param, receiver)


@pytest.fixture(params=PROTOBUF_TRANSPORTS)
def send_protobuf(request: pytest.FixtureRequest, receiver: Running) -> Send:
    """The same, for bytes that need not be a message."""
    return _sender(request.param, receiver)


def _sender(transport: str, receiver: Running) -> Send:
    compression = grpc.Compression.Gzip if "gzip" in transport else grpc.Compression.NoCompression

    async def over_grpc(body: bytes) -> bytes:
        async with grpc_export(receiver.grpc_address, compression) as export:
            return await export(body)

    async def over_http(body: bytes) -> bytes:
        headers = {"content-type": PROTOBUF}
        if "gzip" in transport:
            body, headers["content-encoding"] = gzip.compress(body), "gzip"
        if "zstd" in transport:
            body, headers["content-encoding"] = zstd.compress(body), "zstd"
        return (await posted(body, headers)).content

    async def in_json(body: bytes) -> bytes:
        message = otlp_json(ExportTraceServiceRequest.FromString(body))
        answer = await posted(json.dumps(message).encode(), {"content-type": JSON})
        return Parse(answer.content, ExportTraceServiceResponse()).SerializeToString()

    async def posted(body: bytes, headers: dict[str, str]) -> httpx.Response:
        async with httpx.AsyncClient() as http:
            answer = await http.post(receiver.traces_url, content=body, headers=headers)
        assert (answer.status_code, answer.headers["content-type"]) == (200, headers["content-type"]), answer.content
        return answer

    return over_grpc if transport.startswith("grpc") else in_json if "json" in transport else over_http


async def _stored(receiver: Running, trace: int) -> list[str]:
    rows = await receiver.rows(
        "SELECT span_id FROM spans WHERE trace_id = {id:String} ORDER BY span_id", id=f"{trace:032x}"
    )
    return [row["span_id"] for row in rows]


async def test_full_success_leaves_partial_success_unset(send: Send, receiver: Running, trace: int) -> None:
    answer = await send(export_request(otlp_span(trace, 1, start_ns=START)).SerializeToString())
    assert answer == b""
    assert await _stored(receiver, trace) == [f"{1:016x}"]


async def test_one_bad_span_among_a_hundred(send: Send, receiver: Running, trace: int) -> None:
    spans = [otlp_span(trace, number, start_ns=START) for number in range(1, 101)]
    spans[41].span_id = b"short"
    spans[41].name = "the bad one"
    answer = ExportTraceServiceResponse.FromString(await send(export_request(*spans).SerializeToString()))
    assert answer.partial_success.rejected_spans == 1
    assert "the bad one" in answer.partial_success.error_message
    assert "span_id must have 8 bytes and has 5" in answer.partial_success.error_message
    assert await _stored(receiver, trace) == [f"{number:016x}" for number in range(1, 101) if number != 42]


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("trace_id", b"", "trace_id must have 16 bytes and has 0"),
        ("trace_id", bytes(range(15)), "trace_id must have 16 bytes and has 15"),
        ("trace_id", bytes(range(17)), "trace_id must have 16 bytes and has 17"),
        ("trace_id", bytes(16), "trace_id must not be all zero"),
        ("span_id", b"", "span_id must have 8 bytes and has 0"),
        ("span_id", bytes(range(9)), "span_id must have 8 bytes and has 9"),
        ("span_id", bytes(8), "span_id must not be all zero"),
    ],
)
async def test_each_invalid_id(receiver: Running, trace: int, field: str, value: bytes, reason: str) -> None:
    bad = otlp_span(trace, 2, start_ns=START)
    setattr(bad, field, value)
    request = export_request(otlp_span(trace, 1, start_ns=START), bad)
    async with grpc_export(receiver.grpc_address) as export:
        answer = ExportTraceServiceResponse.FromString(await export(request.SerializeToString()))
    assert answer.partial_success.rejected_spans == 1
    assert reason in answer.partial_success.error_message
    assert await _stored(receiver, trace) == [f"{1:016x}"]


async def test_a_request_of_bad_spans_only_is_answered_and_stores_nothing(receiver: Running, trace: int) -> None:
    bad = otlp_span(trace, 1, start_ns=START)
    bad.trace_id = b"x"
    async with grpc_export(receiver.grpc_address) as export:
        answer = ExportTraceServiceResponse.FromString(await export(export_request(bad, bad).SerializeToString()))
    assert answer.partial_success.rejected_spans == 2
    assert await _stored(receiver, trace) == []


async def test_a_bad_span_keeps_its_neighbours_in_other_scopes_and_services(receiver: Running, trace: int) -> None:
    bad = otlp_span(trace, 9, start_ns=START)
    bad.span_id = b""
    request = export_request(bad, otlp_span(trace, 1, start_ns=START), service="first")
    request.resource_spans[0].scope_spans.append(ScopeSpans(spans=[otlp_span(trace, 2, start_ns=START)]))
    request.MergeFrom(export_request(otlp_span(trace, 3, start_ns=START), bad, service="second"))
    async with grpc_export(receiver.grpc_address) as export:
        answer = ExportTraceServiceResponse.FromString(await export(request.SerializeToString()))
    assert answer.partial_success.rejected_spans == 2
    rows = await receiver.rows(
        "SELECT span_id, service_name FROM spans WHERE trace_id = {id:String} ORDER BY span_id", id=f"{trace:032x}"
    )
    assert [(int(row["span_id"], 16), row["service_name"]) for row in rows] == [
        (1, "first"),
        (2, "first"),
        (3, "second"),
    ]


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(ExportTraceServiceRequest(), id="zero bytes"),
        pytest.param(ExportTraceServiceRequest(resource_spans=[ResourceSpans()]), id="no scopes"),
        pytest.param(
            ExportTraceServiceRequest(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans()])]), id="no spans"
        ),
    ],
)
async def test_nothing_to_take_is_a_success(send: Send, request_: ExportTraceServiceRequest) -> None:
    assert await send(request_.SerializeToString()) == b""


async def test_an_empty_envelope_does_not_shift_the_experiments_of_the_others(receiver: Running, trace: int) -> None:
    request = ExportTraceServiceRequest(resource_spans=[ResourceSpans(), ResourceSpans(scope_spans=[ScopeSpans()])])
    request.MergeFrom(export_request(otlp_span(trace, 1, start_ns=START), service="after-empty"))
    async with grpc_export(receiver.grpc_address) as export:
        assert await export(request.SerializeToString()) == b""
    experiment = await receiver.collector.experiments.by_name("after-empty")
    (row,) = await receiver.rows(
        "SELECT experiment_id, service_name FROM spans WHERE trace_id = {id:String}", id=f"{trace:032x}"
    )
    assert experiment is not None
    assert row == {"experiment_id": experiment.experiment_id, "service_name": "after-empty"}


async def test_logs_sent_to_the_traces_url_are_rejected_not_stored(send: Send, receiver: Running) -> None:
    record = LogRecord(time_unix_nano=START, severity_text="INFO", body=AnyValue(string_value="hello"))
    logs = ExportLogsServiceRequest(resource_logs=[ResourceLogs(scope_logs=[ScopeLogs(log_records=[record])])])
    before = (await receiver.rows("SELECT count() AS n FROM spans"))[0]["n"]
    answer = ExportTraceServiceResponse.FromString(await send(logs.SerializeToString()))
    assert answer.partial_success.rejected_spans == 1
    assert (await receiver.rows("SELECT count() AS n FROM spans"))[0]["n"] == before


async def test_fields_of_a_newer_protocol_are_ignored(receiver: Running, trace: int) -> None:
    body = export_request(otlp_span(trace, 1, start_ns=START)).SerializeToString()
    unknown = b"\xfa\x01\x03new"  # field 31, length-delimited
    async with grpc_export(receiver.grpc_address) as export:
        assert await export(body + unknown) == b""
    assert await _stored(receiver, trace) == [f"{1:016x}"]


async def test_fields_of_ours_in_a_request_change_nothing(receiver: Running, trace: int) -> None:
    """A sender must not choose the experiment, the version or JSON text by writing into our own field numbers."""
    span = otlp_span(trace, 1, start_ns=START)
    body = export_request(span, service="honest").SerializeToString()
    ours = b"\xc0\x3e\x63" + b"\xc9\x3e" + b"\xff" * 8  # experiment_ids: 99; received_at: 2^64 - 1
    async with grpc_export(receiver.grpc_address) as export:
        assert await export(body + ours) == b""
    experiment = await receiver.collector.experiments.by_name("honest")
    (row,) = await receiver.rows(
        "SELECT experiment_id, received_at < now64(9) + INTERVAL 1 MINUTE AS sane FROM spans"
        " WHERE trace_id = {id:String}",
        id=f"{trace:032x}",
    )
    assert experiment is not None
    assert row == {"experiment_id": experiment.experiment_id, "sane": 1}


async def test_a_text_that_is_not_utf8_costs_its_span_alone(send_protobuf: Send, receiver: Running, trace: int) -> None:
    good, bad = otlp_span(trace, 1, start_ns=START), otlp_span(trace, 2, start_ns=START, name="cut-here")
    body = export_request(good, bad).SerializeToString().replace(b"cut-here", b"cut-her\xc3")
    answer = ExportTraceServiceResponse.FromString(await send_protobuf(body))
    assert answer.partial_success.rejected_spans == 1
    assert "UTF-8" in answer.partial_success.error_message
    assert await _stored(receiver, trace) == [f"{1:016x}"]


async def test_a_resource_that_is_not_utf8_costs_its_own_spans(receiver: Running, trace: int) -> None:
    request = export_request(*(otlp_span(trace, number, start_ns=START) for number in (1, 2)), service="cut-here")
    request.MergeFrom(export_request(otlp_span(trace, 3, start_ns=START), service="whole"))
    body = request.SerializeToString().replace(b"cut-here", b"cut-her\xc3")
    async with grpc_export(receiver.grpc_address) as export:
        answer = ExportTraceServiceResponse.FromString(await export(body))
    assert answer.partial_success.rejected_spans == 2
    assert answer.partial_success.error_message == "2 invalid span(s) left out; resource: a text is not UTF-8"
    assert await _stored(receiver, trace) == [f"{3:016x}"]


async def test_json_text_of_a_sender_in_our_field_is_dropped(receiver: Running, trace: int) -> None:
    """It could hold anything, and would be shown as what the receiver wrote."""
    span = otlp_span(trace, 1, start_ns=START, attributes={"kept": "yes", "forged": 1})
    span.attributes[1].value.ParseFromString(b"\xa2\x06\x04{bad")
    async with grpc_export(receiver.grpc_address) as export:
        assert await export(export_request(span).SerializeToString()) == b""
    (row,) = await receiver.rows("SELECT attributes FROM spans WHERE trace_id = {id:String}", id=f"{trace:032x}")
    assert row["attributes"] == {"kept": "yes", "forged": "null"}


def _status(answer: httpx.Response) -> Status:
    assert answer.headers["content-type"] == PROTOBUF
    return Status.FromString(answer.content)


@pytest.mark.parametrize("body", [b"garbage", b"\x0a\xff\xff\xff\xff\x0f", b"{}"])
async def test_what_is_not_a_request_is_refused(receiver: Running, body: bytes) -> None:
    async with grpc_export(receiver.grpc_address) as export:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await export(body)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "not an ExportTraceServiceRequest" in (refused.value.details() or "")
    details = {str(key): value for key, value in refused.value.trailing_metadata() or ()}
    assert "google.rpc.retryinfo-bin" not in details
    async with httpx.AsyncClient() as http:
        answer = await http.post(receiver.traces_url, content=body, headers={"content-type": PROTOBUF})
    assert answer.status_code == 400
    assert "retry-after" not in answer.headers
    status = _status(answer)
    assert status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert "not an ExportTraceServiceRequest" in status.message
    bad = BadRequest()
    assert status.details[0].Unpack(bad)
    assert bad.field_violations[0].description
