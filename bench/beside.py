"""Tracestone beside MLflow on PostgreSQL: the same spans, what they take on the disk, and the same questions.

    scripts/clients mlflow && python bench/beside.py        as much as MLflow takes in ten minutes; 15 minutes
    python bench/beside.py --seconds 60

MLflow is sent bench/workload.py's requests over OTLP for so long and asked its questions; then a `tracestone up` is
sent the very same requests and asked the same. Each has the machine for itself, and 24 experiments, one for each
application. Questions are asked one after another through the door that a client takes: MLflow's REST API of both for a
whole trace, for the rest MLflow's searches and metrics, and SQL. Sizes are PostgreSQL's of MLflow's database (tables
and indexes, before and after a VACUUM FULL), and ClickHouse's of all its parts.
"""

import argparse
import asyncio
import itertools
import os
import platform
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import numpy as np
import peers
import workload
from ingest import Sql, free_ports, on_disk, start, wait_ready

SHAPES = 96
SEED = 3
DAYS = 2
SENDERS = 8
QUESTIONS = {
    "latest": "latest 50 traces of an experiment",
    "get": "a trace by its id, whole (traces/get)",
    "errors": "latest 50 traces with an error",
    "session": "latest 50 traces of a session",
    "attribute": "latest 50 traces by a span's attribute",
    "tokens": "tokens of an experiment, summed",
    "by_day": "traces and their median latency by day",
}
Ask = Callable[[], Awaitable[int]]


@dataclass
class Request:
    """One, as it is sent: whose spans it holds, and the ids of their traces."""

    number: int
    application: str
    data: bytes
    spans: int
    traces: list[str]


@dataclass
class Side:
    """What was seen of one of the two: spans a second, bytes by place, milliseconds and answers by question."""

    name: str
    stored: float = 0
    sizes: dict[str, int] = field(default_factory=dict)
    times: dict[str, list[float]] = field(default_factory=dict)
    answers: dict[str, list[int]] = field(default_factory=dict)


def requests(begin_ns: int, step_ns: int) -> Iterator[Request]:
    """The same every time: shapes, ids and texts follow from the seed."""
    rng = np.random.default_rng(SEED)
    shapes = workload.shapes(SHAPES)
    names = [re.search(rb"app-\d\d", shape.data.tobytes()).group().decode() for shape in shapes]  # type: ignore[union-attr]
    for number in itertools.count():
        picked = int(rng.integers(len(shapes)))
        data, ids, _ = shapes[picked].stamp(rng, begin_ns + number * step_ns)
        yield Request(number, names[picked], data, shapes[picked].spans, [bytes(each).hex() for each in ids])


async def send(call: Callable[[Request], Awaitable[bool]], made: Iterator[Request], until: float) -> list[Request]:
    """Sends as fast as they are taken until a time, or all; what was taken, without its bytes."""
    taken: list[Request] = []

    async def sender() -> None:
        for request in made:
            while not await call(request):
                await asyncio.sleep(0.2)
            request.data = b""
            taken.append(request)
            if time.perf_counter() > until:
                return

    await asyncio.gather(*(sender() for _ in range(SENDERS)))
    return sorted(taken, key=lambda request: request.number)


async def ask(side: Side, asks: dict[str, Ask], values: "Values", repeats: int) -> None:
    """Asks each question so often, the first time uncounted."""
    for name, question in asks.items():
        values.begin()
        await question()
        side.times[name], side.answers[name] = [], []
        for _ in range(repeats):
            began = time.perf_counter()
            side.answers[name].append(await question())
            side.times[name].append((time.perf_counter() - began) * 1e3)


