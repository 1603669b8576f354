"""Tracestone beside the OpenTelemetry Collector, MLflow and Phoenix: the same spans, one after another, ratios printed.

    scripts/clients go peers && python bench/peers.py
    python bench/peers.py --only tracestone,collector

All are sent the requests of bench/payloads.py over gRPC, MLflow over HTTP because it has nothing else; each runs alone,
on loopback, on an empty folder. CPU is that of the process under test (user and system, with its children), from the
first request until everything is stored or passed on; for Tracestone the receiver's threads are also told apart, and
its receiver is run alone too, while nothing is loaded into ClickHouse.

- Tracestone is `tracestone up`: acknowledged on disk, stored, traces computed, queryable.
- The Collector takes OTLP, batches it and sends it over HTTP to a sink that throws it away: uncompressed, with gzip
  (its default), and with its persistent queue (synced, no batch processor), which is the nearest to what Tracestone's
  receiver does. "nop" is receiver and batch alone. It stores nothing.
- MLflow and Phoenix store in SQLite, their default, and in PostgreSQL (a private server, its CPU counted too). Phoenix
  acknowledges before it stores, so its stored rate counts.
"""

import argparse
import asyncio
import json
import os
import platform
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, cast

import asyncpg
import grpc
import httpx
import ingest
import numpy as np
import psutil
import uvloop
from payloads import SPANS_PER_TRACE, Template, template

from tracestone.schema.engines.embedded_postgres import EmbeddedPostgres

ROOT = Path(__file__).parents[1]
SERVING_SECONDS = 120
SETTLE_SECONDS = 30
PROTOBUF = {"content-type": "application/x-protobuf"}
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n"
Call = Callable[[bytes], Awaitable[bool]]


@dataclass
class Figures:
    """One peer's run. Rates in spans/s, CPU in µs a span; `stored` is None where nothing is stored."""

    name: str
    version: str
    acknowledged: float
    stored: float | None
    cpu: float
    kept: str
    receiver_cpu: float | None = None


def free_ports(count: int) -> list[int]:
    """Ports that are free now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def family_cpu(process: psutil.Process) -> float:
    """CPU seconds of a process and its children, ended ones included."""
    spent = 0.0
    for each in [process, *process.children(recursive=True)]:
        try:
            times = each.cpu_times()
        except psutil.NoSuchProcess:
            continue
        spent += times.user + times.system
    times = process.cpu_times()
    return spent + times.children_user + times.children_system


async def drive(call: Call, shape: Template, arguments: argparse.Namespace) -> tuple[int, int, float]:
    """Sends as fast as requests are taken; spans and bytes acknowledged, and seconds until the last answer."""
    rng = np.random.default_rng()
    began = time.perf_counter()
    spans = data = 0

    async def sender() -> None:
        nonlocal spans, data
        while time.perf_counter() < began + arguments.seconds:
            request = shape.stamp(rng, time.time_ns())
            while not await call(request):
                if time.perf_counter() > began + arguments.seconds + 30:
                    raise RuntimeError("a request was refused for half a minute")
                await asyncio.sleep(0.1)
            spans += shape.spans
            data += len(request)

    await asyncio.gather(*(sender() for _ in range(arguments.senders)))
    return spans, data, time.perf_counter() - began


@asynccontextmanager
async def over_grpc(port: int) -> AsyncIterator[Call]:
    """Export over gRPC."""
    options = [("grpc.max_send_message_length", 64 << 20), ("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        export = channel.unary_unary(ingest.EXPORT)

        async def call(request: bytes) -> bool:
            try:
                await export(request)
            except grpc.aio.AioRpcError as error:
                if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED):
                    raise
                return False
            return True

        yield call


@asynccontextmanager
async def over_http(url: str, headers: dict[str, str]) -> AsyncIterator[Call]:
    """Export over HTTP; what is refused is sent again, whatever the reason."""
    async with httpx.AsyncClient(timeout=120, headers={**PROTOBUF, **headers}) as client:

        async def call(request: bytes) -> bool:
            try:
                answer = await client.post(url, content=request)
            except httpx.TransportError:
                return False
            return answer.status_code == 200

        yield call


@asynccontextmanager
async def serving(command: list[Any], url: str, log: Path, **environment: str) -> AsyncIterator[psutil.Process]:
    """A server, ready to take requests at `url`."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(part) for part in command], stdout=out, stderr=out, env={**os.environ, **environment}, cwd=log.parent
        )
    try:
        async with httpx.AsyncClient(timeout=5) as client:
            end = time.perf_counter() + SERVING_SECONDS
            while True:
                if process.poll() is not None or time.perf_counter() > end:
                    raise RuntimeError(f"{command[0]} does not serve: {log.read_text()[-2000:]}")
                try:
                    await client.get(url)
                except httpx.TransportError:
                    await asyncio.sleep(0.1)
                else:
                    break
        yield psutil.Process(process.pid)
    finally:
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for child in children:
            if child.is_running():
                child.kill()


