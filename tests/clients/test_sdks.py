"""OpenTelemetry's JavaScript and Java SDKs with their own exporters, to rows, field by field.

Both send the story of `js/send.mjs` and `java/src/Send.java`. The runtimes and the SDKs are not among what the suite
installs, so these tests are slow; see docs/testing.md.
"""

import json
from typing import Any

import pytest

from support.clients import counted, eventually, send
from support.program import Program

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

START = 1_790_000_000_000_000_000
WAYS = [
    ("js", "grpc", "none"),
    ("js", "grpc", "gzip"),
    ("js", "proto", "none"),
    ("js", "proto", "gzip"),
    ("js", "json", "none"),
    ("js", "json", "gzip"),
    ("java", "grpc", "none"),
    ("java", "grpc", "gzip"),
    ("java", "proto", "none"),
    ("java", "proto", "gzip"),
]
ways = pytest.mark.parametrize(("language", "encoding", "compression"), WAYS, ids=["-".join(way) for way in WAYS])
# JavaScript has whole numbers up to 2**53 only.
MOST = {"js": (2**53 - 1, -(2**53) + 1), "java": (2**63 - 1, -(2**63))}


async def _rows(program: Program, columns: tuple[str, ...], rest: str) -> list[dict[str, Any]]:
    rows = await program.sql(f"SELECT {', '.join(columns)} {rest}")
    return [dict(zip(columns, row, strict=True)) for row in rows]


@ways
async def test_traces(program: Program, language: str, encoding: str, compression: str) -> None:
    made = await send(language, "traces", encoding, program, compression)
    service = f"{language} traces {encoding} {compression}"
    await counted(program, "spans", service, made["spans"])

    most, least = MOST[language]
    expected = {
        "trace_id": made["trace_id"],
        "parent_span_id": made["parent_span_id"],
        "name": "child",
        "kind": "CLIENT",
        "toUnixTimestamp64Nano(start_time)": START,
        "duration_ns": 1000,
        "status_code": "ERROR",
        "status_message": "it failed",
        "service_name": service,
        "environment": "test",
        "release": "1.2.3",
        "scope_name": "my.library",
        "scope_version": "4.5",
        "error_type": "TypeError",
        "attributes_string": {
            "string": "text",
            "string.empty": "",
            "string.unicode": 'é 日本 🙂 "quoted" \\ \n\t',
        },
        "attributes_text": {"string.long": "long " * 200},
        "attributes_int": {"int": 7, "int.most": most, "int.least": least},
        "attributes_float": {"float": 0.1, "float.tiny": 5e-324},
        "attributes_bool": {"bool.true": True, "bool.false": False},
        "events.name": ["happened", "exception"],
        "arrayMap(t -> toUnixTimestamp64Nano(t), events.time)": [START + 5, START + 9],
        "links.trace_id": ["ab" * 16],
        "links.span_id": ["cd" * 8],
    }
    texts = ("attributes_json", "resource_attributes", "events.attributes", "links.attributes", "schema_url")
    (row,) = await _rows(program, (*expected, *texts), f"FROM spans WHERE span_id = '{made['span_id']}'")
    assert {name: row[name] for name in expected} == expected
    assert {key: json.loads(value) for key, value in row["attributes_json"].items()} == {
        "strings": ["a", "", "c"],
        "ints": [1, 2],
        "floats": [1.5, 2.5],
        "bools": [True, False],
        "empty": [],
    }
    resource = json.loads(row["resource_attributes"])
    assert (resource["telemetry.sdk.language"], resource["replica"]) == ({"js": "nodejs"}.get(language, language), 3)
    happened, exception = map(json.loads, row["events.attributes"])
    assert happened == {"n": 1, "list": ["a", "b"], "ratio": 2.5}
    assert exception["exception.message"] == "no such order"
    assert json.loads(row["links.attributes"][0]) == {"why": "retry", "try": 2}
    assert row["schema_url"] == "https://example.org/schema"

    question = f"SELECT span_count, state, root_name, complete FROM traces WHERE trace_id = '{made['trace_id']}'"
    await eventually(program, question, [[made["spans"], "OK", "parent", True]])


