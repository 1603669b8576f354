"""OpenTelemetry's JavaScript and Java SDKs with their own exporters, to rows, field by field.

Both send the story of `js/send.mjs` and `java/src/Send.java`. The runtimes and the SDKs are not among what the suite
installs, so these tests are slow; see docs/testing.md.
"""

import json
from typing import Any

import pytest

from support.clients import counted, send
from support.program import Program

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

START = 1_790_000_000_000_000_000
WAYS = [
    ("js", "grpc", "none"),
    ("js", "grpc", "gzip"),
    ("js", "proto", "none"),
    ("js", "proto", "gzip"),
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

    trace = {"span_count": made["spans"], "state": "OK", "root_name": "parent", "complete": True}
    assert await _rows(program, tuple(trace), f"FROM traces WHERE trace_id = '{made['trace_id']}'") == [trace]
