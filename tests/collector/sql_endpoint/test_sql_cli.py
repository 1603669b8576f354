"""`tracestone sql`, as a person runs it: against a running endpoint, a server, and a folder nobody uses."""

import asyncio
import csv
import fcntl
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet
import pytest

from support.ports import free_ports
from support.sql_endpoint import Endpoint


async def sql(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Runs the command in a process of its own."""
    command = [sys.executable, "-m", "tracestone.collector.cli", "sql", *arguments]
    return await asyncio.to_thread(subprocess.run, command, input=stdin, capture_output=True, timeout=60)


def free_port() -> str:
    """A port nothing listens on."""
    return str(free_ports(1)[0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with one small table, left by a process that has ended."""
    folder = tmp_path_factory.mktemp("left")
    script = (
        "import asyncio, sys\n"
        "from tracestone.schema.engines.columnar import Columnar\n"
        "async def make():\n"
        "    columnar = Columnar(f'chdb://{sys.argv[1]}/clickhouse', database='tracestone')\n"
        "    await columnar.open()\n"
        "    await columnar.command('CREATE TABLE spans (name String) ENGINE = MergeTree ORDER BY name')\n"
        "    await columnar.command(\"INSERT INTO spans VALUES ('a'), ('b')\")\n"
        "    await columnar.close()\n"
        "asyncio.run(make())\n"
    )
    subprocess.run([sys.executable, "-c", script, str(folder)], check=True, timeout=60)
    return folder


async def test_a_table_is_aligned(endpoint: Endpoint) -> None:
    done = await sql(
        "--sql-port", str(endpoint.port), "SELECT name, count() AS n FROM spans GROUP BY name ORDER BY name"
    )
    lines = done.stdout.decode().splitlines()
    assert done.returncode == 0, done.stderr
    assert "name" in lines[0] and "n" in lines[0]
    assert len({len(line) for line in lines}) == 1
    assert [line.split()[1] for line in lines[1:-1]] == ["chat", "tool", "x'y"]
    assert "\x1b" not in done.stdout.decode()


async def test_an_empty_table_says_so(endpoint: Endpoint) -> None:
    done = await sql("--sql-port", str(endpoint.port), "SELECT name FROM spans WHERE 0")
    assert (done.returncode, done.stdout) == (0, b"(no rows)\n")


async def test_json_and_csv_are_for_programs(endpoint: Endpoint) -> None:
    ask = "SELECT name, duration_ns FROM spans ORDER BY duration_ns LIMIT 3"
    done = await sql("--sql-port", str(endpoint.port), "--format", "json", ask)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert rows[2] == {"name": "x'y", "duration_ns": 2000}
    done = await sql("--sql-port", str(endpoint.port), "--format", "csv", "-", stdin=ask.encode())
    assert list(csv.reader(io.StringIO(done.stdout.decode())))[:2] == [["name", "duration_ns"], ["chat", "0"]]


async def test_parquet_goes_to_a_file(endpoint: Endpoint, tmp_path: Path) -> None:
    file = tmp_path / "spans.parquet"
    done = await sql("--sql-port", str(endpoint.port), "--format", "parquet", "-o", str(file), "SELECT * FROM spans")
    assert (done.returncode, done.stdout) == (0, b"")
    assert pyarrow.parquet.read_table(file).num_rows == 30


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("SELECT file('/etc/passwd')", "The function file is refused to readers"),
        ("DROP TABLE spans", "read-only; this is DROP"),
        ("SELECT 1 FROM (", "Syntax error"),
        ("SELECT * FROM nosuch", "nosuch"),
        ("SELECT number FROM numbers(5000)", "Limit for result exceeded"),
    ],
)
async def test_a_failure_is_one_sentence(endpoint: Endpoint, tmp_path: Path, statement: str, said: str) -> None:
    file = tmp_path / "answer"
    done = await sql("--sql-port", str(endpoint.port), "-o", str(file), statement)
    message = done.stderr.decode()
    assert done.returncode == 1
    assert message.startswith("tracestone: ") and message.count("\n") == 1
    assert said in message
    assert "Traceback" not in message and "DB::Exception" not in message
    assert not file.exists()


async def test_nonsense_is_refused_before_anything_is_asked(endpoint: Endpoint) -> None:
    assert (await sql("--sql-port", str(endpoint.port), "  ")).returncode == 2
    assert (await sql("--sql-port", str(endpoint.port), "--format", "xml", "SELECT 1")).returncode == 2
    done = await sql("--sql-port", str(endpoint.port), "-", stdin=b"\xff")
    assert (done.returncode, b"UTF-8" in done.stderr) == (2, True)


async def test_an_answer_that_cannot_be_written_is_said(endpoint: Endpoint, tmp_path: Path) -> None:
    done = await sql("--sql-port", str(endpoint.port), "-o", str(tmp_path / "no" / "file"), "SELECT 1")
    assert done.returncode == 1
    assert b"cannot be written" in done.stderr


async def test_a_server_is_asked_when_one_is_named(endpoint: Endpoint) -> None:
    url = f"http://someone:secret@127.0.0.1:{endpoint.port}/"
    ask = ("--clickhouse-url", url, "--clickhouse-database", endpoint.database, "--format", "json")
    done = await sql(*ask, "SELECT count() AS n FROM spans")
    assert json.loads(done.stdout) == {"n": 30}
    done = await sql(*ask, "DROP TABLE spans")
    assert done.returncode == 1 and b"read-only" in done.stderr
    done = await sql("--clickhouse-url", f"http://someone:secret@127.0.0.1:{free_port()}/", "SELECT 1")
    assert done.returncode == 1 and b"does not answer" in done.stderr and b"secret" not in done.stderr


async def test_a_folder_nobody_uses_is_opened(folder: Path) -> None:
    ask = ("--data-dir", str(folder), "--sql-port", free_port(), "--format", "csv")
    done = await sql(*ask, "SELECT name FROM spans ORDER BY name")
    assert (done.returncode, done.stdout) == (0, b'"name"\n"a"\n"b"\n')
    done = await sql(*ask, "SELECT file('/etc/passwd')")
    assert done.returncode == 1 and b"refused to readers" in done.stderr


async def test_a_folder_in_use_is_left_alone(folder: Path) -> None:
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = await sql("--data-dir", str(folder), "--sql-port", free_port(), "SELECT 1")
    assert done.returncode == 1 and b"is using" in done.stderr


async def test_no_folder_at_all_is_said_and_none_is_made(tmp_path: Path) -> None:
    done = await sql("--data-dir", str(tmp_path / "none"), "--sql-port", free_port(), "SELECT 1")
    assert done.returncode == 1 and b"start `tracestone up` first" in done.stderr
    assert os.listdir(tmp_path) == []
