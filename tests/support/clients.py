"""Clients in other languages, built by `scripts/clients`, and the OpenTelemetry Collector as a process of its own."""

import asyncio
import json
import os
import signal
import subprocess
from asyncio.subprocess import DEVNULL, Process
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import httpx

from support.ports import free_ports
from support.program import Program
from tracestone.schema import clock

ROOT = Path(__file__).parents[2]


@cache
def built(part: str) -> Path:
    """Builds js, go or java unless that was done before, and returns the folder that holds the builds.

    The first time it takes minutes and needs npm, Go, or Maven with a JDK, and their package registries.
    """
    answer = subprocess.run([ROOT / "scripts/clients", part], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return Path(answer.stdout.splitlines()[-1].strip())


async def run(*command: str | Path, within: float = 60) -> str:
    """What a client prints; fails when it does or takes longer than `within` seconds."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(within):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    said = out.decode() + err.decode()
    assert process.returncode == 0, said
    return said


async def send(language: str, signal_name: str, encoding: str, program: Program, compression: str) -> dict[str, Any]:
    """Lets an SDK of `language` send its story of traces, logs or metrics; what it says it made."""
    if encoding != "grpc":
        endpoint = f"{program.http_root}/v1/{signal_name}"
    else:
        endpoint = f"http://{program.grpc}"
    if language == "js":
        modules = built("js") / "js"
        script = ROOT / "tests/clients/js/send.mjs"
        command: list[str | Path] = ["node", script, modules, signal_name, encoding, endpoint, compression]
    else:
        out = built("java") / "java"
        command = ["java", "-cp", f"{out}/classes:{out}/lib/*", "Send", signal_name, encoding, endpoint, compression]
    said = await run(*command)
    lines = [line for line in said.splitlines() if line.startswith("{")]
    # An SDK tells of a failed export in its log only.
    assert len(lines) == 1 and said.strip() == lines[0], said
    made: dict[str, Any] = json.loads(lines[0])
    return made


class Asked(Protocol):
    """What can be asked in SQL."""

    async def sql(self, statement: str) -> list[list[Any]]:
        """Rows of an answer."""


async def eventually(program: Asked, statement: str, wanted: list[list[Any]]) -> None:
    """Waits until a statement has this answer, at most half a minute: rows come after their acknowledgement."""
    end = clock.monotonic() + 30
    while (found := await program.sql(statement)) != wanted and clock.monotonic() < end:
        await asyncio.sleep(0.1)
    assert found == wanted


async def counted(program: Program, table: str, service: str, wanted: int) -> None:
    """Waits until a table has so many rows of a service."""
    await eventually(program, f"SELECT count() FROM {table} WHERE service_name = '{service}'", [[wanted]])


class OtelCollector:
    """An OpenTelemetry Collector that takes OTLP on two ports; `start` and `kill` as often as you like."""

    def __init__(self, folder: Path, config: Path, grpc_port: int, http_port: int) -> None:
        self.grpc_port, self.http_port = grpc_port, http_port
        self.log = folder / "collector.log"
        self._config = config
        self._environment: dict[str, str] = {}
        self.process: Process | None = None

    @classmethod
    def with_receiver(cls, folder: Path, config: dict[str, Any]) -> "OtelCollector":
        """One whose configuration lacks only the receiver, called otlp."""
        grpc_port, http_port = free_ports(2)
        protocols = {
            "grpc": {"endpoint": f"127.0.0.1:{grpc_port}"},
            "http": {"endpoint": f"127.0.0.1:{http_port}"},
        }
        service = {**config["service"], "telemetry": {"metrics": {"level": "none"}}}
        folder.mkdir(parents=True, exist_ok=True)
        # JSON is YAML.
        file = folder / "collector.yaml"
        file.write_text(json.dumps({**config, "receivers": {"otlp": {"protocols": protocols}}, "service": service}))
        return cls(folder, file, grpc_port, http_port)

    @property
    def grpc(self) -> str:
        """Where OTLP/gRPC is taken."""
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def http_root(self) -> str:
        """Where OTLP/HTTP is taken, without a path."""
        return f"http://127.0.0.1:{self.http_port}"

    async def launch(self) -> None:
        """Starts the process and waits for nothing."""
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(built("go") / "bin/collector", "--config", self._config),
                stdout=DEVNULL,
                stderr=log,
                env={**os.environ, **self._environment},
            )

    async def ready(self) -> None:
        """Waits until it takes OTLP over HTTP."""
        assert self.process is not None
        async with asyncio.timeout(30), httpx.AsyncClient() as client:
            while True:
                assert self.process.returncode is None, self.tail()
                try:
                    answer = await client.post(
                        f"{self.http_root}/v1/traces", headers={"content-type": "application/x-protobuf"}
                    )
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
                else:
                    assert answer.status_code == 200, answer.text
                    return

    async def start(self, **environment: str) -> None:
        """Starts the process and waits until it takes OTLP."""
        self._environment.update(environment)
        await self.launch()
        await self.ready()

    async def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        assert self.process.returncode is None, f"it had ended with {self.process.returncode}: {self.tail()}"
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    async def stop(self, within: float = 30) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        self.process.terminate()
        async with asyncio.timeout(within):
            return await self.process.wait()

    async def close(self) -> None:
        """Ends what still runs."""
        if self.process is not None and self.process.returncode is None:
            await self.kill()

    def tail(self) -> str:
        """The end of what it logged."""
        return self.log.read_text()[-3000:] if self.log.exists() else ""
