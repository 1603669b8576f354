"""The programs of docs/clients.md, run as they stand there, against a Tracestone that demands a key."""

import asyncio
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from support.clients import ROOT, OtelCollector, built, eventually, run
from support.ports import free_ports
from support.program import Program

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def _program(language: str) -> str:
    """The one program of the page in a language."""
    (text,) = re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs/clients.md").read_text(), re.S)
    return str(text)


@dataclass(frozen=True)
class Guarded:
    """A Tracestone that demands keys, and one that may send."""

    program: Program
    key: str
    reader: str

    async def sql(self, statement: str) -> list[list[object]]:
        """Asks with a key that may read."""
        async with httpx.AsyncClient(
            headers={"x-clickhouse-user": "reader", "x-clickhouse-key": self.reader}
        ) as client:
            answer = await client.post(
                f"http://127.0.0.1:{self.program.sql_port}/", content=f"{statement} FORMAT JSONCompact"
            )
        assert answer.status_code == 200, answer.text
        return [list(row) for row in answer.json()["data"]]


@pytest_asyncio.fixture(scope="module")
async def guarded(folder: Path) -> AsyncIterator[Guarded]:
    """Two keys are made before it starts; from then on every port demands one."""
    data = folder / "guarded"
    create = (sys.executable, "-m", "tracestone.collector.cli", "keys", "create", "--data-dir", data)
    key, reader = [
        re.findall(r"^ts_\w+", await run(*create, scope, "--scope", scope), re.M)[0] for scope in ("ingest", "read")
    ]
    program = Program(data)
    await program.start()
    yield Guarded(program, key, reader)
    assert await program.terminate() == 0
    await program.close()


async def _sends(guarded: Guarded, language: str, endpoint: str, *command: str | Path, cwd: Path) -> None:
    """Runs a program with the page's environment; its span must be in SQL, and must not be without the key."""
    service = f"docs {language}"
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_SERVICE_NAME": service}
    with_key = {**settings, "OTEL_EXPORTER_OTLP_HEADERS": f"x-api-key={guarded.key}"}
    for environment in (settings, with_key):
        process = await asyncio.create_subprocess_exec(*command, cwd=cwd, env={**os.environ, **environment})
        async with asyncio.timeout(120):
            await process.wait()
    assert process.returncode == 0
    await _stored(guarded, service)


async def _stored(guarded: Guarded, service: str) -> None:
    await eventually(
        guarded, f"SELECT name, request_model, input_tokens FROM spans WHERE service_name = '{service}'",
        [["chat gpt-4o-mini", "gpt-4o-mini", 12]],
    )  # fmt: skip


async def test_python(guarded: Guarded, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(_program("python"))
    await _sends(guarded, "python", f"http://{guarded.program.grpc}", sys.executable, "app.py", cwd=tmp_path)


async def test_javascript(guarded: Guarded, tmp_path: Path) -> None:
    (tmp_path / "app.mjs").write_text(_program("js"))
    (tmp_path / "node_modules").symlink_to(built("js") / "js/node_modules")
    await _sends(guarded, "js", guarded.program.http_root, "node", "app.mjs", cwd=tmp_path)


async def test_go(guarded: Guarded, tmp_path: Path) -> None:
    (tmp_path / "main.go").write_text(_program("go"))
    for name in ("go.mod", "go.sum"):
        shutil.copy(ROOT / "tests/clients/go" / name, tmp_path)
    await run("go", "build", "-C", tmp_path, "-mod=mod", "-o", "app", ".", within=300)
    await _sends(guarded, "go", f"http://{guarded.program.grpc}", "./app", cwd=tmp_path)


async def test_java(guarded: Guarded, tmp_path: Path) -> None:
    (tmp_path / "App.java").write_text(_program("java"))
    libraries = f"{built('java')}/java/lib/*"
    await _sends(
        guarded, "java", f"http://{guarded.program.grpc}", "java", "-cp", libraries, "App.java", cwd=tmp_path
    )  # fmt: skip


async def test_collector(guarded: Guarded, tmp_path: Path) -> None:
    grpc_port, http_port = free_ports(2)
    text = _program("yaml")
    for here, there in (
        ("127.0.0.1:4317", f"127.0.0.1:{grpc_port}"),
        ("127.0.0.1:4318", f"127.0.0.1:{http_port}"),
        ("tracestone:4317", guarded.program.grpc),
        ("/var/lib/otelcol/queue", str(tmp_path / "queue")),
    ):
        assert here in text
        text = text.replace(here, there)
    (tmp_path / "config.yaml").write_text(text)
    collector = OtelCollector(tmp_path, tmp_path / "config.yaml", grpc_port, http_port)
    await collector.start(TRACESTONE_API_KEY=guarded.key)
    try:
        (tmp_path / "app.py").write_text(_program("python"))
        await run(
            "env", f"OTEL_EXPORTER_OTLP_ENDPOINT=http://{collector.grpc}", "OTEL_SERVICE_NAME=docs collector",
            sys.executable, tmp_path / "app.py",
        )  # fmt: skip
        await _stored(guarded, "docs collector")
        assert await collector.stop() == 0, collector.tail()
    finally:
        await collector.close()
