"""A judge from the configuration file of `tracestone up` to the assessments in SQL."""

import asyncio
import json
import tempfile
from pathlib import Path

import pytest

from support.judging import KEY, chosen, judging_half, send_dialogues, verdicts
from support.openai_server import Answer, openai_server
from support.program import Program

TRACES = 12
ONE_CALL = 100 * 0.15e-6 + 10 * 0.6e-6
COLUMNS = """
    trace_id, value, value_number, rationale, error, source_type, source_id, scorer_name, scorer_version,
    probability, cost_usd, input_tokens, output_tokens
"""


@pytest.mark.timeout(180)
async def test_half_of_live_traffic_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with (
        openai_server(require_key=KEY) as server,
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as around,
    ):
        Path(around).chmod(0o755)  # Postgres may run as another user
        server.answer = lambda body: Answer(json.dumps({"rationale": "It is kind.", "value": True}), 100, 10)
        program = Program(Path(around) / "data", config=judging_half(server, Path(around)))
        try:
            await program.start()
            await send_dialogues(program, TRACES)
            async with asyncio.timeout(60):
                while not (expected := await chosen(program)) or len(await verdicts(program)) < len(expected):
                    await asyncio.sleep(0.1)
            assert 0 < len(expected) < TRACES
            found = await verdicts(program, COLUMNS)
            prompts = [json.dumps(received.body["messages"]) for received in server.received]
            assert await program.terminate() == 0
        finally:
            await program.close()
    assert [row[0] for row in found] == expected
    verdict = ["true", 1, "It is kind.", "", "LLM_JUDGE", "openai/gpt-4o-mini", "polite", 1]
    for row in found:
        assert row[1:9] == verdict
        assert row[9:11] == [0.5, pytest.approx(ONE_CALL)]
        assert [int(tokens) for tokens in row[11:]] == [100, 10]
    assert len(prompts) == len(expected)
    for trace_id in expected:
        assert sum(f"Parcel {int(trace_id, 16)} is on its way." in prompt for prompt in prompts) == 1
