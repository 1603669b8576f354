"""Log records from a request to SQL: kept whole and typed, never refused for their ids, counted once."""

import base64
import json
import math
import secrets
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse

from support.running import Running
from support.signals import SECOND, START, log, logs_request, post
from support.telemetry import export_request, otlp_span

EXPORT = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"


@pytest.fixture
def service() -> str:
    """A service that no other test uses, and so an experiment of its own."""
    return f"logs-{secrets.token_hex(6)}"


async def _send(receiver: Running, request: ExportLogsServiceRequest) -> ExportLogsServiceResponse:
    return ExportLogsServiceResponse.FromString(await post(receiver, "logs", request.SerializeToString()))


async def _rows(receiver: Running, service: str) -> list[dict[str, Any]]:
    return await receiver.rows(
        "SELECT * FROM logs WHERE service_name = {name:String} ORDER BY time, body", name=service
    )


@pytest.mark.parametrize(
    ("body", "stored", "kind"),
    [
        (None, "", ""),
        ("", "", "string"),
        ('{"a": 1}', '{"a": 1}', "string"),
        (True, "true", "bool"),
        (-(2**63), str(-(2**63)), "int"),
        (2.0, "2.0", "float"),
        (1e15, "1000000000000000.0", "float"),
        (float("nan"), '"NaN"', "float"),
        (b"\x00\xff", "AP8=", "bytes"),
        ([], "[]", "json"),
        ({"n": None, "deep": [[1, {"x": b"\x01"}]]}, '{"n":null,"deep":[[1,{"x":"AQ=="}]]}', "json"),
    ],
)
async def test_a_body_is_kept_whole_and_typed(
    receiver: Running, service: str, body: Any, stored: str, kind: str
) -> None:
    assert await _send(receiver, logs_request(log(body), service=service)) == ExportLogsServiceResponse()
    (row,) = await _rows(receiver, service)
    assert (row["body"], row["body_type"]) == (stored, kind)


@pytest.mark.parametrize(
    ("trace_id", "span_id", "stored"),
    [
        (b"t" * 16, b"s" * 8, ("74" * 16, "73" * 8)),
        (b"t" * 16, b"", ("74" * 16, "")),
        (b"t" * 16, bytes(8), ("74" * 16, "")),
        (b"t" * 16, b"short", ("74" * 16, "")),
        (bytes(16), b"s" * 8, ("", "")),
        (b"t" * 15, b"s" * 8, ("", "")),
        (b"", b"", ("", "")),
    ],
)
async def test_invalid_ids_mean_no_span_and_refuse_nothing(
    receiver: Running, service: str, trace_id: bytes, span_id: bytes, stored: tuple[str, str]
) -> None:
    record = log("x")
    record.trace_id, record.span_id = trace_id, span_id
    assert await _send(receiver, logs_request(record, service=service)) == ExportLogsServiceResponse()
    (row,) = await _rows(receiver, service)
    assert (row["trace_id"], row["span_id"]) == stored


async def test_the_time_is_that_of_the_event_else_of_its_observation_else_of_receipt(
    receiver: Running, service: str
) -> None:
    far = (1 << 64) - 1
    records = [
        log("own", observed_time_unix_nano=START + SECOND),
        log("observed", at=0, observed_time_unix_nano=START + SECOND),
        log("none", at=0),
        log("far", at=far),
    ]
    await _send(receiver, logs_request(*records, service=service))
    rows = await receiver.rows(
        "SELECT body, toUnixTimestamp64Nano(time) AS time, toUnixTimestamp64Nano(received_at) AS received FROM logs"
        " WHERE service_name = {name:String}",
        name=service,
    )
    times = {row["body"]: row["time"] for row in rows}
    assert times == {
        "own": START,
        "observed": START + SECOND,
        "none": rows[0]["received"],
        "far": 9_223_286_400_000_000_000,
    }


async def test_an_event_is_named_by_its_field_or_by_an_attribute(receiver: Running, service: str) -> None:
    await _send(
        receiver,
        logs_request(
            log("1", event_name="new"),
            log("2", attributes={"event.name": "old"}),
            log("3", event_name="new", attributes={"event.name": "old"}),
            service=service,
        ),
    )
    assert [row["event_name"] for row in await _rows(receiver, service)] == ["new", "old", "new"]


async def test_a_record_sent_again_is_one_and_any_difference_makes_two(receiver: Running, service: str) -> None:
    base: dict[str, Any] = {"body": "a", "trace": 1, "span": 2, "attributes": {"k": "v"}}
    different = [
        {},
        {"at": START + 1},
        {"body": "b"},
        {"trace": 3},
        {"span": 3},
        {"attributes": {"k": "w"}},
        {"attributes": {"k": "v", "l": 0}},
        {"attributes": {"k": ["v"]}},
        {"severity_number": 9},
        {"event_name": "e"},
        {"flags": 1},
        {"observed_time_unix_nano": 7},
    ]
    records = [log(**{**base, **change}) for change in different]
    request = logs_request(*records, service=service)
    for _ in range(3):
        await _send(receiver, request)
    assert len(await _rows(receiver, service)) == len(different)
    await _send(receiver, logs_request(*records, service=service, scope="another"))
    assert len(await _rows(receiver, service)) == 2 * len(different)


