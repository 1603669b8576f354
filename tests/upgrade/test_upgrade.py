"""A data folder that an earlier commit's code wrote is taken over by this code, and reads as it was.

`ed581d4.tar.xz` is written by write_folder.py: spans, logs, metrics, assessments and scorers of 21 November 2026, when
ClickHouse's migrations ended at 0008 and Postgres' at 0003, and a killed process's log with what it had not loaded.
"""

import asyncio
import json
import sys
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio

from support import producers
from support.running import Program, clean_environment, data_folder, run_command, tracestone_up
from support.telemetry import export_request, otlp_span
from tracestone.schema import clock, sqlfiles
from tracestone.schema.engines.embedded_postgres import EmbeddedPostgres

ARCHIVE = Path(__file__).with_name("ed581d4.tar.xz")
Row = dict[str, Any]
KEYS = {
    "spans": ("experiment_id", "trace_id", "span_id"),
    "traces": ("experiment_id", "trace_id"),
    "sessions": ("experiment_id", "session_id"),
    "logs": ("log_id",),
    "metrics": ("series_id", "time"),
    "assessments": ("assessment_id",),
    "experiments": ("experiment_id",),
}
# Read from the kept attributes when asked for, so by the newer map (docs/mapping.md).
CONTENT = (
    "input output input_messages output_messages system_instructions tool_definitions tool_arguments tool_result"
    " retrieval_documents"
).split()
# What a span from before has in the columns that came since, until `tracestone renormalise`.
NEW = {
    "convention": "",
    "cost_source": "",
    "in_progress": False,
    "map_version": 0,
    "token_semantics": "",
    "usage_details": {},
}
_LATE = f"{1:032x}"
_PROTOBUF = {"content-type": "application/x-protobuf"}


@asynccontextmanager
async def earlier_folder() -> AsyncIterator[Path]:
    """The data folder as that code left it."""
    with data_folder() as folder:
        with tarfile.open(ARCHIVE) as packed:
            packed.extractall(folder, filter="data")
        server = EmbeddedPostgres(folder / "postgres")
        connection = await asyncpg.connect(await server.start())
        await connection.execute((folder / "postgres.sql").read_text())
        await connection.close()
        await server.stop()
        yield folder


@dataclass
class Upgraded:
    """This code on that folder. `sent` are traces that were acknowledged from its start on."""

    program: Program
    folder: Path
    sent: list[str]

    def before(self, table: str) -> dict[tuple[Any, ...], Row]:
        """The rows of a table as the earlier code read them, by key."""
        return _by_key(table, json.loads((self.folder / "answers" / f"{table}.json").read_text()))

    async def now(self, table: str) -> dict[tuple[Any, ...], Row]:
        """The rows of a table as this code reads them, by key."""
        return _by_key(table, await self.program.sql(f"SELECT * FROM {table}"))


def _by_key(table: str, rows: list[Row]) -> dict[tuple[Any, ...], Row]:
    found = {tuple(row[name] for name in KEYS[table]): row for row in rows}
    assert len(found) == len(rows) > 0
    return found


@pytest_asyncio.fixture(scope="module")
async def upgraded() -> AsyncIterator[Upgraded]:
    """One upgrade for the module, with a sender that does not wait for its end."""
    async with earlier_folder() as folder, tracestone_up(folder) as program:
        here = Upgraded(program, folder, [])
        sending = asyncio.create_task(_send_until_ready(here))
        await program.ready()
        await sending
        yield here
        assert await program.stop() == 0


async def _send_until_ready(here: Upgraded) -> None:
    """Sends a trace again and again until five were taken."""
    async with httpx.AsyncClient() as http:
        while len(here.sent) < 5:
            number = 500 + len(here.sent)
            body = export_request(otlp_span(number, 1, start_ns=clock.now_ns()), service="new").SerializeToString()
            try:
                answer = await http.post(here.program.traces_url, headers=_PROTOBUF, content=body)
            except httpx.TransportError:
                await asyncio.sleep(0.02)
                continue
            if answer.status_code == 200:
                here.sent.append(f"{number:032x}")


@pytest.mark.parametrize("table", KEYS)
async def test_every_row_reads_as_it_was(upgraded: Upgraded, table: str) -> None:
    before, now = upgraded.before(table), await upgraded.now(table)
    differing = [
        (key, name, value, now[key][name])
        for key, row in before.items()
        for name, value in row.items()
        if now[key][name] != value and not _is_explained(table, key, name, value, now[key][name])
    ]
    assert differing == []


def _is_explained(table: str, key: tuple[Any, ...], name: str, before: Any, now: Any) -> bool:
    if table == "spans" and name in CONTENT:
        return before in ("", "[]") or _words(before) == _words(now)
    if (table, name) == ("sessions", "complete"):
        return not before  # half an hour has passed since
    # the log brought one more span of this trace
    return table == "traces" and key[1] == _LATE and name in ("span_count", "last_seen")


