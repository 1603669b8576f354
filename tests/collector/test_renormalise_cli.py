"""`tracestone renormalise`, beside a running Tracestone and without one."""

import json
import re
import shlex
from pathlib import Path

import httpx
import pytest

from support.running import data_folder, run_command, tracestone_up
from support.telemetry import export_request, otlp_span

START = 1_790_000_000_000_000_000


@pytest.mark.timeout(200)
async def test_a_map_of_ones_own_reaches_what_is_stored(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/mapping.md").read_text(encoding="utf-8")
    (dialects,) = re.findall(r"```csv\n(.*?)```", page, flags=re.DOTALL)
    (tmp_path / "dialects.csv").write_text(dialects)
    (tmp_path / "conventions.csv").write_text("convention,scopes,tokens,needs\nacme,acme-sdk,exclusive,\n")
    sent = {"acme.talk": "t-1", "acme.usage": '{"read": 12}'}
    with data_folder() as folder:
        where = f"--data-dir={folder}"
        async with tracestone_up(folder) as program:
            await program.ready()
            request = export_request(otlp_span(1, 1, start_ns=START, attributes=sent), service="checkout")
            async with httpx.AsyncClient() as http:
                answer = await http.post(
                    program.traces_url,
                    content=request.SerializeToString(),
                    headers={"content-type": "application/x-protobuf"},
                )
                assert answer.status_code == 200
                assert (await http.get(f"{program.url}/traces/{1:032x}", follow_redirects=True)).status_code == 200
            commands = re.findall(r"^tracestone renormalise.*$", page, flags=re.MULTILINE)
            assert len(commands) == 2
            for command in commands:
                code, out, err = await run_command(*shlex.split(command)[1:], where)
                assert (code, "0 changed; done" in out) == (0, True), err
            assert await program.stop() == 0

        # Now nothing runs: the command opens the stores itself.
        code, out, err = await run_command("renormalise", where, f"--mapping-dir={tmp_path}")
        assert (code, "1 of 1 spans (100%)" in out, "1 changed; done" in out) == (0, True, True), (out, err)
        code, out, err = await run_command(
            "sql", where, "--format=json", "SELECT s.session_id, s.input_tokens, t.session_id AS of_trace"
            " FROM spans AS s JOIN traces AS t ON s.trace_id = t.trace_id",
        )  # fmt: skip
        assert json.loads(out) == {"session_id": "t-1", "input_tokens": 12, "of_trace": "t-1"}, err
        code, _, err = await run_command("renormalise", where, "--cancel")
        assert (code, "No renormalise is at work." in err) == (1, True)