async def tracestone(arguments: argparse.Namespace, shape: Template, folder: Path) -> list[Figures]:
    """`tracestone up`, by bench/ingest.py: the whole way to rows, then the receiver alone while nothing is loaded."""
    same = ("span_bytes", "request_spans", "seconds", "senders")
    options = [f"--{name.replace('_', '-')}={getattr(arguments, name)}" for name in same]
    whole = await ingest.measure(ingest.command_line().parse_args([*options, "--no-probe"]), folder / "tracestone")
    if whole["lost"] or whole["doubled"]:
        raise RuntimeError(f"lost {whole['lost']}, doubled {whole['doubled']}")
    alone = await ingest.measure(ingest.command_line().parse_args([*options, "--receive-only"]), folder / "receiver")
    cpu = whole["receiver CPU us/span"] + whole["store CPU us/span"]
    rates = whole["spans/s acknowledged"], whole["spans/s until queryable"]
    return [
        Figures("Tracestone", "", *rates, cpu, "log on disk, ClickHouse", whole["receiver CPU us/span"]),
        Figures(
            "Tracestone, receiver alone", "", alone["spans/s acknowledged"], None,
            alone["receiver CPU us/span"], "log on disk",
        ),
    ]  # fmt: skip


class Sink(asyncio.Protocol):
    """HTTP that answers every request with an empty success and counts the bytes of bodies."""

    taken = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A connection begins."""
        self._transport = cast(asyncio.Transport, transport)
        self._head = b""
        self._missing = 0

    def data_received(self, data: bytes) -> None:
        """Part of a head or a body comes."""
        while data:
            if not self._missing:
                self._head += data
                head, end, data = self._head.partition(b"\r\n\r\n")
                if not end:
                    return
                self._head = b""
                fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
                self._missing = int(fields[b"content-length"])
                Sink.taken += self._missing
            part, data = data[: self._missing], data[self._missing :]
            self._missing -= len(part)
            if not self._missing:
                self._transport.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n"
                )


async def collector(arguments: argparse.Namespace, shape: Template, folder: Path) -> list[Figures]:
    """The OpenTelemetry Collector, several ways."""
    found = []
    loop = asyncio.get_running_loop()
    sink_port, *_ = free_ports(1)
    sink = await loop.create_server(Sink, "127.0.0.1", sink_port)
    to_sink = {"endpoint": f"http://127.0.0.1:{sink_port}", "sending_queue": {"block_on_overflow": True}}
    durable = {"storage": "file_storage", "queue_size": 100_000, "block_on_overflow": True}
    ways: dict[str, tuple[dict[str, Any], bool]] = {
        "Collector, otlphttp": ({"otlphttp": {**to_sink, "compression": "none"}}, True),
        "Collector, otlphttp gzip": ({"otlphttp": {**to_sink, "compression": "gzip"}}, True),
        "Collector, persistent queue": (
            {"otlphttp": {**to_sink, "compression": "none", "sending_queue": durable}},
            False,
        ),
        "Collector, nop": ({"nop": {}}, True),
    }
    program = arguments.cache / "bin/collector"
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]
    for name, (exporters, batch) in ways.items():
        port, http_port = free_ports(2)
        queue = folder / "queue"
        shutil.rmtree(queue, ignore_errors=True)
        queue.mkdir()
        protocols = {
            "grpc": {"endpoint": f"127.0.0.1:{port}", "max_recv_msg_size_mib": 64},
            "http": {"endpoint": f"127.0.0.1:{http_port}"},
        }
        config = {
            "receivers": {"otlp": {"protocols": protocols}},
            "processors": {"batch": {}},
            "exporters": exporters,
            "extensions": {"file_storage": {"directory": str(queue), "fsync": True}},
            "service": {
                "extensions": ["file_storage"],
                "telemetry": {"metrics": {"level": "none"}, "logs": {"level": "error"}},
                "pipelines": {
                    "traces": {
                        "receivers": ["otlp"],
                        "processors": ["batch"] if batch else [],
                        "exporters": list(exporters),
                    }
                },
            },
        }
        file = folder / "collector.json"
        file.write_text(json.dumps(config))
        Sink.taken = 0
        url = f"http://127.0.0.1:{http_port}/"
        async with serving([program, "--config", file], url, folder / "collector.log") as process:
            before = family_cpu(process)
            async with over_grpc(port) as call:
                spans, data, seconds = await drive(call, shape, arguments)
            await _quiet(process)
            spent = family_cpu(process) - before
        if name in ("Collector, otlphttp", "Collector, persistent queue") and not 0.97 < Sink.taken / data < 1.03:
            raise RuntimeError(f"{name}: {data} bytes were taken and {Sink.taken} arrived")
        kept = {"Collector, persistent queue": "queue on disk"}.get(name, "nothing")
        found.append(Figures(name, version, spans / seconds, None, spent / spans * 1e6, kept))
    sink.close()
    return found


async def _quiet(process: psutil.Process) -> None:
    """Returns when a process has used next to no CPU for a second."""
    end = time.perf_counter() + SETTLE_SECONDS
    while time.perf_counter() < end:
        before = family_cpu(process)
        await asyncio.sleep(1)
        if family_cpu(process) - before < 0.05:
            return
    raise RuntimeError("it did not come to rest")


@dataclass
class Database:
    """Where a peer stores: its URL, the spans in it, and the CPU seconds of its server."""

    name: str
    url: str
    count: Callable[[], Awaitable[int]]
    cpu: Callable[[], float]

    async def stored(self, wanted: int) -> tuple[int, float]:
        """Waits until so many spans are stored, at most SETTLE_SECONDS; how many, and when it was looked."""
        end = time.perf_counter() + SETTLE_SECONDS
        while True:
            found, now = await self.count(), time.perf_counter()
            if found >= wanted or now > end:
                return found, now
            await asyncio.sleep(0.25)


@asynccontextmanager
async def database(kind: str, home: Path) -> AsyncIterator[Database]:
    """An empty database: a SQLite file, or a private PostgreSQL as Tracestone has one."""
    if kind == "sqlite":
        file = home / "peer.db"

        def count() -> int:
            with sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=30) as connection:
                return int(connection.execute("SELECT count(*) FROM spans").fetchone()[0])

        yield Database("SQLite", f"sqlite:///{file}", lambda: asyncio.to_thread(count), lambda: 0.0)
        return
    server = EmbeddedPostgres(home / "postgres")
    url = await server.start()
    try:
        admin = await asyncpg.connect(url)
        await admin.execute("CREATE DATABASE peer")
        await admin.close()
        url = url.replace("/postgres?", "/peer?")
        postmaster = psutil.Process(int((home / "postgres/postmaster.pid").read_text().split()[0]))

        async def ask() -> int:
            connection = await asyncpg.connect(url)
            try:
                return int(await connection.fetchval("SELECT count(*) FROM spans"))
            finally:
                await connection.close()

        yield Database("PostgreSQL", url, ask, lambda: family_cpu(postmaster))
    finally:
        await server.stop()


async def _storing(
    name: str,
    version: str,
    way: Callable[[], Any],
    store: Database,
    process: psutil.Process,
    arguments: Any,
    shape: Any,
) -> Figures:
    """Sends to a peer that stores, and waits until it has."""
    await _warm(way())
    already, _ = await store.stored(SPANS_PER_TRACE)
    before = family_cpu(process) + store.cpu()
    began = time.perf_counter()
    async with way() as call:
        spans, _, seconds = await drive(call, shape, arguments)
    stored, when = await store.stored(already + spans)
    spent = family_cpu(process) + store.cpu() - before
    stored -= already
    kept = store.name if stored == spans else f"{store.name}; {spans - stored:,} acknowledged spans not yet"
    rate = stored / (when - began)
    return Figures(f"{name}, {store.name}", version, spans / seconds, rate, spent / max(stored, 1) * 1e6, kept)


def _version(program: Path, package: str) -> str:
    ask = f"from importlib.metadata import version; print(version('{package}'))"
    command = [program.with_name("python"), "-c", ask]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


async def mlflow(arguments: argparse.Namespace, shape: Template, folder: Path) -> list[Figures]:
    """`mlflow server`, over HTTP, into its default experiment."""
    program, found = arguments.cache / "mlflow/bin/mlflow", []
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    for kind in ("sqlite", "postgres"):
        home = folder / f"mlflow-{kind}"
        home.mkdir()
        async with database(kind, home) as store:
            (port,) = free_ports(1)
            command = [
                program, "server", "--backend-store-uri", store.url, "--default-artifact-root", home / "files",
                "--host", "127.0.0.1", "--port", port, "--workers", arguments.mlflow_workers,
            ]  # fmt: skip
            url = f"http://127.0.0.1:{port}"
            async with serving(command, f"{url}/health", home / "log", **quiet) as process:
                way = partial(over_http, f"{url}/v1/traces", {"x-mlflow-experiment-id": "0"})
                version = _version(program, "mlflow")
                found.append(await _storing("MLflow", version, way, store, process, arguments, shape))
    return found


async def phoenix(arguments: argparse.Namespace, shape: Template, folder: Path) -> list[Figures]:
    """`phoenix serve`, over gRPC."""
    program, found = arguments.cache / "phoenix/bin/phoenix", []
    for kind in ("sqlite", "postgres"):
        home = folder / f"phoenix-{kind}"
        home.mkdir()
        async with database(kind, home) as store:
            port, grpc_port = free_ports(2)
            settings = {
                "PHOENIX_WORKING_DIR": str(home), "PHOENIX_SQL_DATABASE_URL": store.url,
                "PHOENIX_HOST": "127.0.0.1", "PHOENIX_PORT": str(port), "PHOENIX_GRPC_PORT": str(grpc_port),
                "PHOENIX_TELEMETRY_ENABLED": "false", "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
                "PHOENIX_DISABLE_AGENT_ASSISTANT": "true", "DO_NOT_TRACK": "true",
            }  # fmt: skip
            url = f"http://127.0.0.1:{port}/healthz"
            async with serving([program, "serve"], url, home / "log", **settings) as process:
                version = _version(program, "arize-phoenix")
                way = partial(over_grpc, grpc_port)
                found.append(await _storing("Phoenix", version, way, store, process, arguments, shape))
    return found


async def _warm(way: Any) -> None:
    """One small request, until it is taken."""
    shape, rng = template(1000, 1), np.random.default_rng(1)
    async with way as call:
        end = time.perf_counter() + 30
        while not await call(shape.stamp(rng, time.time_ns())):
            if time.perf_counter() > end:
                raise RuntimeError("the first request is not taken")
            await asyncio.sleep(0.2)


def report(found: list[Figures]) -> None:
    """Prints the table and the ratios to Tracestone."""
    print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    print(f"{'':30} {'acknowledged/s':>14} {'stored/s':>10} {'CPU us/span':>12}  kept")
    for each in found:
        stored = f"{each.stored:10,.0f}" if each.stored is not None else f"{'':10}"
        print(f"{each.name + ' ' + each.version:30} {each.acknowledged:14,.0f} {stored} {each.cpu:12,.1f}  {each.kept}")
        if each.receiver_cpu is not None:
            print(f"{'  its receiver':30} {'':14} {'':10} {each.receiver_cpu:12,.1f}  log on disk")
    if len(found) < 2 or found[0].receiver_cpu is None:
        return
    ours, alone, *peers = found
    print()
    for each in peers:
        if each.stored is None:
            print(f"{each.name}: {each.cpu / alone.cpu:.1f} times the CPU a span of Tracestone's receiver alone")
        else:
            assert ours.stored is not None
            rate, share = ours.stored / max(each.stored, 1e-9), each.cpu / ours.cpu
            print(f"{each.name}: Tracestone stores {rate:,.0f} times the spans a second, at 1/{share:,.0f} of the CPU")


def main() -> None:
    """Parses the command line, runs, prints."""
    peers = {"tracestone": tracestone, "collector": collector, "mlflow": mlflow, "phoenix": phoenix}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--span-bytes", type=int, default=1000)
    parser.add_argument("--request-spans", type=int, default=512)
    parser.add_argument("--seconds", type=float, default=10, help="of sending, for each")
    parser.add_argument("--senders", type=int, default=8)
    parser.add_argument("--mlflow-workers", type=int, default=4, help="MLflow's own default is 4")
    parser.add_argument("--only", default=",".join(peers), help="of " + ", ".join(peers))
    arguments = parser.parse_args()
    wanted = arguments.only.split(",")
    parts = [part for part, names in (("go", ["collector"]), ("peers", ["mlflow", "phoenix"])) if {*names} & {*wanted}]
    if parts:
        built = subprocess.run([ROOT / "scripts/clients", *parts], stdout=subprocess.PIPE, text=True, check=True)
        arguments.cache = Path(built.stdout.splitlines()[-1])
    shape = template(arguments.span_bytes, max(1, arguments.request_spans // SPANS_PER_TRACE))
    found: list[Figures] = []
    folder = Path(tempfile.mkdtemp(prefix="tracestone-peers-"))
    folder.chmod(0o755)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            for name in wanted:
                print(f"{name} ...", file=sys.stderr)
                found += runner.run(peers[name](arguments, shape, folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    report(found)


if __name__ == "__main__":
    main()
