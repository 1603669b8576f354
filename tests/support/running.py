"""Tracestone running in tests: in this process on the test's own stores, or as `tracestone up` in another process."""

import asyncio
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx

from support.ports import free_ports
from tracestone.collector.app import Collector
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.settings import Settings
from tracestone.scoring.app import Scoring

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
READY_SECONDS = 60
PORTS = ("otlp_grpc_port", "otlp_http_port", "port", "sql_port")


@dataclass
class Running:
    """A collector that serves on free ports of this machine."""

    collector: Collector
    columnar: Columnar
    grpc_address: str
    traces_url: str
    url: str
    sql_url: str

    async def rows(self, statement: str, **parameters: Any) -> list[dict[str, Any]]:
        """An answer of ClickHouse that holds everything acknowledged before."""
        await self.collector.barrier(("traces", "logs", "metrics"))
        return await self.columnar.query(statement, parameters)

    def otlp_url(self, signal: str) -> str:
        """Where OTLP/HTTP takes a signal."""
        return self.traces_url.removesuffix("traces") + signal

    async def span(self, span_id: str) -> dict[str, Any]:
        """The one row of a span in `spans`."""
        rows = await self.rows("SELECT * FROM spans WHERE span_id = {span_id:String}", span_id=span_id)
        assert len(rows) == 1, rows
        return rows[0]


@asynccontextmanager
async def running(
    pool: Pool, columnar: Columnar, folder: Path, *, scoring: bool = False, **settings: Any
) -> AsyncIterator[Running]:
    """The whole collector on these stores, and scoring when it is asked for."""
    free: dict[str, Any] = dict.fromkeys(PORTS, 0)
    chosen = Settings(
        **{**free, "data_dir": folder, "clickhouse_database": columnar.database, "batch_max_age_ms": 20, **settings}
    )
    collector = Collector(chosen, pool, columnar)
    judges = (
        Scoring(pool, columnar, collector.assessments, collector.spans, chosen, collector.take_spans)
        if scoring
        else None
    )
    if judges is not None:
        await judges.start()
    try:
        await collector.start()
        try:
            addresses = collector.addresses
            yield Running(
                collector,
                columnar,
                addresses["OTLP gRPC"].removeprefix("http://"),
                addresses["OTLP HTTP"],
                addresses["Page and API"],
                addresses["SQL"],
            )
        finally:
            await collector.stop()
    finally:
        if judges is not None:
            await judges.stop()


@asynccontextmanager
async def grpc_export(
    address: str, compression: grpc.Compression = grpc.Compression.NoCompression
) -> AsyncIterator[grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]]:
    """The Export method on bytes, as a client sees it."""
    options = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(address, options=options, compression=compression) as channel:
        yield channel.unary_unary(EXPORT)


@dataclass
class Program:
    """`tracestone up` in a process of its own."""

    process: asyncio.subprocess.Process
    data_dir: Path
    ports: dict[str, int]
    out: list[str] = field(default_factory=list)
    err: list[str] = field(default_factory=list)
    _readers: list[asyncio.Task[None]] = field(default_factory=list)
    _ready: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        """The main port."""
        return f"http://127.0.0.1:{self.ports['port']}"

    @property
    def grpc_address(self) -> str:
        """OTLP/gRPC, as host:port."""
        return f"127.0.0.1:{self.ports['otlp_grpc_port']}"

    @property
    def traces_url(self) -> str:
        """OTLP/HTTP."""
        return f"http://127.0.0.1:{self.ports['otlp_http_port']}/v1/traces"

    async def ready(self) -> None:
        """Waits for the line `tracestone ready`."""
        ended = asyncio.create_task(self.process.wait())
        said = asyncio.create_task(self._ready.wait())
        try:
            async with asyncio.timeout(READY_SECONDS):
                await asyncio.wait([ended, said], return_when=asyncio.FIRST_COMPLETED)
            assert self._ready.is_set(), f"ended with {self.process.returncode}:\n{self.said()}"
        finally:
            ended.cancel()
            said.cancel()

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """Sends a signal and returns the exit code; fails after the 10 s that a stop may take."""
        with suppress(ProcessLookupError):
            self.process.send_signal(number)
        async with asyncio.timeout(10):
            return await self.end()

    async def kill(self) -> None:
        """`kill -9`, of this process alone: its Postgres goes on and is found again by the next start."""
        with suppress(ProcessLookupError):
            self.process.kill()
        await self.end()

    async def end(self) -> int:
        """Waits until it has ended by itself; the exit code."""
        code = await self.process.wait()
        await asyncio.gather(*self._readers)
        return code

    async def sql(self, statement: str) -> list[dict[str, Any]]:
        """Rows from the SQL endpoint."""
        async with httpx.AsyncClient(timeout=30) as http:
            url = f"http://127.0.0.1:{self.ports['sql_port']}/"
            answer = await http.post(url, params={"default_format": "JSON"}, content=statement)
        assert answer.status_code == 200, answer.text
        rows: list[dict[str, Any]] = answer.json()["data"]
        return rows

    def said(self) -> str:
        """What it wrote, for messages."""
        return "\n".join([*self.out, *self.err])