async def test_a_record_without_a_time_sent_again_is_one(receiver: Running, service: str) -> None:
    for _ in range(2):
        await _send(receiver, logs_request(log("timeless", at=0), service=service))
    assert len(await _rows(receiver, service)) == 1
    (row,) = await receiver.rows(
        "SELECT count() AS n FROM log_rows WHERE service_name = {name:String} AND minute = toDateTime(0, 'UTC')",
        name=service,
    )
    assert row["n"] >= 1


async def test_text_that_is_not_utf8_costs_its_record_alone(receiver: Running, service: str) -> None:
    body = logs_request(log("good"), log("cut-here"), log({"deep": 1}), service=service).SerializeToString()
    answer = ExportLogsServiceResponse.FromString(
        await post(receiver, "logs", body.replace(b"cut-here", b"cut-her\xc3"))
    )
    assert answer.partial_success.rejected_log_records == 1
    assert answer.partial_success.error_message == (
        "1 invalid log record(s) left out; log record 2 of its scope: a text is not UTF-8"
    )
    assert [row["body"] for row in await _rows(receiver, service)] == ["good", '{"deep":1}']


async def test_a_large_request_is_gone_through_in_pieces(receiver: Running, service: str) -> None:
    records = [log("x" * 60_000, at=START + number) for number in range(25)]
    records[7].attributes.add(key="nested").value.CopyFrom(log({"a": [{}]}).body)
    assert await _send(receiver, logs_request(*records, service=service)) == ExportLogsServiceResponse()
    rows = await _rows(receiver, service)
    assert len(rows) == 25
    assert [row["attributes_json"] for row in rows if row["attributes_json"]] == [{"nested": '{"a":[{}]}'}]


async def test_what_is_not_a_logs_request_is_refused(receiver: Running) -> None:
    async with grpc.aio.insecure_channel(receiver.grpc_address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_unary(EXPORT)(b"garbage")
        assert await channel.unary_unary(EXPORT)(b"") == b""
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "not an ExportLogsServiceRequest" in (refused.value.details() or "")


async def test_the_experiment_is_chosen_as_for_spans(receiver: Running, service: str) -> None:
    await _send(receiver, logs_request(log("x"), service=service))
    experiment = await receiver.collector.experiments.by_name(service)
    assert experiment is not None
    (row,) = await _rows(receiver, service)
    assert row["experiment_id"] == experiment.experiment_id


async def test_logs_join_their_span_whichever_came_first(receiver: Running, service: str, trace: int) -> None:
    await _send(receiver, logs_request(log({"content": "before"}, trace, 1), service=service))
    await post(receiver, "traces", export_request(otlp_span(trace, 1, start_ns=START)).SerializeToString())
    await _send(receiver, logs_request(log({"content": "after"}, trace, 1, at=START + 1), service=service))
    rows = await receiver.rows(
        "SELECT s.name AS span, JSONExtractString(l.body, 'content') AS content FROM logs AS l"
        " INNER JOIN spans AS s ON s.trace_id = l.trace_id AND s.span_id = l.span_id"
        " WHERE l.trace_id = {id:String} ORDER BY l.time",
        id=f"{trace:032x}",
    )
    assert [(row["span"], row["content"]) for row in rows] == [("step", "before"), ("step", "after")]
    found = json.dumps(
        [event.body for event in await receiver.collector.logs.of_span(f"{trace:032X}", f"{1:016x}", 10)]
    )
    assert found == json.dumps(['{"content":"before"}', '{"content":"after"}'])


_SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(max_size=20)
_VALUES = st.recursive(
    _SCALARS | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(_VALUES, min_size=30, max_size=40))
async def test_any_value_comes_back_as_a_body_and_as_an_attribute(receiver: Running, values: list[Any]) -> None:
    trace = secrets.randbits(120) + 1
    records = [log(value, trace, at=START + number, attributes={"v": value}) for number, value in enumerate(values)]
    assert await _send(receiver, logs_request(*records)) == ExportLogsServiceResponse()
    rows = await receiver.rows("SELECT * FROM logs WHERE trace_id = {id:String} ORDER BY time", id=f"{trace:032x}")
    assert len(rows) == len(values)
    for value, row in zip(values, rows, strict=True):
        assert _same(_body(row), value), (value, row["body"], row["body_type"])
        assert _same(_attribute(row), value), (value, row)


def _body(row: dict[str, Any]) -> Any:
    if row["body_type"] == "":
        return None
    return row["body"] if row["body_type"] in ("string", "bytes") else json.loads(row["body"])


def _attribute(row: dict[str, Any]) -> Any:
    for kind in ("string", "int", "float", "bool"):
        for value in row[f"attributes_{kind}"].values():
            return value
    for text in row["attributes_json"].values():
        return json.loads(text)
    return row["attributes"]["v"]


def _same(found: Any, sent: Any) -> bool:
    """Whether what was read is what was sent, as JSON can say it."""
    if isinstance(sent, bytes):
        return bool(found == base64.b64encode(sent).decode())
    if isinstance(sent, float) and not math.isfinite(sent):
        quoted = "NaN" if math.isnan(sent) else "Infinity" if sent > 0 else "-Infinity"
        return found == quoted or (isinstance(found, float) and (found == sent or math.isnan(found)))
    if isinstance(sent, list):
        return len(found) == len(sent) and all(map(_same, found, sent))
    if isinstance(sent, dict):
        return found.keys() == sent.keys() and all(_same(found[key], sent[key]) for key in sent)
    return bool(found == sent) and type(found) is type(sent)
