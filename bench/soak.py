"""A load of one rate for an hour: what grows, and whether every span is there once at the end.

    python bench/soak.py                                    20,000 spans/s of 1 KB for 60 minutes
    python bench/soak.py --minutes 3 --option=--receivers=2
    python bench/soak.py --folder /data/soak --samples soak.jsonl

Every ten seconds a line: resident memory of the main process (all of it, and the part that no file backs), of its
Postgres and its receivers, open files of the main process and its receivers, bytes of the logs, parts and bytes of
ClickHouse, what waits in the log, and how long a trace of the probe took from being sent to being counted. At the end
the slopes of the second half (least squares; memory that fills caches in the first half is no leak), and the count
of spans and of traces against what was acknowledged. Ctrl-C ends the load early; the rest follows as at the end.

The data need some 250 bytes a span: 18 GB for the default. They are removed at the end.
"""

import argparse
import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import ingest
import numpy as np
import uvloop
from payloads import SPANS_PER_TRACE, template

EVERY_SECONDS = 10.0
DRAIN_SECONDS = 900.0
COUNT_SECONDS = 1800.0
# The count over all spans at the end takes longer, and more memory, than a reader may have by default.
FOR_THE_COUNT = [f"--sql-max-seconds={COUNT_SECONDS:.0f}", f"--sql-max-memory-bytes={4 << 30}"]
PART = re.compile(r".+_\d+_\d+_\d+(_\d+)?")


@dataclass(frozen=True)
class Sample:
    """The state at one moment: memory and disk in MB, freshness in seconds, CPU in cores."""

    minute: float
    spans_per_second: float
    main_mb: float
    main_anonymous_mb: float
    postgres_mb: float
    receivers_mb: float
    open_files: int
    log_mb: float
    waiting_mb: float
    parts: int
    span_parts: int
    clickhouse_mb: float
    disk_mb: float
    fresh: float
    cores: float


class Watched:
    """The processes and files of a run."""

    def __init__(self, root: int, folder: Path, port: int) -> None:
        self._root = root
        self._folder = folder
        self._health = f"http://127.0.0.1:{port}/health"

    def backlog(self) -> dict[str, Any]:
        """Of the spans, as /health tells it; 503 tells too."""
        try:
            with urllib.request.urlopen(self._health, timeout=60) as answer:
                found = json.load(answer)
        except urllib.error.HTTPError as error:
            found = json.load(error)
        backlog: dict[str, Any] = found["backlog"]["traces"]
        return backlog

    def cpu(self) -> float:
        """CPU seconds of all processes that run now."""
        return sum(self._each(ingest.cpu_total, ingest.family(self._root) + ingest.postgres(self._folder)))

    def sample(self, minute: float, rate: float, fresh: float, cores: float) -> Sample:
        """Looks at everything; some milliseconds for each thousand files."""
        receivers = ingest.receivers(self._root)
        whole, anonymous = memory(self._root)
        clickhouse = self._folder / "clickhouse"
        return Sample(
            minute=minute,
            spans_per_second=rate,
            main_mb=whole / 1e6,
            main_anonymous_mb=anonymous / 1e6,
            postgres_mb=sum(self._each(ingest.proportional, ingest.postgres(self._folder))) / 1e6,
            receivers_mb=sum(self._each(ingest.resident, receivers)) / 1e6,
            open_files=sum(self._each(open_files, [self._root, *receivers])),
            log_mb=ingest.on_disk(self._folder / "wal") / 1e6,
            waiting_mb=self.backlog()["waiting_bytes"] / 1e6,
            parts=sum(map(parts, clickhouse.glob("data/tracestone/*"))),
            span_parts=parts(clickhouse / "data/tracestone/span_rows"),
            clickhouse_mb=ingest.on_disk(clickhouse) / 1e6,
            disk_mb=ingest.on_disk(self._folder) / 1e6,
            fresh=fresh,
            cores=cores,
        )

    @staticmethod
    def _each(ask: Any, pids: list[int]) -> Iterator[Any]:
        for pid in pids:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                yield ask(pid)


def memory(pid: int) -> tuple[int, int]:
    """Resident bytes of a process, and how many of them no file backs."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(lines["VmRSS"].split()[0]) * 1024, int(lines["RssAnon"].split()[0]) * 1024


def parts(table: Path) -> int:
    """The parts of a table, those included that merges have replaced and that are not removed yet."""
    return sum(1 for name in os.listdir(table) if PART.fullmatch(name))


def open_files(pid: int) -> int:
    """File descriptors of a process."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def line(sample: Sample) -> str:
    """A row of the table."""
    return "".join(
        f"{getattr(sample, field.name):>{max(8, len(field.name) + 2)},.{0 if field.type is int else 1}f}"
        for field in fields(Sample)
    )


def heading() -> str:
    """The row above them."""
    return "".join(f"{field.name:>{max(8, len(field.name) + 2)}}" for field in fields(Sample))


