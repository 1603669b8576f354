"""The command line, as a user runs it: real processes, real ports, real signals."""

import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, get_origin

import httpx
import pytest
import pytest_asyncio
import yaml

from support.running import (
    Program,
    clean_environment,
    command,
    data_folder,
    grpc_export,
    named_ports,
    postmaster,
    tracestone_up,
)
from support.telemetry import export_request, otlp_span
from tracestone.schema.settings import Settings

START = 1_790_000_000_000_000_000


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A data folder for all tests of the module, one after the other: the second start is faster than the first."""
    with data_folder() as made:
        yield made


@pytest_asyncio.fixture(scope="module")
async def program(folder: Path) -> AsyncIterator[Program]:
    """One Tracestone that runs while others are tried."""
    async with tracestone_up(folder / "shared") as started:
        await started.ready()
        yield started
        assert await started.stop() == 0


async def _run(*arguments: str, **environment: str) -> tuple[int, str, str]:
    """A command that ends by itself: exit code, standard output, standard error."""
    process = await asyncio.create_subprocess_exec(
        *command(*arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=clean_environment(environment),
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def _health(program: Program) -> tuple[int, dict[str, Any]]:
    async with httpx.AsyncClient(timeout=10) as http:
        answer = await http.get(f"{program.url}/health")
    return answer.status_code, answer.json()


async def test_it_says_where_everything_listens_and_that_it_is_ready(program: Program) -> None:
    assert program.out.count("tracestone ready") == 1
    told = "\n".join(program.out[: program.out.index("tracestone ready")])
    for number in program.ports.values():
        assert f"127.0.0.1:{number}" in told
    assert str(program.data_dir) in told
    assert program.out[-1] == "tracestone ready"


async def test_health_names_every_part(program: Program) -> None:
    status, body = await _health(program)
    assert (status, body["status"], body["broken"]) == (200, "ok", [])
    assert {"clickhouse", "postgres", "write_ahead_log", "loader", "mirror", "scoring", "grpc_otlp"} <= set(
        body["parts"]
    )
    assert all(part == {"ok": True, "problem": ""} for part in body["parts"].values())


async def test_a_data_folder_in_use_is_refused(program: Program) -> None:
    async with tracestone_up(program.data_dir) as second:
        assert await second.end() == 1
    assert second.err == [f"tracestone: The data folder {program.data_dir} is in use by another Tracestone."]
    assert second.out == []
    assert (await _health(program))[0] == 200


async def test_a_data_folder_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    async with tracestone_up(tmp_path / "file" / "data") as refused:
        assert await refused.end() == 1
    assert refused.err == [f"tracestone: The data folder {tmp_path}/file/data cannot be used: Not a directory."]


async def test_a_port_that_is_taken_is_refused(folder: Path) -> None:
    for name in ("otlp_grpc_port", "sql_port"):
        ports = named_ports()
        with socket.create_server(("127.0.0.1", ports[name])):
            async with tracestone_up(folder / "own", ports=ports) as refused:
                assert await refused.end() == 1
        sentence = refused.err[-1]
        assert [line for line in refused.err[:-1] if " info " not in line] == []  # the first of them migrated
        assert sentence.startswith("tracestone: ")
        assert sentence.endswith(f"cannot listen on 127.0.0.1:{ports[name]}: the port is taken.")
        assert "tracestone ready" not in refused.out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_it_cleanly(folder: Path, number: int) -> None:
    async with tracestone_up(folder / "own") as program:
        await program.ready()
        request = export_request(otlp_span(number, 1, start_ns=START)).SerializeToString()
        async with grpc_export(program.grpc_address) as export:
            assert await export(request) == b""
        assert await program.stop(number) == 0  # within the 10 s that stop() gives
        assert program.out[-1] == "tracestone stopping"
        assert [line for line in program.err if " info " not in line] == []
    assert postmaster(folder / "own") is None
    async with tracestone_up(folder / "own") as again:
        await again.ready()
        # It was acknowledged; whether it was loaded before the stop is another matter.
        async with asyncio.timeout(60):
            while not (rows := await again.sql(f"SELECT span_id FROM spans WHERE trace_id = '{number:032x}'")):
                await asyncio.sleep(0.1)
        assert len(rows) == 1
        assert await again.stop() == 0


async def test_a_signal_while_it_starts(folder: Path) -> None:
    async with tracestone_up(folder / "own") as program:
        while not (folder / "own" / "postgres").exists():
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        assert await program.stop(signal.SIGTERM) in (0, -signal.SIGTERM)


async def test_health_names_the_part_that_is_broken(folder: Path) -> None:
    async with tracestone_up(folder / "broken") as program:
        await program.ready()
        number = postmaster(folder / "broken")
        assert number is not None
        # Stopped, not killed: a postmaster that is gone is started anew.
        os.kill(number, signal.SIGSTOP)
        children = [int(each) for each in _children(number)]
        for child in children:
            os.kill(child, signal.SIGSTOP)
        try:
            status, body = await _health(program)
            assert status == 503
            assert body["status"] == "unavailable"
            assert "postgres" in body["broken"]
            assert body["parts"]["postgres"]["problem"]
            assert body["parts"]["clickhouse"] == {"ok": True, "problem": ""}
        finally:
            for child in [*children, number]:
                os.kill(child, signal.SIGCONT)
        async with asyncio.timeout(30):
            while (await _health(program))[0] != 200:
                await asyncio.sleep(0.1)
        assert await program.stop() == 0


def _children(number: int) -> list[str]:
    return Path(f"/proc/{number}/task/{number}/children").read_text().split()


@pytest.mark.parametrize("source", ["flag", "environment", "file"])
async def test_a_setting_from_each_source(tmp_path: Path, source: str) -> None:
    values = {"port": 5151, "data_dir": "/somewhere", "log_level": "debug", "batch_max_age_ms": 77}
    file = tmp_path / "tracestone.yaml"
    file.write_text(yaml.safe_dump(values if source == "file" else {}))
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in values.items()] if source == "flag" else []
    environment = (
        {f"TRACESTONE_{name.upper()}": str(value) for name, value in values.items()} if source == "environment" else {}
    )
    code, out, err = await _run("config", f"--config={file}", *flags, **environment)
    assert (code, err) == (0, "")
    shown = yaml.safe_load(out)
    assert {name: shown[name] for name in values} == values
    assert set(shown) == set(Settings.model_fields)


async def test_flag_before_environment_before_file(tmp_path: Path) -> None:
    file = tmp_path / "tracestone.yaml"
    file.write_text(yaml.safe_dump({"port": 1, "sql_port": 2, "otlp_http_port": 3}))
    environment = {"TRACESTONE_PORT": "11", "TRACESTONE_SQL_PORT": "12", "TRACESTONE_CONFIG": str(file)}
    code, out, _ = await _run("config", "--port=21", **environment)
    shown = yaml.safe_load(out)
    assert (code, shown["port"], shown["sql_port"], shown["otlp_http_port"]) == (0, 21, 12, 3)


async def test_config_hides_secrets() -> None:
    environment = {
        "TRACESTONE_POSTGRES_URL": "postgresql://me:hunter2@db/x",
        "TRACESTONE_CLICKHOUSE_URL": "https://me:hunter3@ch:8443/",
    }
    code, out, err = await _run("config", **environment)
    assert code == 0
    assert "hunter" not in out + err
    assert yaml.safe_load(out)["postgres_url"] == "**********"


@pytest.mark.parametrize(
    ("arguments", "file", "sentence"),
    [
        (["--port=99999"], "", "The setting port cannot be used: "),
        (["--port=many"], "", "The setting port cannot be used: "),
        ([], "prot: 5000", "The setting prot cannot be used: "),
        ([], "- a list", "must hold a mapping of settings."),
        ([], "a: [unclosed", "is not valid YAML."),
        ([], "1: 2", "must hold a mapping of settings."),
        (["--postgres-url=hunter2"], "", "The setting postgres_url cannot be used: it must be an address"),
        (["--clickhouse-url=hunter2"], "", "The setting clickhouse_url cannot be used: it must be an address"),
        (["--postgres-url=postgresql://me:hunter2@127.0.0.1:1/x", "--wal-max-bytes=1"], "", "wal_max_bytes"),
    ],
)
async def test_a_bad_setting_is_one_sentence(tmp_path: Path, arguments: list[str], file: str, sentence: str) -> None:
    path = tmp_path / "tracestone.yaml"
    path.write_text(file)
    code, out, err = await _run("config", f"--config={path}", *arguments)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert sentence in err
    assert "hunter2" not in err


async def test_a_bad_list_in_the_environment_is_one_sentence() -> None:
    code, out, err = await _run("up", TRACESTONE_SCORERS="[bad hunter2")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "The setting scorers cannot be used: its environment variable is not valid JSON." in err
    assert "hunter2" not in err


async def test_a_missing_file_and_an_absent_postgres(tmp_path: Path) -> None:
    code, _, err = await _run("config", f"--config={tmp_path}/none.yaml")
    assert (code, err) == (
        1,
        f"tracestone: The configuration file {tmp_path}/none.yaml cannot be read: No such file or directory.\n",
    )
    code, _, err = await _run(
        "up", f"--data-dir={tmp_path}/data", "--postgres-url=postgresql://me:hunter2@127.0.0.1:1/x"
    )
    assert (code, err.count("\n")) == (1, 1)
    assert "Postgres cannot be reached" in err
    assert "hunter2" not in err


async def test_migrate_twice(folder: Path) -> None:
    target = f"--data-dir={folder / 'migrated'}"
    code, out, _ = await _run("migrate", target)
    assert code == 0
    assert "clickhouse 0001 " in out
    assert "postgres 0001 " in out
    code, out, err = await _run("migrate", target)
    assert (code, out, err) == (0, "the schema is up to date\n", "")


async def test_sql_of_the_running_program(program: Program) -> None:
    code, out, err = await _run(
        "sql", f"--sql-port={program.ports['sql_port']}", "--format=json", "SELECT 1 + 1 AS two"
    )
    assert (code, err) == (0, "")
    assert "2" in json.dumps(json.loads(out))


async def test_help_tells_every_setting() -> None:
    code, out, _ = await _run("up", "--help")
    assert code == 0
    for name, field in Settings.model_fields.items():
        # Lists are no flags, and told of below them.
        spelling = f"\n  {name}: " if get_origin(field.annotation) is list else f"--{name.replace('_', '-')} "
        assert spelling in out
        assert (field.description or "").split()[0] in out


async def test_the_demo_is_a_setting_like_any_other(tmp_path: Path) -> None:
    file = tmp_path / "tracestone.yaml"
    file.write_text("demo: true")
    for arguments, environment, expected in (
        ([], {}, False),
        (["--demo"], {}, True),
        ([], {"TRACESTONE_DEMO": "1"}, True),
        ([f"--config={file}"], {}, True),
        (["--no-demo", f"--config={file}"], {"TRACESTONE_DEMO": "1"}, False),
    ):
        code, out, err = await _run("config", *arguments, **environment)
        assert (code, err, yaml.safe_load(out)["demo"]) == (0, "", expected)


async def test_the_demo_has_no_certificate_to_show(tmp_path: Path) -> None:
    files = [f"--tls-{name}-file={tmp_path / name}" for name in ("cert", "key", "client-ca")]
    code, _, err = await _run("up", "--demo", f"--data-dir={tmp_path / 'data'}", *files)
    assert (code, err) == (
        1,
        "tracestone: The demo has no certificate to show; leave out the setting demo or tls_client_ca_file.\n",
    )


async def test_the_demo_sends_traces(folder: Path) -> None:
    async with tracestone_up(folder / "own", "--demo") as program:
        await program.ready()
        async with asyncio.timeout(60):
            while int((await program.sql("SELECT count() AS n FROM traces WHERE complete"))[0]["n"]) < 3:
                await asyncio.sleep(0.2)
        assert await program.stop() == 0