def _words(value: Any) -> Any:
    """Content without its form: JSON in texts is read, and what kind of part a text is may be known better now."""
    if isinstance(value, str) and value.startswith(("[", "{")):
        return _words(json.loads(value))
    if isinstance(value, dict):
        return {key: _words(item) for key, item in value.items() if key != "type"}
    return [_words(item) for item in value] if isinstance(value, list) else value


async def test_new_columns_are_empty_in_what_was_stored(upgraded: Upgraded) -> None:
    before, now = upgraded.before("spans"), await upgraded.now("spans")
    assert {name for row in now.values() for name in row} - {name for row in before.values() for name in row} == set(
        NEW
    )
    assert [key for key in before if {name: now[key][name] for name in NEW} != NEW] == []


async def test_what_waited_in_the_log_is_there_once(upgraded: Upgraded) -> None:
    rows = await upgraded.program.sql(
        "SELECT name, count() AS n FROM spans WHERE name IN ('late', 'in the log') GROUP BY name"
    )
    assert {row["name"]: int(row["n"]) for row in rows} == {"late": 1, "in the log": 1}
    (trace,) = await upgraded.program.sql(f"SELECT span_count, session_id FROM traces WHERE trace_id = '{_LATE}'")
    assert trace == {"span_count": 5, "session_id": "s-1"}


async def test_what_is_sent_from_the_start_on_is_stored_by_the_newest_map(upgraded: Upgraded) -> None:
    async with asyncio.timeout(30):
        while True:
            rows = await upgraded.program.sql("SELECT trace_id, map_version FROM spans WHERE service_name = 'new'")
            if len(rows) >= len(upgraded.sent):
                break
            await asyncio.sleep(0.2)
    assert sorted(row["trace_id"] for row in rows) == upgraded.sent
    assert all(row["map_version"] > 0 for row in rows)


async def test_scorers_and_the_history_are_there(upgraded: Upgraded) -> None:
    async with httpx.AsyncClient() as http:
        scorers = (await http.get(f"{upgraded.program.url}/api/v1/scorers")).json()["scorers"]
    assert [(scorer["name"], scorer["version"]) for scorer in scorers] == [("polite", 1)]
    rows = await upgraded.program.sql("SELECT version FROM schema_migrations ORDER BY version")
    newest = [migration.version for migration in sqlfiles.migrations("clickhouse")]
    assert [row["version"] for row in rows] == newest


async def test_renormalised_spans_are_what_they_would_be_if_they_came_today(upgraded: Upgraded) -> None:
    """The recorded requests are sent again, to an experiment of their own, and compared column by column."""
    async with httpx.AsyncClient(timeout=60) as http:
        for name in ("openllmetry-openai", "langfuse", "mlflow-native", "openinference-anthropic"):
            for request in producers.recording(name).requests:
                headers = {"content-type": "application/json", "x-mlflow-experiment-id": "0"}
                url = upgraded.program.traces_url.removesuffix("traces") + request.signal
                (await http.post(url, headers=headers, json=request.body)).raise_for_status()
    code, out, err = await run_command("renormalise", f"--data-dir={upgraded.folder}")
    assert (code, "done" in out) == (0, True), (out, err)
    for table, own in (("spans", "received_at"), ("traces", "last_seen")):
        before, now = upgraded.before(table), await upgraded.now(table)
        pairs = [(row, now[(0, *key[1:])]) for key, row in now.items() if key in before and (0, *key[1:]) in now]
        assert len(pairs) == sum(key[0] == 0 for key in now) > 50
        differing = [
            (row["trace_id"], name, row[name], today[name])
            for row, today in pairs
            for name in row.keys() - {own, "experiment_id"}
            if row[name] != today[name]
        ]
        assert differing == []


@pytest.mark.timeout(300)
async def test_spans_go_in_while_the_schema_is_brought_up_to_date() -> None:
    """As the earlier code hands them over, and its own statements recompute and read them, before, during and after."""
    async with earlier_folder() as folder:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(Path(__file__).with_name("online.py")),
            str(folder),
            stdout=asyncio.subprocess.PIPE,
            env=clean_environment({"PYTHONPATH": str(Path(__file__).parents[1])}),
        )
        out, _ = await process.communicate()
        assert process.returncode == 0
    told = json.loads(out.splitlines()[-1])
    sent = told["sent"]
    assert sent == told["changes"] + 2 > 10
    assert told["applied"] == len(sqlfiles.migrations("clickhouse")) + len(sqlfiles.migrations("postgres")) - 8 - 3
    assert told["stored"] == {"spans": 2 * sent, "traces": sent, "tokens": 2 * sent, "calls": sent}
    assert (told["read"], told["infos"], told["span_count"]) == (2 * sent, sent, 2 * sent)