def slopes(samples: list[Sample]) -> list[str]:
    """For every figure its middle and most, and how much it grows in an hour, in the second half."""
    half = samples[len(samples) // 2 :]
    if len(half) < 3:
        return ["too short for slopes"]
    hours = np.array([each.minute for each in half]) / 60
    found = [f"{'second half':22} {'median':>12} {'most':>12} {'an hour':>12}"]
    for field in fields(Sample)[1:]:
        values = np.array([float(getattr(each, field.name)) for each in half])
        values, at = values[~np.isnan(values)], hours[~np.isnan(values)]
        grows = np.polyfit(at, values, 1)[0] if len(values) > 2 else float("nan")
        found.append(
            f"{field.name:22} {np.median(values):12,.1f} {values.max():12,.1f} {grows:+12,.1f}"
            if len(values)
            else f"{field.name:22} {'none':>12}"
        )
    return found


class Soak:
    """One run against a `tracestone up` that serves on `ports`."""

    def __init__(self, arguments: argparse.Namespace, ports: ingest.Ports, watched: Watched) -> None:
        self._arguments = arguments
        self._ports = ports
        self._watched = watched
        self._sent = ingest.Sent()
        self._fresh: list[float] = []
        self.samples: list[Sample] = []
        self._began = time.perf_counter()
        self._stopped = False

    def end(self) -> None:
        """Stops sending soon."""
        self._stopped = True

    def _going(self) -> bool:
        return not self._stopped and time.perf_counter() < self._began + self._arguments.minutes * 60

    async def run(self) -> None:
        """Sends, looks, and at the end counts."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self.end)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.end)
        shape = template(self._arguments.span_bytes, self._arguments.request_spans // SPANS_PER_TRACE)
        print(heading(), flush=True)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._watch())
                tasks.create_task(ingest.send(self._arguments, self._ports, shape, [], self._sent, self._going))
                tasks.create_task(ingest.probe(self._ports, self._going, self._fresh, patience=DRAIN_SECONDS))
        finally:
            print("\n".join(slopes(self.samples)), flush=True)
        await self._drain()
        await self._count()

    async def _watch(self) -> None:
        spans, cpu, at, probes = 0, self._watched.cpu(), time.perf_counter(), 0
        while self._going():
            await asyncio.sleep(max(0.0, at + EVERY_SECONDS - time.perf_counter()))
            now, spent, fresh = (
                time.perf_counter(),
                self._watched.cpu(),
                max(self._fresh[probes:], default=float("nan")),
            )
            rate, cores = (self._sent.spans - spans) / (now - at), (spent - cpu) / (now - at)
            spans, cpu, at, probes = self._sent.spans, spent, now, len(self._fresh)
            minute = (now - self._began) / 60
            sample = await asyncio.to_thread(self._watched.sample, minute, rate, fresh, cores)
            self.samples.append(sample)
            print(line(sample), flush=True)
            if self._arguments.samples:
                with self._arguments.samples.open("a") as out:
                    out.write(json.dumps(asdict(sample)) + "\n")

    async def _drain(self) -> None:
        began = time.perf_counter()
        while (await asyncio.to_thread(self._watched.backlog))["state"] != "idle":
            if time.perf_counter() > began + DRAIN_SECONDS:
                raise RuntimeError("the log does not drain")
            await asyncio.sleep(0.5)
        print(f"\nall is stored {time.perf_counter() - began:.1f} s after the last request", flush=True)

    async def _count(self) -> None:
        expected = self._sent.spans + len(self._fresh) * SPANS_PER_TRACE
        sql = ingest.Sql(self._ports.sql)
        found = {}
        for name, value in (("traces", "sum(span_count)"), ("spans", "count()")):
            question = f"SELECT {value} FROM {name} WHERE service_name = 'bench'"
            found[name] = int((await asyncio.to_thread(sql.ask, question, COUNT_SECONDS))[0][0])
        print(f"acknowledged {expected:,} spans in {self._sent.spans // self._arguments.request_spans:,} requests,")
        print(f"refused and sent again {self._sent.refused:,} times")
        for name, count in found.items():
            print(f"{name:7} hold {count:,}: lost {max(0, expected - count):,}, doubled {max(0, count - expected):,}")
        for name, share in (("p50", 0.5), ("p99", 0.99), ("most", 1.0)):
            wait, age = ingest.percentile(self._sent.latencies, share), ingest.percentile(self._fresh, share)
            print(f"{name:7} acknowledged in {wait * 1e3:,.0f} ms, fresh in {age:.1f} s")


async def run(arguments: argparse.Namespace, folder: Path) -> None:
    """Starts a Tracestone of its own, and ends it."""
    ports = ingest.free_ports()
    # A session of its own: Ctrl-C is for the load alone.
    process = ingest.start(ports, folder, *FOR_THE_COUNT, *arguments.option, start_new_session=True)
    try:
        await asyncio.to_thread(ingest.wait_ready, process)
        await asyncio.sleep(3)
        await Soak(arguments, ports, Watched(process.pid, folder, ports.main)).run()
    finally:
        process.terminate()
        process.wait(30)


def main() -> None:
    """Parses the command line and runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=float, default=20_000, help="spans a second")
    parser.add_argument("--span-bytes", type=int, default=1000)
    parser.add_argument("--request-spans", type=int, default=512)
    parser.add_argument("--transport", choices=("grpc", "http"), default="grpc")
    parser.add_argument("--senders", type=int, default=8)
    parser.add_argument("--connections", type=int, default=2, help="gRPC connections that the senders share")
    parser.add_argument("--folder", type=Path, help="a new folder for the data; else one in TMPDIR")
    parser.add_argument("--samples", type=Path, help="file to which every sample is appended as JSON")
    parser.add_argument("--option", action="append", default=[], help="passed on to tracestone up")
    arguments = parser.parse_args()
    arguments.gzip = False
    if arguments.folder is not None:
        arguments.folder.mkdir(parents=True)
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="tracestone-soak-"))
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(arguments, folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
