"""Content of log records, from a request to the row of the span, MLflow's wire and the page."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from support.faulty_columnar import BreakingColumnar
from support.running import Running, running
from support.signals import START, log, logs_request, post
from support.telemetry import export_request, otlp_span
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool


def _logs() -> ExportLogsServiceRequest:
    answer = {"finish_reason": "stop", "message": {"role": "assistant", "content": "so it is"}}
    return logs_request(
        log({"content": "is it so?"}, 7, 1, event_name="gen_ai.user.message"),
        log(answer, 7, 1, at=START + 1, event_name="gen_ai.choice"),
    )


async def _send_span(receiver: Running) -> None:
    span = otlp_span(7, 1, start_ns=START, attributes={"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"})
    await post(receiver, "traces", export_request(span).SerializeToString())


async def _previews(receiver: Running) -> list[tuple[Any, ...]]:
    rows = await receiver.rows("SELECT input_preview, output_preview FROM traces")
    return [tuple(row.values()) for row in rows]


async def test_content_is_where_content_is(pool: Pool, columnar: Columnar, tmp_path: Path) -> None:
    async with running(pool, columnar, tmp_path) as receiver:
        await post(receiver, "logs", _logs().SerializeToString())
        await _send_span(receiver)
        assert await _previews(receiver) == [("is it so?", "so it is")]
        (row,) = await receiver.rows("SELECT finish_reasons, experiment_id FROM spans")
        assert row["finish_reasons"] == ["stop"]
        async with httpx.AsyncClient(base_url=receiver.url, follow_redirects=True) as http:
            got = await http.get(f"/api/3.0/mlflow/traces/batchGet?trace_ids=tr-{7:032x}")
            (span,) = got.json()["traces"][0]["spans"]
            told = {pair["key"]: str(pair["value"]) for pair in span["attributes"]}
            page = await http.get(f"/experiments/{row['experiment_id']}/traces/{7:032x}/spans/{1:016x}")
        assert "is it so?" in told["mlflow.spanInputs"]
        assert "so it is" in told["mlflow.spanOutputs"]
        assert page.status_code == 200
        assert "is it so?" in page.text
        assert "so it is" in page.text


async def test_a_restart_before_content_is_joined(
    pool: Pool, columnar: Columnar, chdb_url: str, tmp_path: Path
) -> None:
    """The logs are stored and their span cannot be written; the next process begins there."""
    breaking = BreakingColumnar(chdb_url, database=columnar.database)
    breaking.statement = "INSERT INTO spans_in"
    await breaking.open()
    try:
        async with running(pool, breaking, tmp_path) as receiver:
            await _send_span(receiver)
            assert await _previews(receiver) == [("", "")]
            await post(receiver, "logs", _logs().SerializeToString())
            while not await columnar.query("SELECT 1 FROM log_joins"):
                await asyncio.sleep(0.02)
    finally:
        await breaking.close()
    async with running(pool, columnar, tmp_path) as receiver:
        while await _previews(receiver) != [("is it so?", "so it is")]:
            await asyncio.sleep(0.1)
