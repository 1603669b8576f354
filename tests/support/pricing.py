"""Prices usage by the SQL that prices spans."""

import json
from collections.abc import Sequence
from typing import Any

from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.prices.cost import Usage, around

_COUNTS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
_PARTS = ("input_audio_tokens", "input_image_tokens", "output_audio_tokens", "output_image_tokens", "images")


async def priced(columnar: Columnar, calls: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """(cost_input, cost_output, cost_total, cost_source, price_id) of each call; its fields are those of Usage."""
    texts = ", ".join(
        f"JSONExtractString(line, '{name}') AS {name}" for name in ("provider", "request_model", "response_model")
    )
    counts = ", ".join(f"JSONExtract(line, '{name}', 'Nullable(Int64)') AS {name}" for name in _COUNTS)
    parts = ", ".join(f"JSONExtractInt(line, '{name}') AS {name}" for name in _PARTS)
    steps = around(Usage(day="day", **{name: name for name in _PARTS}))
    sql = f"""
        SELECT priced AS cost FROM (
            {steps["before"]}
            SELECT toUInt32(JSONExtractUInt(line, 'experiment_id')) AS experiment_id,
                   toDate(JSONExtractString(line, 'day')) AS day, {texts}, {counts}, {parts}
            FROM (SELECT arrayJoin({{lines:Array(String)}}) AS line)
            {steps["after"]})"""
    lines = [json.dumps({"day": "2026-11-28", "input_tokens": 0, "output_tokens": 0} | call) for call in calls]
    rows = await columnar.query(sql, {"lines": lines}, {"short_circuit_function_evaluation": "disable"})
    names = ("cost_input", "cost_output", "cost_total", "cost_source", "price_id")
    return [dict(zip(names, row["cost"], strict=True)) for row in rows]