class Values:
    """What is asked for, the same of both."""

    def __init__(self, sent: list[Request], begin_ns: int, step_ns: int) -> None:
        self._sent = sent
        self._days = sorted({(begin_ns + number * step_ns) // workload.DAY_NS % 100 for number in range(len(sent))})

    def begin(self) -> None:
        self._random = random.Random(11)

    def application(self) -> str:
        return self._random.choice(self._sent).application

    def trace(self) -> str:
        return self._random.choice(self._random.choice(self._sent).traces)

    def session(self) -> str:
        user = min(int(self._random.paretovariate(0.6)), workload.USERS - 1)
        return f"session-{user:06d}-{self._random.choice(self._days):02d}"

    def tenant(self) -> str:
        return f"tenant-{self._random.randrange(40):02d}"


async def mlflow(
    arguments: argparse.Namespace, folder: Path, begin_ns: int, step_ns: int
) -> tuple[Side, list[Request]]:
    """MLflow's part."""
    program, home = arguments.cache / "mlflow/bin/mlflow", folder / "mlflow"
    home.mkdir()
    (port,) = peers.free_ports(1)
    async with peers.database("postgres", home) as store:
        command = [
            program, "server", "--backend-store-uri", store.url, "--default-artifact-root", home / "files",
            "--host", "127.0.0.1", "--port", port, "--workers", arguments.mlflow_workers,
        ]  # fmt: skip
        url, quiet = f"http://127.0.0.1:{port}", {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
        async with (
            peers.serving(command, f"{url}/health", home / "log", **quiet),
            httpx.AsyncClient(base_url=url, timeout=300) as client,
        ):
            experiments = {}
            for name in map(workload.application, range(workload.APPLICATIONS)):
                made = await client.post("/api/2.0/mlflow/experiments/create", json={"name": name})
                experiments[name] = made.json()["experiment_id"]

            async def call(request: Request) -> bool:
                headers = {**peers.PROTOBUF, "x-mlflow-experiment-id": experiments[request.application]}
                with suppress(httpx.TransportError):
                    return (await client.post("/v1/traces", content=request.data, headers=headers)).status_code == 200
                return False

            side, began = Side(f"MLflow {peers._version(program, 'mlflow')}, PostgreSQL"), time.perf_counter()
            sent = await send(call, requests(begin_ns, step_ns), began + arguments.seconds)
            spans = sum(request.spans for request in sent)
            stored, when = await store.stored(spans)
            side.stored = stored / (when - began)
            print(f"MLflow: {stored:,} of {spans:,} spans stored in {when - began:.0f} s", file=sys.stderr)
            values = Values(sent, begin_ns, step_ns)
            await ask(side, _mlflow_asks(client, experiments, values), values, arguments.repeats)
            side.sizes = await _postgres_sizes(store.url, home / "files")
    return side, sent


def _mlflow_asks(client: httpx.AsyncClient, experiments: dict[str, str], values: Values) -> dict[str, Ask]:
    async def search(condition: str) -> int:
        place = {"mlflow_experiment": {"experiment_id": experiments[values.application()]}, "type": "MLFLOW_EXPERIMENT"}
        wanted = {"locations": [place], "max_results": 50, "order_by": ["timestamp_ms DESC"], "filter": condition}
        return len((await _json(client.post("/api/3.0/mlflow/traces/search", json=wanted))).get("traces", []))

    async def get() -> int:
        found = await client.get("/api/3.0/mlflow/traces/get", params={"trace_id": f"tr-{values.trace()}"})
        return len(found.raise_for_status().json()["trace"]["spans"])

    async def metric(name: str, aggregation: dict[str, Any], **more: Any) -> int:
        wanted = {
            "experiment_ids": [experiments[values.application()]], "view_type": "TRACES", "metric_name": name,
            "aggregations": [aggregation], **more,
        }  # fmt: skip
        points = (await _json(client.post("/api/3.0/mlflow/traces/metrics", json=wanted))).get("data_points", [])
        return int(sum(value for point in points for value in point["values"].values())) if points else 0

    async def by_day() -> int:
        median = {"aggregation_type": "PERCENTILE", "percentile_value": 50}
        span = {"start_time_ms": 0, "end_time_ms": time.time_ns() // 10**6, "time_interval_seconds": 86400}
        return await metric("latency", median, **span)

    return {
        "latest": lambda: search(""),
        "get": get,
        "errors": lambda: search("trace.status = 'ERROR'"),
        "session": lambda: search(f"metadata.`mlflow.trace.session` = '{values.session()}'"),
        # of an attribute it finds nothing with `=`
        "attribute": lambda: search(f"span.attributes.app.tenant LIKE '%{values.tenant()}%'"),
        "tokens": lambda: metric("total_tokens", {"aggregation_type": "SUM"}),
        "by_day": by_day,
    }


async def _json(answer: Awaitable[httpx.Response]) -> dict[str, Any]:
    found = await answer
    if found.is_error:
        raise RuntimeError(f"{found.request.url}: {found.status_code} {found.text[:500]}")
    read: dict[str, Any] = found.json()
    return read


async def _postgres_sizes(url: str, files: Path) -> dict[str, int]:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("CHECKPOINT")
        size = "SELECT pg_database_size(current_database())"
        sizes = {"database": await connection.fetchval(size), "files": on_disk(files)}
        rows = await connection.fetch(
            "SELECT relname, pg_table_size(oid) AS held, pg_indexes_size(oid) AS indexes FROM pg_class"
            " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
            " ORDER BY pg_total_relation_size(oid) DESC LIMIT 4"
        )
        for row in rows:
            sizes |= {row["relname"]: row["held"], f"indexes of {row['relname']}": row["indexes"]}
        await connection.execute("VACUUM FULL", timeout=600)
        sizes["database after VACUUM FULL"] = await connection.fetchval(size)
    finally:
        await connection.close()
    return sizes


async def tracestone(arguments: argparse.Namespace, folder: Path, begin_ns: int, step_ns: int, count: int) -> Side:
    """Ours, with so many of the same requests."""
    ports = free_ports()
    process = start(ports, folder / "tracestone")
    try:
        await asyncio.to_thread(wait_ready, process)
        sql = Sql(ports.sql)
        async with (
            peers.over_grpc(ports.grpc) as export,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{ports.main}", timeout=60) as client,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{ports.sql}", timeout=60) as asking,
        ):
            made, began = itertools.islice(requests(begin_ns, step_ns), count), time.perf_counter()
            sent = await send(lambda request: export(request.data), made, began + 3600)
            spans, there = sum(request.spans for request in sent), 0
            while there < spans:
                there = int((await asyncio.to_thread(sql.ask, "SELECT sum(span_count) FROM traces"))[0][0] or 0)
                await asyncio.sleep(0.25)
            side = Side("Tracestone", stored=there / (time.perf_counter() - began))
            await _at_rest(sql)
            rows = await asyncio.to_thread(sql.ask, "SELECT name, experiment_id FROM experiments")
            experiments = {name: int(number) for name, number in rows}
            values = Values(sent, begin_ns, step_ns)
            await ask(side, _our_asks(client, asking, experiments, values), values, arguments.repeats)
            rows = await asyncio.to_thread(
                sql.ask,
                "SELECT table, sum(bytes_on_disk) FROM system.parts WHERE active AND database = 'tracestone'"
                " GROUP BY table ORDER BY 2 DESC",
            )
            held = {table: int(size) for table, size in rows}
            side.sizes = {"database": sum(held.values()), **dict(list(held.items())[:3])}
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 60)
    return side


def _our_asks(
    client: httpx.AsyncClient, asking: httpx.AsyncClient, experiments: dict[str, int], values: Values
) -> dict[str, Ask]:
    async def rows(statement: str) -> list[list[Any]]:
        answer = await _json(asking.post("/", content=f"{statement} FORMAT JSONCompact"))
        found: list[list[Any]] = answer["data"]
        return found

    async def search(condition: str) -> int:
        experiment = experiments[values.application()]
        return len(
            await rows(
                "SELECT trace_id, root_name, start_time, duration_ns, state, total_tokens, tags, input_preview,"
                f" output_preview FROM traces WHERE experiment_id = {experiment}"
                f" {condition.replace('EXPERIMENT', str(experiment))} ORDER BY start_time DESC LIMIT 50"
            )
        )

    def by_attribute() -> Awaitable[int]:
        return search(
            "AND trace_id IN (SELECT trace_id FROM spans WHERE experiment_id = EXPERIMENT"
            f" AND attributes_string['app.tenant'] = '{values.tenant()}')"
        )

    async def get() -> int:
        found = await client.get("/api/3.0/mlflow/traces/get", params={"trace_id": f"tr-{values.trace()}"})
        return len(found.raise_for_status().json()["trace"]["spans"])

    async def tokens() -> int:
        experiment = experiments[values.application()]
        return int((await rows(f"SELECT sum(total_tokens) FROM traces WHERE experiment_id = {experiment}"))[0][0])

    async def by_day() -> int:
        found = await rows(
            "SELECT toDate(start_time) AS day, count(), quantile(0.5)(duration_ns) FROM traces"
            f" WHERE experiment_id = {experiments[values.application()]} GROUP BY day"
        )
        return int(sum(row[2] for row in found) / 1e6)

    return {
        "latest": lambda: search(""),
        "get": get,
        "errors": lambda: search("AND state = 'ERROR'"),
        "session": lambda: search(f"AND session_id = '{values.session()}'"),
        "attribute": by_attribute,
        "tokens": tokens,
        "by_day": by_day,
    }


async def _at_rest(sql: Sql) -> None:
    quiet = 0
    while quiet < 6:
        await asyncio.sleep(1)
        rows = await asyncio.to_thread(sql.ask, "SELECT count() FROM system.merges")
        quiet = 0 if int(rows[0][0]) else quiet + 1


def report(sides: list[Side], sent: list[Request]) -> None:
    """Prints both side by side."""
    spans, traces = sum(request.spans for request in sent), sum(len(request.traces) for request in sent)
    print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"{spans:,} spans in {traces:,} traces\n")
    for side in sides:
        print(f"{side.name}: {side.stored:,.0f} spans/s stored")
        for name, size in side.sizes.items():
            print(f"  {name:40} {size / 1e6:10,.1f} MB {size / spans:10,.1f} bytes a span")
    theirs, ours = sides
    print(f"\n{'':42} {theirs.name:>40} {ours.name:>40}")
    for name, title in QUESTIONS.items():
        cells = []
        for side in sides:
            p50, p99 = np.percentile(side.times[name], [50, 99])
            cells.append(f"{p50:8,.0f} / {p99:8,.0f} ms  ({sum(side.answers[name]):13,})")
        print(f"{title:42} {cells[0]:>40} {cells[1]:>40}")
    ratio = (theirs.sizes["database"] + theirs.sizes["files"]) / ours.sizes["database"]
    print(f"\np50 / p99 (answers added up). Bytes a span: Tracestone 1/{ratio:.1f} of MLflow's.")


async def run(arguments: argparse.Namespace, folder: Path) -> None:
    """One after the other."""
    end_ns, step_ns = time.time_ns(), int(DAYS * workload.DAY_NS / (arguments.seconds * 5))
    begin_ns = end_ns - DAYS * workload.DAY_NS
    theirs, sent = await mlflow(arguments, folder, begin_ns, step_ns)
    ours = await tracestone(arguments, folder, begin_ns, step_ns, len(sent))
    report([theirs, ours], sent)


def main() -> None:
    """Parses the command line and runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600, help="for which MLflow is sent spans")
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--mlflow-workers", type=int, default=4, help="MLflow's own default is 4")
    arguments = parser.parse_args()
    built = subprocess.run([peers.ROOT / "scripts/clients", "mlflow"], stdout=subprocess.PIPE, text=True, check=True)
    arguments.cache = Path(built.stdout.splitlines()[-1])
    folder = Path(tempfile.mkdtemp(prefix="tracestone-beside-"))
    folder.chmod(0o755)
    try:
        asyncio.run(run(arguments, folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
