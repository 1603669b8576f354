"""Spans, traces and sessions of a real sender scored by a running Tracestone, and what `tracestone quality` says."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from support.running import data_folder, run_command, tracestone_up
from support.telemetry import export_request, otlp_span
from tracestone.schema import clock

NAMED = "name = 'answer'"
SCORERS: list[dict[str, Any]] = [
    {"name": "broken", "kind": "error", "parameters": {}, "online": {"target": "trace"}},
    {
        "name": "broken-span",
        "kind": "error",
        "parameters": {},
        "online": {"target": "span", "filter": "name = 'answer'"},
    },
    {"name": "polite-talk", "kind": "refusal", "parameters": {}, "online": {"target": "session", "idle_seconds": 1}},
]


@pytest.mark.timeout(200)
async def test_every_kind_of_target_is_scored_and_told(tmp_path: Path) -> None:
    config = tmp_path / "tracestone.yaml"
    config.write_text(
        yaml.safe_dump({"scorers": SCORERS, "settle_ms": 200, "watch_interval_ms": 100}), encoding="utf-8"
    )
    with data_folder() as folder:
        async with tracestone_up(folder, f"--config={config}") as program:
            await program.ready()
            start = clock.now_ns() - 10**9
            for number in range(1, 5):
                said = {"session.id": "s", "input.value": "Where is it?", "output.value": "On its way."}
                spans = otlp_span(number, 1, start_ns=start, name="answer", attributes=said)
                body = export_request(spans).SerializeToString()
                headers = {"content-type": "application/x-protobuf"}
                async with httpx.AsyncClient() as http:
                    assert (await http.post(program.traces_url, content=body, headers=headers)).status_code == 200

            where = (f"--data-dir={folder}", f"--sql-port={program.ports['sql_port']}")
            wanted = {("broken", 4, 0.0), ("broken-span", 4, 0.0), ("polite-talk", 1, 0.0)}
            found: set[tuple[str, int, float]] = set()
            async with asyncio.timeout(60):
                while found != wanted:
                    await asyncio.sleep(0.5)
                    code, out, err = await run_command("quality", *where, "--format=json")
                    assert code == 0, err
                    rows = [json.loads(line) for line in out.splitlines()]
                    found = {(row["scorer"], row["verdicts"], row["estimate"]) for row in rows}
            assert all(row["low"] == row["estimate"] == row["high"] for row in rows)
            one = await run_command("quality", *where, "--scorer=broken", "--period=day", "--segments")
            assert one[0] == 0 and "broken" in one[1] and "polite-talk" not in one[1]

            here = f"--port={program.ports['port']}"
            told = await run_command("score", "estimate", "broken", "--since=2026-01-01", here)
            assert told[0] == 0 and told[1].startswith("4 of 4 targets are chosen"), told
            again = await run_command("score", "backfill", "broken", "--since=2026-01-01", "--yes", here)
            assert again[0] == 0 and "done: 4 taken up, 0 of them had no verdict yet." in again[1], again
            wrong = await run_command("score", "estimate", "broken", "--since=2026-01-01", "--filter=colour = 1", here)
            assert wrong[0] == 1 and "filter: colour is not a column of traces" in wrong[2], wrong
