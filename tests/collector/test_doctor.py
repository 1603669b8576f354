"""`tracestone doctor`: what it says of what is wrong, and of a Tracestone that works."""

import json
import socket
from collections.abc import Iterable
from pathlib import Path

import pytest

from support.engines import fresh_stores
from support.program import Program
from support.running import run_command
from tracestone.collector.doctor import machine, providers, stores
from tracestone.collector.doctor.finding import Finding
from tracestone.schema import clock, sqlfiles
from tracestone.schema.settings import GIB, Settings


def _states(findings: Iterable[Finding]) -> list[tuple[str, str]]:
    return [(each.subject, each.state) for each in findings]


def test_a_folder_that_can_be_written(tmp_path: Path) -> None:
    found = list(machine.folder(Settings(data_dir=tmp_path / "new" / "data")))
    assert _states(found)[0] == ("data folder", "ok")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("folder", ["/proc/tracestone", "/etc/hostname/tracestone"])
def test_a_folder_that_cannot_be_written(folder: str) -> None:
    (found,) = machine.folder(Settings(data_dir=Path(folder)))
    assert (found.subject, found.state) == ("data folder", "problem")
    assert "data_dir" in found.advice


def test_too_little_room_for_the_logs(tmp_path: Path) -> None:
    found = list(machine.folder(Settings(data_dir=tmp_path, wal_max_bytes=10**7 * GIB)))
    assert _states(found) == [("data folder", "ok"), ("disk", "problem")]


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = Settings(otlp_grpc_port=0, otlp_http_port=taken.getsockname()[1], port=0, sql_port=0)
        (found,) = machine.ports(settings, running=False)
        assert found.state == "problem"
        assert "otlp_http_port" in found.says
        assert "otlp_http_port" in found.advice
        assert _states(machine.ports(settings, running=True)) == [("ports", "ok")]


async def test_a_postgres_of_ours_and_an_empty_one(postgres_server: str, chdb_url: str) -> None:
    empty = [each async for each in stores.servers(Settings(postgres_url=postgres_server))]
    assert _states(empty) == [("postgres", "warning"), ("postgres", "ok")]
    assert "tracestone migrate" in empty[0].advice
    async with fresh_stores(postgres_server, chdb_url) as (pool, columnar):
        assert {each.state for each in await stores._look_at_postgres(pool)} == {"ok"}
        assert {each.state for each in await stores._look_at_clickhouse(columnar, columnar.database)} == {"ok"}
        (empty_one, _) = await stores._look_at_clickhouse(columnar, "nowhere")
        assert empty_one.state == "warning"
        await pool.execute(
            "INSERT INTO tracestone.schema_migrations (version, name, checksum) VALUES (9999, 'later', 'x')"
        )
        newer = await stores._look_at_postgres(pool)
        assert "problem" in {each.state for each in newer}
        assert any("9999" in each.says and "Upgrade" in each.advice for each in newer)


async def test_servers_that_do_not_answer_are_told_without_their_passwords() -> None:
    settings = Settings(
        postgres_url="postgresql://me:hunter2@127.0.0.1:9/db", clickhouse_url="http://me:hunter2@127.0.0.1:9/"
    )
    found = [each async for each in stores.servers(settings)]
    assert _states(found) == [("postgres", "problem"), ("clickhouse", "problem")]
    assert "hunter2" not in repr(found)


def test_clocks_that_differ() -> None:
    now = clock.now_ns()
    assert stores._skew("postgres", now, now - 10**9, now + 10**9) == []
    (found,) = stores._skew("postgres", now + 90 * 10**9, now, now)
    assert (found.state, "90 s" in found.says) == ("warning", True)


def test_keys_of_providers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-secret")
    models = {"a": "openai/gpt-4o-mini", "b": "anthropic/claude-sonnet-4-5"}
    scorers = [{"name": name, "kind": "judge", "parameters": {"model": model}} for name, model in models.items()]
    scorers.append({"name": "own", "kind": "judge", "parameters": {"model": "openai/x", "api_base": "http://x"}})
    found = list(providers.keys(Settings(scorers=scorers)))
    assert [each.state for each in found] == ["ok", "problem"]
    assert "OPENAI_API_KEY" in found[1].says
    assert "secret" not in repr(found)


def test_every_need_of_our_statements_is_one() -> None:
    """What doctor looks for in a ClickHouse is what our SQL uses, so that it names nothing that is needed no more."""
    schema = Path(sqlfiles.__file__).parent
    used = "\n".join(
        path.read_text(encoding="utf-8")
        for pattern in ("sql/clickhouse/**/*.sql", "mapping/**/*.tmpl", "stores/*.py", "mapping/*.py")
        for path in schema.glob(pattern)
        if path.name != "doctor.sql"
    )
    text = (schema / "sql/clickhouse/queries/doctor.sql").read_text(encoding="utf-8")
    named = [part for line in text.splitlines() if "['" in line for part in line.split("'")[1::2]]
    assert [name for name in named if name not in used] == ["Parquet"]


async def test_a_tracestone_that_runs_and_one_that_does_not(tmp_path: Path) -> None:
    program = Program(tmp_path / "data")
    flags = [f"--data-dir={tmp_path / 'data'}", f"--port={program.port}", "--json"]
    try:
        await program.start()
        code, out, err = await run_command("doctor", *flags)
        found = [json.loads(line) for line in out.splitlines()]
        assert code == 0, (found, err)
        assert {each["subject"]: each["state"] for each in found}["tracestone"] == "ok"
        code, out, err = await run_command("status", *flags, "--seconds=0.2")
        told = json.loads(out)
        assert (code, told["broken"], set(told["signals"])) == (0, {}, {"traces", "logs", "metrics"}), err
        assert told["memory_bytes"] > 0
        code, out, _ = await run_command("doctor", f"--data-dir={tmp_path / 'data'}", "--port=9")
        assert code == 1
        assert "PROBLEM  tracestone" in out
    finally:
        await program.close()
