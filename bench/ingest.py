"""Sends pre-built OTLP requests to a `tracestone up` of its own and reports what ingest costs.

    python bench/ingest.py                                  60 s of 1 KB spans over gRPC, as fast as it takes them
    python bench/ingest.py --span-bytes 20000 --transport http
    python bench/ingest.py --rate 10000                     a fixed rate: acknowledgement and freshness at that load
    python bench/ingest.py --option=--receivers=2 --connections 16 --receive-only
                                                            two receiver processes, while the store is not the limit
    python bench/ingest.py --transport json --receive-only  the same spans in OTLP's JSON form
    python bench/ingest.py --gzip --receive-only            compressed, as OpenTelemetry Collectors send by default

Every request has trace ids of its own, except that JSON and gzip are sixteen requests made beforehand, over and over:
the generator's own CPU must stay small. At the end the run waits until all is queryable and compares the counts in
`spans` and `traces` with what was acknowledged. Rates count acknowledged spans over the time of sending. CPU is taken
from /proc, per thread: ClickHouse's and the loader's threads are the store, the rest is the receiver; receiver
processes, where there are some, are the receiver alone. `--receive-only` makes the loader wait for a batch that never
fills, so that the log takes all there is; then nothing is counted in the store. `TMPDIR` says on which disk it runs.
"""

import argparse
import asyncio
import contextlib
import gzip
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import uvloop
from payloads import SPANS_PER_TRACE, Template, as_json, template

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
TICK = os.sysconf("SC_CLK_TCK")
# Requests that are made beforehand, and how they are compressed: Go's and Python's exporters take the default level.
PREPARED = 16
GZIP_LEVEL = 6
WAITING_LOADER = ["--batch-max-age-ms=3600000", f"--batch-max-bytes={1 << 40}", f"--wal-max-bytes={1 << 40}"]


@dataclass
class Sent:
    """What the senders saw. Latencies in seconds; acknowledged spans and bytes."""

    spans: int = 0
    data: int = 0
    refused: int = 0
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)


@dataclass
class Ports:
    """Where the process under test listens."""

    grpc: int
    http: int
    main: int
    sql: int


def free_ports() -> Ports:
    """Four ports that are free now."""
    sockets = [socket.socket() for _ in range(4)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = Ports(*(each.getsockname()[1] for each in sockets))
    for each in sockets:
        each.close()
    return ports


def start(ports: Ports, folder: Path, *options: str, start_new_session: bool = False) -> subprocess.Popen[str]:
    """A `tracestone up` on these ports with its data in a folder; `wait_ready` waits for it."""
    command = [
        str(Path(sys.executable).with_name("tracestone")), "up", "--data-dir", str(folder),
        "--otlp-grpc-port", str(ports.grpc), "--otlp-http-port", str(ports.http),
        "--port", str(ports.main), "--sql-port", str(ports.sql), "--log-level", "warning", *options,
    ]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=start_new_session)


class Sql:
    """Questions to the SQL endpoint."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/?"

    def ask(self, statement: str, within: float = 60) -> list[list[Any]]:
        """The rows of an answer, which comes within so many seconds."""
        url = self._url + urllib.parse.urlencode({"query": f"{statement} FORMAT JSONCompact"})
        with urllib.request.urlopen(url, timeout=within) as answer:
            rows: list[list[Any]] = json.load(answer)["data"]
            return rows


def cpu_by_thread(pid: int) -> dict[str, float]:
    """CPU seconds of a process by thread name, the main thread under "main"."""
    found: dict[str, float] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            text = (task / "stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        name = "main" if int(task.name) == pid else text[text.index("(") + 1 : text.rindex(")")]
        fields = text[text.rindex(")") + 2 :].split()
        found[name] = found.get(name, 0.0) + (int(fields[11]) + int(fields[12])) / TICK
    return found


def cpu_total(pid: int) -> float:
    """CPU seconds of a process, ended threads included."""
    text = Path(f"/proc/{pid}/stat").read_text()
    fields = text[text.rindex(")") + 2 :].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def receivers(root: int) -> list[int]:
    """The receiver processes of the run; none when it receives in the main process."""
    return [pid for pid in family(root) if b"collector.processes.receiver" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def resident(pid: int) -> int:
    """Resident memory in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def postgres(folder: Path) -> list[int]:
    """The processes of the private Postgres in a data folder; no child of the one under test."""
    try:
        postmaster = int((folder / "postgres/postmaster.pid").read_text().split()[0])
    except FileNotFoundError:
        return []
    return family(postmaster)


