"""The whole of Tracestone as its users run it: `tracestone up` in a process of its own, to be stopped or killed."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import Any

import httpx

from support.ports import free_ports

_START_SECONDS = 90.0


class Program:
    """One data folder and one set of ports; `start` and `kill` as often as you like."""

    def __init__(self, data: Path, *, prefix: tuple[str, ...] = (), **settings: object) -> None:
        self.data = data
        self._prefix = prefix
        self._settings = settings
        self.grpc_port, self.http_port, self.port, self.sql_port = free_ports(4)
        self.key = ""  # the API key with which it is asked and sent to, where it demands one
        self.process: Process | None = None
        self.log = data.with_name(f"{data.name}.log")

    @property
    def grpc(self) -> str:
        """Where OTLP/gRPC is taken."""
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def http(self) -> str:
        """Where OTLP/HTTP takes traces."""
        return f"{self.http_root}/v1/traces"

    @property
    def http_root(self) -> str:
        """Where OTLP/HTTP is taken, without a path."""
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def main(self) -> str:
        """The page, the API and /health."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def headers(self) -> dict[str, str]:
        """The headers that bring its key."""
        return {"x-api-key": self.key} if self.key else {}

    async def launch(self) -> None:
        """Starts the process and waits for nothing."""
        settings = {
            "data-dir": self.data,
            "otlp-grpc-port": self.grpc_port,
            "otlp-http-port": self.http_port,
            "port": self.port,
            "sql-port": self.sql_port,
            **{name.replace("_", "-"): value for name, value in self._settings.items()},
        }
        flags = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self._prefix,
                sys.executable,
                "-m",
                "tracestone.collector.cli",
                "up",
                *flags,
                stdout=PIPE,
                stderr=log,
                env={name: value for name, value in os.environ.items() if not name.startswith("TRACESTONE_")},
            )

    async def ready(self) -> None:
        """Waits for the line that says that everything listens."""
        assert self.process is not None and self.process.stdout is not None
        async with asyncio.timeout(_START_SECONDS):
            while line := await self.process.stdout.readline():
                if line == b"tracestone ready\n":
                    return
        await self.process.wait()
        raise AssertionError(f"tracestone up ended with {self.process.returncode}: {self.tail()}")

    async def start(self) -> None:
        """Starts the process and waits until it is ready."""
        await self.launch()
        await self.ready()

    async def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        assert self.process.returncode is None, f"it had ended with {self.process.returncode}: {self.tail()}"
        self.process.send_signal(signal.SIGKILL)
        await self.process.communicate()

    async def terminate(self, within: float = 10.0) -> int:
        """SIGTERM; the exit code. Fails when it takes longer than a user was promised."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(within):
            await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode

    async def close(self) -> None:
        """Ends what still runs, Postgres included."""
        if self.process is not None and self.process.returncode is None:
            await self.kill()
        if (postmaster := self.postmaster()) is not None:
            os.kill(postmaster, signal.SIGQUIT)

    def postmaster(self) -> int | None:
        """The process id of the embedded Postgres, None when it does not run."""
        try:
            number = int((self.data / "postgres" / "postmaster.pid").read_text().split()[0])
            command = Path(f"/proc/{number}/cmdline").read_bytes()
        except (FileNotFoundError, IndexError, ProcessLookupError):
            return None
        return number if str(self.data).encode() in command else None

    async def sql(self, statement: str) -> list[list[Any]]:
        """Rows of an answer of the SQL endpoint."""
        async with httpx.AsyncClient(timeout=60, headers=self.headers) as client:
            answer = await client.post(
                f"http://127.0.0.1:{self.sql_port}/?database=tracestone", content=f"{statement} FORMAT JSONCompact"
            )
        assert answer.status_code == 200, answer.text
        return [list(row) for row in answer.json()["data"]]

    async def health(self) -> tuple[int, dict[str, Any]]:
        """The status and the body of GET /health."""
        async with httpx.AsyncClient(timeout=30, headers=self.headers) as client:
            answer = await client.get(f"{self.main}/health")
        return answer.status_code, json.loads(answer.content)

    def resident_bytes(self) -> int:
        """The memory that the process holds."""
        assert self.process is not None
        fields = Path(f"/proc/{self.process.pid}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")

    def tail(self) -> str:
        """The end of what it logged."""
        return self.log.read_text()[-3000:] if self.log.exists() else ""
