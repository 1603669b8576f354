"""Scoring as `tracestone up` runs it: settings in, verdicts out."""

import asyncio
import json
from typing import Any

import pytest

from support.openai_server import Answer, OpenAIServer
from support.stored_traces import Row, numbered, store
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.errors import StartRefused
from tracestone.schema.settings import Settings
from tracestone.schema.stores.assessments import AssessmentStore
from tracestone.schema.stores.scorers import ScorerStore
from tracestone.schema.stores.spans import SpanStore
from tracestone.scoring.app import Scoring


def scoring(pool: Pool, columnar: Columnar, **fields: Any) -> Scoring:
    settings = Settings(watch_interval_ms=50, settle_ms=0, **fields)
    return Scoring(pool, columnar, AssessmentStore(pool), SpanStore(columnar), settings)


async def test_live_traffic_is_scored_from_the_settings(
    pool: Pool, columnar: Columnar, provider_server: OpenAIServer
) -> None:
    provider_server.answer = lambda body: Answer(json.dumps({"rationale": "Fine.", "value": 4}), 100, 10)
    app = scoring(
        pool,
        columnar,
        scorers=[
            {
                "name": "quality",
                "kind": "judge",
                "parameters": {
                    "instructions": "How good is {{ outputs }} for {{ inputs }}? See {{ trace }}.",
                    "model": "openai/gpt-4o-mini",
                    "api_base": provider_server.url,
                    "verdict": {"type": "number", "minimum": 1, "maximum": 5},
                },
                "online": {"filter": "state = 'OK'"},
            },
            {"name": "failed", "kind": "error", "online": {"experiment": 0}},
        ],
    )
    await app.start()
    try:
        assert app.health()["ok"]
        await store(columnar, [Row(numbered(1), written_ago=0), Row(numbered(2), written_ago=0, state="ERROR")])
        found: dict[str, Any] = {}
        async with asyncio.timeout(60):
            while sum(len(verdicts) for verdicts in found.values()) < 3:
                await asyncio.sleep(0.05)
                found = await AssessmentStore(pool).by_traces([(0, numbered(1)), (0, numbered(2))])
        assert app.health() == {"ok": True, "error": "", "running": 0}
    finally:
        await app.stop()
        await app.stop()
    verdicts = {(v.trace_id, v.name): v.value for verdicts in found.values() for v in verdicts}
    assert verdicts == {
        (numbered(1), "quality"): 4,
        (numbered(1), "failed"): False,
        (numbered(2), "failed"): True,
    }


async def test_an_invalid_scorer_refuses_the_start(pool: Pool, columnar: Columnar) -> None:
    app = scoring(pool, columnar, scorers=[{"name": "x", "kind": "error", "online": {"filter": "nope = 1"}}])
    with pytest.raises(StartRefused, match="scorers.0.filter cannot be used: nope is not a column of traces"):
        await app.start()
    await app.stop()


async def test_stopping_leaves_no_task_behind(pool: Pool, columnar: Columnar) -> None:
    before = asyncio.all_tasks()
    app = scoring(pool, columnar)
    await app.start()
    await asyncio.sleep(0.1)
    await app.stop()
    assert asyncio.all_tasks() - before == set()


async def test_a_scorer_that_left_the_file_goes_on_and_is_told_of(
    pool: Pool, columnar: Columnar, caplog: pytest.LogCaptureFixture
) -> None:
    both = [{"name": name, "kind": "error", "online": {}} for name in ("stays", "leaves")]
    with caplog.at_level("INFO", "tracestone.scoring.app"):
        for documents in (both, both[:1]):
            app = scoring(pool, columnar, scorers=documents)
            await app.start()
            await app.stop()
    assert [record.__dict__["scorers"] for record in caplog.records] == ["leaves"]
    assert {config.scorer_name for config in await ScorerStore(pool).configs()} == {"stays", "leaves"}