def proportional(pid: int) -> int:
    """Resident bytes, shared pages divided by those who share them: Postgres' processes have one buffer pool."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024


def memory(pid: int, folder: Path) -> int:
    """Resident bytes of the whole run; processes may end while they are looked at."""
    total = 0
    for ask, pids in ((resident, family(pid)), (proportional, postgres(folder))):
        for each in pids:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                total += ask(each)
    return total


def family(root: int) -> list[int]:
    """A process and all that come from it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            parent = int(text[text.rindex(")") + 2 :].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
    found, queue = [], [root]
    while queue:
        pid = queue.pop()
        found.append(pid)
        queue.extend(children.get(pid, []))
    return found


class Pace:
    """Lets `rate` spans a second through, in order; everything when the rate is 0."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._next = time.perf_counter()

    async def turn(self, spans: int) -> None:
        """Waits until these spans are due."""
        if not self._rate:
            return
        due = self._next
        self._next = max(due, time.perf_counter() - 1) + spans / self._rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))


def prepared(arguments: argparse.Namespace, shape: Template) -> list[bytes]:
    """Requests that take too long to make while they are sent; none when each is made then, with ids of its own.

    A gzip message over gRPC goes out as it is: the receiver looks at its first bytes, not at what gRPC says of it.
    """
    if arguments.transport != "json" and not arguments.gzip:
        return []
    rng = np.random.default_rng()
    made = [shape.stamp(rng, time.time_ns()) for _ in range(PREPARED)]
    if arguments.transport == "json":
        made = [as_json(request) for request in made]
    return [gzip.compress(request, GZIP_LEVEL) for request in made] if arguments.gzip else made


async def send(
    arguments: argparse.Namespace,
    ports: Ports,
    shape: Template,
    made: list[bytes],
    sent: Sent,
    going: Callable[[], bool],
) -> None:
    """Runs the senders for as long as it is `going`; what is on its way then is still acknowledged.

    Sends what is `made`, or requests of the `shape` when that is nothing.
    """
    began = time.perf_counter()
    pace = Pace(arguments.rate)
    rng = np.random.default_rng()
    media_type = "application/json" if arguments.transport == "json" else "application/x-protobuf"
    headers = {"content-type": media_type, **({"content-encoding": "gzip"} if arguments.gzip else {})}
    turns = itertools.cycle(made)

    async def loop(call: Any) -> None:
        while going():
            await pace.turn(shape.spans)
            request = next(turns) if made else shape.stamp(rng, time.time_ns())
            while True:
                began = time.perf_counter()
                if await call(request):
                    sent.latencies.append(time.perf_counter() - began)
                    sent.spans += shape.spans
                    sent.data += len(shape.data)
                    break
                sent.refused += 1
                await asyncio.sleep(0.2)

    if arguments.transport == "grpc":
        options = [("grpc.max_send_message_length", 64 << 20), ("grpc.use_local_subchannel_pool", 1)]
        async with AsyncExitStack() as stack:
            calls = []
            for _ in range(arguments.connections):
                channel = grpc.aio.insecure_channel(f"127.0.0.1:{ports.grpc}", options=options)
                calls.append((await stack.enter_async_context(channel)).unary_unary(EXPORT))

            async def over_grpc(export: Any, request: bytes) -> bool:
                try:
                    return await export(request) == b""
                except grpc.aio.AioRpcError as error:
                    if error.code() is not grpc.StatusCode.UNAVAILABLE:
                        raise
                    return False

            senders = max(arguments.senders, arguments.connections)
            await asyncio.gather(*(loop(partial(over_grpc, calls[n % len(calls)])) for n in range(senders)))
    else:
        limits = httpx.Limits(max_connections=arguments.senders)  # one connection each
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{ports.http}", limits=limits, timeout=60) as client:

            async def over_http(request: bytes) -> bool:
                answer = await client.post("/v1/traces", content=request, headers=headers)
                if answer.status_code not in (200, 503):
                    raise RuntimeError(f"HTTP {answer.status_code}: {answer.content[:200]!r}")
                return answer.status_code == 200

            await asyncio.gather(*(loop(over_http) for _ in range(arguments.senders)))
    sent.seconds = time.perf_counter() - began


async def probe(ports: Ports, going: Callable[[], bool], found: list[float], patience: float = 60) -> None:
    """Freshness: from sending one trace of its own until it can be counted, over and over.

    Raises RuntimeError when one takes longer than `patience`, in seconds.
    """
    sql = Sql(ports.sql)
    shape = template(1000, 1, seed=99)
    rng = np.random.default_rng(99)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{ports.grpc}") as channel:
        export = channel.unary_unary(EXPORT)
        while going():
            request = shape.stamp(rng, time.time_ns())
            trace_id = bytes(shape.data[shape._ids[0]]).hex()
            began = time.perf_counter()
            try:
                await export(request)
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.2)
                continue
            question = f"SELECT sum(span_count) FROM traces WHERE experiment_id = 1 AND trace_id = '{trace_id}'"
            while True:
                rows = await asyncio.to_thread(sql.ask, question)
                if int(rows[0][0]) == SPANS_PER_TRACE:
                    break
                if time.perf_counter() - began > patience:
                    raise RuntimeError(f"a probe was not found within {patience:.0f} s")
                await asyncio.sleep(0.02)
            found.append(time.perf_counter() - began)
            await asyncio.sleep(0.5)


def percentile(values: list[float], share: float) -> float:
    """A percentile by the nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def wait_ready(process: subprocess.Popen[str]) -> None:
    """Returns when the process says that it serves."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("tracestone ready"):
            return
    raise RuntimeError("tracestone did not start")


def on_disk(folder: Path) -> int:
    """Bytes of all files; merges take some away, and whole folders, while they are counted."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(os.path.join(parent, name)).st_size
    return total


async def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One run; figures by name."""
    ports = free_ports()
    process = start(ports, folder, *(WAITING_LOADER if arguments.receive_only else []), *arguments.option)
    try:
        await asyncio.to_thread(wait_ready, process)
        pid = process.pid
        await asyncio.sleep(3)
        idle = memory(pid, folder)
        shape = template(arguments.span_bytes, max(1, arguments.request_spans // SPANS_PER_TRACE))
        made = prepared(arguments, shape)
        sent, fresh = Sent(), []
        before, threads_before, own_before = cpu_total(pid), cpu_by_thread(pid), time.process_time()
        children = receivers(pid)
        children_before = [cpu_total(each) for each in children]
        began = time.perf_counter()
        until = began + arguments.seconds
        peak = 0

        async def watch_memory() -> None:
            nonlocal peak
            while True:
                peak = max(peak, memory(pid, folder))
                await asyncio.sleep(1)

        watching = asyncio.create_task(watch_memory())

        def going() -> bool:
            return time.perf_counter() < until

        tasks = [send(arguments, ports, shape, made, sent, going)]
        if not arguments.no_probe and not arguments.receive_only:
            tasks.append(probe(ports, going, fresh))
        await asyncio.gather(*tasks)
        sending = sent.seconds
        sql = Sql(ports.sql)
        expected = sent.spans
        where = "service_name = 'bench'"
        extra = len(fresh) * SPANS_PER_TRACE
        stored = 0
        while time.perf_counter() < until + 300 and not arguments.receive_only:
            stored = int((await asyncio.to_thread(sql.ask, f"SELECT sum(span_count) FROM traces WHERE {where}"))[0][0])
            if stored >= expected + extra:
                break
            await asyncio.sleep(0.25)
        drained = time.perf_counter() - began
        spent = cpu_total(pid) - before
        threads = {name: seconds - threads_before.get(name, 0.0) for name, seconds in cpu_by_thread(pid).items()}
        generator = time.process_time() - own_before
        rows = int(sql.ask(f"SELECT count() FROM spans WHERE {where}")[0][0])
        watching.cancel()
        spent_children = [cpu_total(each) - begun for each, begun in zip(children, children_before, strict=True)]
        disk = on_disk(folder / "clickhouse")
        receiver = threads.get("main", 0.0) + sum(
            seconds for name, seconds in threads.items() if name.startswith(("grpc", "event_engine", "wal", "iou"))
        )
        if children:
            receiver, spent = sum(spent_children), spent + sum(spent_children)
        elif arguments.receive_only:
            receiver = spent  # its threads do nothing else
        if arguments.receive_only:
            return {
                "spans sent": expected,
                "spans/s acknowledged": expected / sending,
                "MB/s acknowledged": sent.data / sending / 1e6,
                "receiver CPU us/span": receiver / expected * 1e6,
                "CPU seconds of each receiver": [round(seconds, 1) for seconds in spent_children or [receiver]],
                "main process CPU us/span": (spent - receiver) / expected * 1e6,
                "generator CPU us/span": generator / expected * 1e6,
                "ack p50 ms": percentile(sent.latencies, 0.5) * 1e3,
                "ack p99 ms": percentile(sent.latencies, 0.99) * 1e3,
                "refused and sent again": sent.refused,
            }
        return {
            "spans sent": expected,
            "spans stored": rows - extra,
            "lost": expected + extra - stored,
            "doubled": rows - expected - extra,
            "spans/s acknowledged": expected / sending,
            "spans/s until queryable": expected / drained,
            "MB/s acknowledged": sent.data / sending / 1e6,
            "seconds sending": sending,
            "seconds until all queryable": drained,
            "receiver CPU us/span": receiver / expected * 1e6,
            "store CPU us/span": (spent - receiver) / expected * 1e6,
            "generator CPU us/span": generator / expected * 1e6,
            "ack p50 ms": percentile(sent.latencies, 0.5) * 1e3,
            "ack p99 ms": percentile(sent.latencies, 0.99) * 1e3,
            "freshness p50 s": percentile(fresh, 0.5),
            "freshness p99 s": percentile(fresh, 0.99),
            "freshness probes": len(fresh),
            "refused and sent again": sent.refused,
            "idle memory MB": idle / 1e6,
            "peak memory MB": peak / 1e6,
            "bytes/span on disk": disk / expected,
            "threads": {name: round(seconds, 1) for name, seconds in sorted(threads.items(), key=lambda x: -x[1])[:12]},
        }
    finally:
        process.terminate()
        process.wait(20)


def command_line() -> argparse.ArgumentParser:
    """What can be asked of a run, with its defaults."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--span-bytes", type=int, default=1000)
    parser.add_argument("--request-spans", type=int, default=512)
    parser.add_argument("--transport", choices=("grpc", "http", "json"), default="grpc")
    parser.add_argument("--gzip", action="store_true", help="requests compressed beforehand; with --receive-only")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rate", type=float, default=0, help="spans a second; 0 is as fast as possible")
    parser.add_argument("--senders", type=int, default=8)
    parser.add_argument("--connections", type=int, default=1, help="gRPC connections that the senders share")
    parser.add_argument("--receive-only", action="store_true", help="load nothing: what the receiver can do alone")
    parser.add_argument("--no-probe", action="store_true", help="do not measure freshness beside the load")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--option", action="append", default=[], help="passed on to tracestone up")
    return parser


def main() -> None:
    """Parses the command line, runs, prints."""
    parser = command_line()
    arguments = parser.parse_args()
    if (arguments.transport == "json" or arguments.gzip) and not arguments.receive_only:
        parser.error("what is prepared is sent again and again with the same ids, so it needs --receive-only")
    folder = Path(tempfile.mkdtemp(prefix="tracestone-bench-"))
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            figures = runner.run(measure(arguments, folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if arguments.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:30} {value:,.1f}" if isinstance(value, float) else f"{name:30} {value}")


if __name__ == "__main__":
    main()
