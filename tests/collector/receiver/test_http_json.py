"""OTLP's JSON form over HTTP: from the body to SQL, and every answer in JSON too."""

import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from support.running import Running

JSON = "application/json"
START = 1_790_000_000_000_000_001


@pytest_asyncio.fixture
async def http(receiver: Running) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the OTLP port that sends JSON."""
    base = receiver.traces_url.removesuffix("/v1/traces")
    async with httpx.AsyncClient(base_url=base, headers={"content-type": JSON}) as client:
        yield client


def _span(trace: int, number: int, **fields: Any) -> dict[str, Any]:
    ids = {"traceId": f"{trace:032x}", "spanId": f"{number:016x}"}
    return {**ids, "name": "step", "startTimeUnixNano": str(START), "endTimeUnixNano": START + 5, **fields}


def _request(*spans: dict[str, Any]) -> dict[str, Any]:
    attributes = [{"key": "service.name", "value": {"stringValue": "agent"}}]
    return {"resourceSpans": [{"resource": {"attributes": attributes}, "scopeSpans": [{"spans": spans}]}]}


async def _rows(receiver: Running, trace: int) -> list[dict[str, Any]]:
    return await receiver.rows("SELECT * FROM spans WHERE trace_id = {id:String} ORDER BY span_id", id=f"{trace:032x}")


def _status(answer: httpx.Response, code: int) -> dict[str, Any]:
    assert (answer.status_code, answer.headers["content-type"]) == (code, JSON), answer.content
    found: dict[str, Any] = answer.json()
    assert found["message"]
    return found


@pytest.mark.parametrize("media_type", [JSON, "application/json; charset=utf-8", "Application/JSON"])
async def test_a_span_with_everything(http: httpx.AsyncClient, receiver: Running, trace: int, media_type: str) -> None:
    values = {
        "text": {"stringValue": "é日🙂 \u0000"},
        "empty": {"stringValue": ""},
        "int": {"intValue": "9223372036854775807"},
        "small": {"intValue": -9223372036854775808},
        "zero": {"intValue": 0},
        "float": {"doubleValue": 0.5},
        "no": {"boolValue": False},
        "bytes": {"bytesValue": "AP8="},
        "nothing": {},
        "list": {"arrayValue": {"values": [{"stringValue": "a"}, {"intValue": "1"}, {}]}},
        "map": {"kvlistValue": {"values": [{"key": "k", "value": {"doubleValue": "NaN"}}]}},
    }
    span = _span(
        trace,
        1,
        parentSpanId=f"{9:016X}",
        kind=3,
        status={"code": 2, "message": "broken"},
        attributes=[{"key": key, "value": value} for key, value in values.items()],
        events=[{"name": "happened", "timeUnixNano": str(START + 1), "unknownYet": [1, {"a": None}]}],
        links=[{"traceId": f"{trace:032X}", "spanId": f"{7:016x}"}],
        droppedAttributesCount=4,
        flags=257,
    )
    answer = await http.post("/v1/traces", json=_request(span), headers={"content-type": media_type})
    assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, JSON, b"{}")
    (row,) = await _rows(receiver, trace)
    assert (row["parent_span_id"], row["kind"], row["status_code"]) == (f"{9:016x}", "CLIENT", "ERROR")
    assert (row["status_message"], row["duration_ns"], row["dropped_attributes_count"]) == ("broken", 5, 4)
    assert row["attributes_string"] == {"text": "é日🙂 \x00", "empty": ""}
    assert row["attributes_int"] == {"int": 2**63 - 1, "small": -(2**63), "zero": 0}
    assert (row["attributes_float"], row["attributes_bool"]) == ({"float": 0.5}, {"no": False})
    assert row["attributes_json"] == {"nothing": "null", "list": '["a",1,null]', "map": '{"k":"NaN"}'}
    assert row["events"][0]["name"] == "happened"
    assert row["links"][0]["trace_id"] == f"{trace:032x}"


@pytest.mark.parametrize("body", [b"", b"{}", b'{"resourceSpans":[]}'])
async def test_nothing_to_take(http: httpx.AsyncClient, body: bytes) -> None:
    answer = await http.post("/v1/traces", content=body)
    assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, JSON, b"{}")


async def test_a_bad_span_costs_no_good_one(http: httpx.AsyncClient, receiver: Running, trace: int) -> None:
    """Ids that are no hex, ids of another length and texts that are not UTF-8 count together."""
    bad = [_span(trace, 7, traceId="not hex"), _span(trace, 8, spanId=""), _span(trace, 9, name="cut \ud83d")]
    answer = await http.post("/v1/traces", content=json.dumps(_request(_span(trace, 1), *bad, _span(trace, 2))))
    assert (answer.status_code, answer.headers["content-type"]) == (200, JSON)
    partial = answer.json()["partialSuccess"]
    assert partial["rejectedSpans"] == "3"
    assert "3 invalid span(s) left out; spans[1].traceId: must be 32 hexadecimal digits" in partial["errorMessage"]
    assert [row["span_id"] for row in await _rows(receiver, trace)] == [f"{1:016x}", f"{2:016x}"]


async def test_attributes_as_an_object_are_told_apart(http: httpx.AsyncClient, trace: int) -> None:
    body = _request(_span(trace, 1), _span(trace, 2, attributes={"model": "gpt"}))
    found = _status(await http.post("/v1/traces", json=body), 400)
    place = "resourceSpans[0].scopeSpans[0].spans[1].attributes"
    assert found["code"] == 3
    assert found["message"].startswith(f"{place}: must be an array of")
    (detail,) = found["details"]
    assert detail["@type"] == "type.googleapis.com/google.rpc.BadRequest"
    assert detail["fieldViolations"][0]["field"] == place


@pytest.mark.parametrize(
    "body",
    [b"{", b"\x0a\x00", b"[" * 100_000, b'{"resourceSpans":' + b"9" * 5000 + b"}", b'{"resourceSpans":"\xff"}'],
    ids=["cut", "protobuf", "deep", "digits", "not UTF-8"],
)
async def test_what_is_no_request(http: httpx.AsyncClient, body: bytes) -> None:
    _status(await http.post("/v1/traces", content=body), 400)


async def test_refusals_are_in_json(http: httpx.AsyncClient, receiver: Running, trace: int) -> None:
    limit = receiver.collector._settings.max_request_bytes
    _status(await http.post("/v1/traces", content=b" " * (limit + 1)), 413)
    bomb = gzip.compress(b" " * (limit + 1))
    _status(await http.post("/v1/traces", content=bomb, headers={"content-encoding": "gzip"}), 413)
    _status(await http.post("/v1/traces", content=b"{}", headers={"content-encoding": "br"}), 400)
    found = _status(await http.get("/v1/traces", headers={"content-type": JSON}), 405)
    assert "POST" in found["message"]
    assert "/v1/traces" in _status(await http.post("/", content=b"{}"), 404)["message"]
    body = _request(_span(trace, 1))
    experiment = {"x-mlflow-experiment-id": "987654"}
    assert "987654" in _status(await http.post("/v1/traces", json=body, headers=experiment), 400)["message"]


async def test_a_large_request(http: httpx.AsyncClient, receiver: Running, trace: int) -> None:
    """Converted on a thread."""
    spans = [
        _span(trace, number, attributes=[{"key": "n", "value": {"intValue": number}}]) for number in range(1, 2001)
    ]
    answer = await http.post("/v1/traces", json=_request(*spans))
    assert (answer.status_code, answer.content) == (200, b"{}")
    rows = await _rows(receiver, trace)
    assert [row["attributes_int"]["n"] for row in rows] == list(range(1, 2001))


async def test_json_in_gzip_on_the_main_port(receiver: Running, trace: int) -> None:
    body = gzip.compress(json.dumps(_request(_span(trace, 1))).encode())
    headers = {"content-type": JSON, "content-encoding": "gzip"}
    async with httpx.AsyncClient() as http:
        answer = await http.post(f"{receiver.url}/v1/traces", content=body, headers=headers)
    assert (answer.status_code, answer.content) == (200, b"{}")
    assert len(await _rows(receiver, trace)) == 1


def _of(service: str) -> dict[str, Any]:
    return {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}


async def test_log_records(http: httpx.AsyncClient, receiver: Running, trace: int) -> None:
    service = f"logs-in-json-{trace}"
    records = [
        {
            "timeUnixNano": str(START),
            "severityNumber": 9,
            "severityText": "INFO",
            "eventName": "gen_ai.client.inference.operation.details",
            "traceId": f"{trace:032X}",
            "spanId": f"{1:016x}",
            "body": {"kvlistValue": {"values": [{"key": "raw", "value": {"bytesValue": "AP8="}}]}},
            "attributes": [{"key": "n", "value": {"intValue": "9223372036854775807"}}],
        },
        {"observedTimeUnixNano": START, "traceId": "none", "body": {"stringValue": "of no trace"}},
        {"body": {"stringValue": "cut \ud83d"}},
    ]
    body = {"resourceLogs": [{"resource": _of(service), "scopeLogs": [{"logRecords": records}]}]}
    answer = await http.post("/v1/logs", content=json.dumps(body))
    assert (answer.status_code, answer.headers["content-type"]) == (200, JSON)
    assert answer.json()["partialSuccess"]["rejectedLogRecords"] == "1"
    whole, loose = await receiver.rows(
        "SELECT * FROM logs WHERE service_name = {name:String} ORDER BY trace_id DESC", name=service
    )
    assert (whole["trace_id"], whole["span_id"]) == (f"{trace:032x}", f"{1:016x}")
    assert (whole["body"], whole["body_type"]) == ('{"raw":"AP8="}', "json")
    assert (whole["event_name"], whole["severity_text"]) == ("gen_ai.client.inference.operation.details", "INFO")
    assert whole["attributes_int"] == {"n": 2**63 - 1}
    assert (loose["trace_id"], loose["body"]) == ("", "of no trace")
    assert _status(await http.post("/v1/logs", content=b'{"resourceLogs":{}}'), 400)["code"] == 3


async def test_metrics(http: httpx.AsyncClient, receiver: Running, trace: int) -> None:
    service = f"metrics-in-json-{trace}"
    time = {"timeUnixNano": str(START)}
    histogram = {**time, "count": "3", "sum": 0, "bucketCounts": ["1", 2], "explicitBounds": [0.5], "max": 7}
    points = {
        "gauge": {"dataPoints": [{**time, "asDouble": "NaN"}, {**time, "asInt": "x"}]},
        "sum": {"dataPoints": [{**time, "asInt": "-5"}], "aggregationTemporality": 2, "isMonotonic": True},
        "histogram": {"dataPoints": [histogram], "aggregationTemporality": "AGGREGATION_TEMPORALITY_DELTA"},
    }

    def body() -> str:
        metrics = [{"name": f"of {kind}", kind: data} for kind, data in points.items()]
        return json.dumps({"resourceMetrics": [{"resource": _of(service), "scopeMetrics": [{"metrics": metrics}]}]})

    refused = _status(await http.post("/v1/metrics", content=body()), 400)
    assert refused["message"].startswith("resourceMetrics[0].scopeMetrics[0].metrics[0].gauge.dataPoints[1].asInt: ")
    points["gauge"]["dataPoints"][1] = {**time, "asInt": 1, "attributes": [{"key": "cut \ud83d"}]}
    answer = await http.post("/v1/metrics", content=body())
    assert answer.json()["partialSuccess"]["rejectedDataPoints"] == "1"
    gauge, histogram_row, total = await receiver.rows(
        "SELECT name, toString(value) AS value, count, sum, min, max, bucket_counts, bucket_bounds, temporality,"
        " is_monotonic FROM metrics WHERE service_name = {name:String} ORDER BY name",
        name=service,
    )
    assert (gauge["name"], gauge["value"]) == ("of gauge", "nan")
    assert (total["value"], total["temporality"], total["is_monotonic"]) == ("-5", "CUMULATIVE", True)
    assert (histogram_row["count"], histogram_row["sum"], histogram_row["max"]) == (3, 0.0, 7.0)
    assert (histogram_row["min"], histogram_row["temporality"]) == (None, "DELTA")
    assert (histogram_row["bucket_counts"], histogram_row["bucket_bounds"]) == ([1, 2], [0.5])


async def test_an_answer_is_short_whatever_the_request(http: httpx.AsyncClient, trace: int) -> None:
    long = "x" * 100_000
    answers = [
        await http.post(
            "/v1/traces", json=_request(_span(trace, 1, traceId=long), _span(trace, 2, name=long, spanId=""))
        ),
        await http.post("/v1/traces", json=_request(_span(trace, 1, startTimeUnixNano=long))),
        await http.post("/v1/traces", json=_request(_span(trace, 1)), headers={"x-mlflow-experiment-id": "9" * 9000}),
        await http.post("/v1/traces", json={}, headers={"content-encoding": "z" * 9000}),
        await http.post("/v1/" + "traces" * 1000, json={}),
    ]
    assert [answer.status_code for answer in answers] == [200, 400, 400, 400, 404]
    assert all(20 < len(answer.content) < 1000 for answer in answers)
