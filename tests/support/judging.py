"""A judge in the configuration of a running Tracestone, traces for it, and what SQL says of them."""

from pathlib import Path
from typing import Any

import httpx
import yaml

from support.openai_server import OpenAIServer
from support.program import Program
from support.telemetry import export_request, otlp_span
from tracestone.schema import clock

KEY = "sk-local-test-0123456789"
_CHOSEN = """
SELECT trace_id FROM traces
WHERE bitShiftRight(sipHash64(concat('test', char(0), trace_id)), 11) < toUInt64(pow(2, 52))
  AND experiment_id != 2147483647
ORDER BY trace_id
"""


def judging_half(server: OpenAIServer, folder: Path) -> Path:
    """A configuration file whose judge looks at half of all traces, on this server."""
    judge = {
        "name": "polite",
        "kind": "judge",
        "parameters": {
            "instructions": "Is {{ outputs }} a polite answer to {{ inputs }}?",
            "model": "openai/gpt-4o-mini",
            "api_base": server.url,
        },
        "online": {"sample_rate": 0.5, "salt": "test"},
    }
    file = folder / "tracestone.yaml"
    file.write_text(yaml.safe_dump({"scorers": [judge], "settle_ms": 0, "watch_interval_ms": 50}))
    return file


async def send_dialogues(program: Program, count: int) -> None:
    """Traces of one span, over OTLP/HTTP."""
    spans = [
        otlp_span(
            number,
            number,
            start_ns=clock.now_ns(),
            attributes={"input.value": "Where is my parcel?", "output.value": f"Parcel {number} is on its way."},
        )
        for number in range(1, count + 1)
    ]
    async with httpx.AsyncClient() as client:
        answer = await client.post(
            program.http,
            content=export_request(*spans).SerializeToString(),
            headers={"content-type": "application/x-protobuf"},
        )
    assert answer.status_code == 200, answer.text


async def chosen(program: Program) -> list[str]:
    """The traces that a judge of `judging_half` looks at, by the formula of docs/scoring.md."""
    return [row[0] for row in await program.sql(_CHOSEN)]


async def verdicts(program: Program, columns: str = "trace_id") -> list[list[Any]]:
    """Every assessment, in order of trace."""
    return await program.sql(f"SELECT {columns} FROM assessments ORDER BY trace_id")