@ways
async def test_logs(program: Program, language: str, encoding: str, compression: str) -> None:
    made = await send(language, "logs", encoding, program, compression)
    service = f"{language} logs {encoding} {compression}"
    await counted(program, "logs", service, made["logs"])

    common = {
        "trace_id": made["trace_id"],
        "span_id": made["span_id"],
        "service_name": service,
        "scope_name": "my.library",
        "scope_version": "4.5",
    }
    warning = {
        **common,
        "toUnixTimestamp64Nano(time)": START + 1,
        "severity_number": 13,
        "severity_text": "WARN",
        "event_name": "",
        "body": "careful",
        "body_type": "string",
        "attributes_string": {"string": "text"},
        "attributes_int": {"int": 7},
        "attributes_float": {"float": 0.5},
        "attributes_bool": {"bool": True},
    }
    event = {
        **common,
        "toUnixTimestamp64Nano(time)": START + 2,
        "severity_number": 0,
        "event_name": "gen_ai.client.inference.operation.details",
        "body_type": "json",
    }
    columns = tuple({**warning, **event}) + ("attributes_json", "resource_attributes")
    rest = f"FROM logs WHERE service_name = '{service}' AND trace_id != '' ORDER BY time"
    first, second = await _rows(program, columns, rest)
    assert {name: first[name] for name in warning} == warning
    assert {key: json.loads(value) for key, value in first["attributes_json"].items()} == {
        "strings": ["a", "b"],
        "nested": {"deep": [1, {"x": "y"}]},
    }
    assert json.loads(first["resource_attributes"])["replica"] == 3
    assert {name: second[name] for name in event} == event
    assert json.loads(second["body"]) == {"role": "user", "parts": [{"type": "text", "n": 1}]}
    lines = f"FROM logs WHERE service_name = '{service}' AND startsWith(body, 'line ') AND severity_number = 9"
    assert await program.sql(f"SELECT uniqExact(body), uniqExact(time) {lines}") == [[300, 300]]


@ways
async def test_metrics(program: Program, language: str, encoding: str, compression: str) -> None:
    made = await send(language, "metrics", encoding, program, compression)
    service = f"{language} metrics {encoding} {compression}"
    await counted(program, "metrics", service, made["points"])

    columns = ("name", "type", "unit", "description", "temporality", "is_monotonic", "attributes_string", "value")
    columns += ("value_int", "count", "sum", "min", "max", "bucket_bounds", "bucket_counts", "scale")
    columns += ("arraySum(positive_counts)", "scope_name", "toYear(time)")
    rest = f"FROM metrics WHERE service_name = '{service}' ORDER BY name, attributes_string['model']"
    rows = await _rows(program, columns, rest)
    assert {(row["scope_name"], row["temporality"] if row["type"] != "gauge" else "CUMULATIVE") for row in rows} == {
        ("my.library", "CUMULATIVE")
    }
    assert all(row["toYear(time)"] >= 2026 for row in rows)
    a, b, exponential, gauge, histogram, level = rows
    assert [(row["attributes_string"], row["value_int"]) for row in (a, b)] == [
        ({"model": "a"}, 3),
        ({"model": "b"}, 4),
    ]
    assert (a["name"], a["type"], a["unit"], a["description"]) == ("counter", "sum", "{call}", "Calls.")
    assert (a["is_monotonic"], level["is_monotonic"], level["value_int"], level["unit"]) == (True, False, -5, "By")
    assert (gauge["type"], gauge["value"], gauge["attributes_string"]) == ("gauge", 0.25, {"model": "a"})
    for row in (histogram, exponential):
        assert (row["count"], row["sum"], row["min"], row["max"], row["unit"]) == (4, 55.55, 0.05, 50, "s")
    assert (histogram["type"], histogram["description"]) == ("histogram", "Durations.")
    assert (histogram["bucket_bounds"], histogram["bucket_counts"]) == ([0.1, 1, 10], [1, 1, 1, 1])
    assert (exponential["type"], exponential["arraySum(positive_counts)"]) == ("exponential_histogram", 4)
    assert exponential["scale"] > 0