@contextmanager
def data_folder() -> Iterator[Path]:
    """An empty data folder; at the end its Postgres, if one was left running, is ended and the folder removed.

    Not under pytest's own folder, which other users cannot enter: under root Postgres runs as another user.
    """
    folder = Path(tempfile.mkdtemp(prefix="tracestone-data-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        number = postmaster(folder)
        if number is not None:
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGQUIT)
        shutil.rmtree(folder, ignore_errors=True)


async def run_command(*arguments: str, folder: Path | None = None, **environment: str) -> tuple[int, str, str]:
    """A command that ends by itself: exit code, standard output, standard error."""
    process = await asyncio.create_subprocess_exec(
        *command(*arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=clean_environment(environment),
        cwd=folder,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def tracestone_up(
    data_dir: Path,
    *arguments: str,
    ports: dict[str, int] | None = None,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[Program]:
    """Starts `tracestone up` on free ports without waiting for it; kills it at the end if it still runs."""
    ports = ports or named_ports()
    flags = [f"--{name.replace('_', '-')}={number}" for name, number in ports.items()]
    program = await start_program(data_dir, ports, *flags, *arguments, environment=environment)
    try:
        yield program
    finally:
        await program.kill()


async def start_program(
    data_dir: Path, ports: dict[str, int], *arguments: str, environment: Mapping[str, str] | None = None
) -> Program:
    """`tracestone up` with these arguments."""
    process = await asyncio.create_subprocess_exec(
        *command("up", f"--data-dir={data_dir}", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=clean_environment(environment),
        limit=1 << 20,
    )
    program = Program(process, data_dir, ports)
    for stream, lines in ((process.stdout, program.out), (process.stderr, program.err)):
        assert stream is not None
        program._readers.append(asyncio.create_task(_collect(stream, lines, program._ready)))
    return program


def command(*arguments: str) -> list[str]:
    """The installed command line, by this interpreter."""
    return [sys.executable, "-m", "tracestone.collector.cli", *arguments]


def clean_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This environment without settings of ours, and with some more."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TRACESTONE_")}
    return {**kept, **(more or {})}


def named_ports() -> dict[str, int]:
    """A free port for each of the program's."""
    return dict(zip(PORTS, free_ports(len(PORTS)), strict=True))


def postmaster(data_dir: Path) -> int | None:
    """The process id of the embedded Postgres in a data folder, if it runs."""
    for file in (data_dir / "postgres").rglob("postmaster.pid"):
        number = int(file.read_text().split()[0])
        with suppress(ProcessLookupError):
            os.kill(number, 0)
            return number
    return None


async def _collect(stream: asyncio.StreamReader, lines: list[str], ready: asyncio.Event) -> None:
    while line := await stream.readline():
        text = re.sub(r"\s+$", "", line.decode(errors="replace"))
        lines.append(text)
        if text == "tracestone ready":
            ready.set()
