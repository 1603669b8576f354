"""Attributes of 10 MB: received, merged, read back byte for byte; what lists and lays out traces never reads them."""

import hashlib
import json
import random
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest_asyncio
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from support.running import Running, running
from support.telemetry import MS, export_request, otlp_span
from tracestone.schema import clock
from tracestone.schema.engines.columnar import Columnar, Row, Settings
from tracestone.schema.engines.postgres import Pool

HUGE = 10_000_000
COUNT = 4
SMALL = 300
LIST_BYTES = 1_000_000
API = "/api/3.0/mlflow/traces"


class FrugalColumnar(Columnar):
    """The real engine, which refuses a query that reads more than `most_bytes`, uncompressed, when that is set."""

    most_bytes = 0

    async def query(
        self, sql: str, parameters: Mapping[str, Any] | None = None, settings: Settings | None = None
    ) -> list[Row]:
        """Rows, or raises StatementFailed."""
        return await super().query(sql, parameters, {**(settings or {}), "max_bytes_to_read": self.most_bytes})


@pytest_asyncio.fixture
async def frugal(columnar: Columnar) -> AsyncIterator[FrugalColumnar]:
    """The engine on the test's database."""
    made = FrugalColumnar(columnar.url, database=columnar.database)
    await made.open()
    yield made
    await made.close()


def _text(number: int) -> str:
    """10 MB that hardly compress."""
    return random.Random(number).randbytes(HUGE // 2).hex()


def _messages(content: str) -> str:
    return json.dumps([{"role": "user", "parts": [{"type": "text", "content": content}]}])


def _huge(number: int, start_ns: int) -> list[Span]:
    """A trace whose root's messages and whose tool's result are huge, and a call beside them."""
    asked, found = _messages(_text(number)), _text(100 + number)
    return [
        otlp_span(number, 1, start_ns=start_ns, name="answer", attributes={"gen_ai.input.messages": asked}),
        otlp_span(number, 2, 1, start_ns=start_ns + MS, name="look up", attributes={"gen_ai.tool.call.result": found}),
        otlp_span(number, 3, 1, start_ns=start_ns + 2 * MS, name="chat", attributes={"session.id": f"talk {number}"}),
    ]


async def test_huge_attributes_are_merged_and_never_read_by_what_lists(
    pool: Pool, frugal: FrugalColumnar, tmp_path: Path
) -> None:
    start_ns = clock.now_ns() - 60_000 * MS
    async with (
        running(pool, frugal, tmp_path, read_wait_ms=60_000) as here,
        httpx.AsyncClient(base_url=here.url, timeout=60, follow_redirects=True) as http,
    ):
        small = [
            otlp_span(
                1000 + number, 1, start_ns=start_ns - 1000 * MS, name="small", attributes={"input.value": "hello"}
            )
            for number in range(SMALL)
        ]
        await _send(http, here, *small)
        for _ in range(2):  # again, so that merges meet each span twice
            for number in range(1, COUNT + 1):
                await _send(http, here, *_huge(number, start_ns))

        await _read_back(http, here)
        await _list(http, here, frugal)
        await frugal.command("OPTIMIZE TABLE span_rows FINAL")
        (merged,) = await here.rows("SELECT count() AS n FROM span_rows")
        assert merged["n"] == SMALL + COUNT * 3
        await _read_back(http, here)
        await _list(http, here, frugal)


async def _send(http: httpx.AsyncClient, here: Running, *spans: Span) -> None:
    body = export_request(*spans, service="reader").SerializeToString()
    answer = await http.post(here.traces_url, content=body, headers={"content-type": "application/x-protobuf"})
    assert (answer.status_code, answer.content) == (200, b""), answer.text


async def _read_back(http: httpx.AsyncClient, here: Running) -> None:
    """Each as it was sent: by its digest in SQL, one by MLflow's API."""
    rows = await here.rows(
        "SELECT trace_id, name, lower(hex(SHA256(attributes_text['gen_ai.input.messages']))) AS asked,"
        " lower(hex(SHA256(attributes_text['gen_ai.tool.call.result']))) AS result"
        " FROM spans WHERE service_name = 'reader' AND name IN ('answer', 'look up')"
    )
    assert len(rows) == 2 * COUNT
    for row in rows:
        number = int(row["trace_id"], 16)
        if row["name"] == "answer":
            assert row["asked"] == hashlib.sha256(_messages(_text(number)).encode()).hexdigest()
        else:
            assert row["result"] == hashlib.sha256(_text(100 + number).encode()).hexdigest()
    answer = await http.get(f"{API}/get", params={"trace_id": f"tr-{1:032x}"})
    assert answer.status_code == 200
    assert _text(101) in answer.text and len(answer.json()["trace"]["spans"]) == 3


async def _list(http: httpx.AsyncClient, here: Running, frugal: FrugalColumnar) -> None:
    """Everything that lists them or lays them out, with a bound on what is read; then a payload on demand."""
    page = await http.get(f"/traces/{1:032x}")
    assert page.status_code == 200 and len(page.content) < 100_000
    trace = page.url.path
    experiment = trace.partition("/traces/")[0]
    frugal.most_bytes = LIST_BYTES
    try:
        refused = await http.get(f"{trace}/spans/{2:016x}?part=detail")
        assert refused.status_code == 500, "the bound bounds nothing"
        for path, shown in (
            ("/", "reader"),
            (experiment, f"{1:032x}"),
            (f"{experiment}/sessions", "talk 1"),
            (f"{experiment}/session?id=talk%201", "answer"),
            (f"{trace}?from=0&part=rows", "look up"),
        ):
            answer = await http.get(path)
            assert answer.status_code == 200, (path, answer.text[:500])
            assert shown in answer.text and len(answer.content) < 100_000, path
        ids = [f"tr-{number:032x}" for number in range(1, COUNT + 1)]
        answer = await http.post(f"{API}/batchGetInfos", json={"trace_ids": ids})
        assert answer.status_code == 200 and len(answer.json()["trace_infos"]) == COUNT, answer.text[:500]
        assert len(answer.content) < 100_000
    finally:
        frugal.most_bytes = 0
    pane = await http.get(f"{trace}/spans/{2:016x}?part=detail")
    assert pane.status_code == 200 and _text(101)[:1000] in pane.text and len(pane.content) < 100_000
