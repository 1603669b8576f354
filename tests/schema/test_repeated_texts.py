"""What an agent repeats with every model call is stored about once, and read back as it was sent (C9)."""

import json
import random

from support.telemetry import export_request, otlp_span, store
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.stores.spans import SpanStore

START = 1_790_000_000_000_000_000
SECOND = 1_000_000_000


def _message(rng: random.Random) -> str:
    """A message that nothing compresses to less than three quarters; not as json.dumps would write it."""
    return f'{{"role":  "user", "parts":[{{"type":"text","content":{json.dumps(rng.randbytes(750).hex())}}}]}}'


async def test_histories_are_stored_once_and_read_back_byte_for_byte(columnar: Columnar) -> None:
    # A part as small as a test's is kept in one file, where blocks are of 1 MiB.
    await columnar.command("ALTER TABLE span_rows MODIFY SETTING min_bytes_for_wide_part = 1")
    spans, rng = SpanStore(columnar), random.Random(4)
    histories: dict[int, list[str]] = {1: [], 2: [], 3: []}
    sent: dict[tuple[int, int], str] = {}
    batch = []
    for turn in range(60):
        for trace, history in histories.items():
            history += [_message(rng), _message(rng)]
            sent[trace, turn] = f"[{' ,'.join(history)}]"
            start = START + turn * 6 * SECOND + trace
            attributes = {"gen_ai.operation.name": "chat", "gen_ai.input.messages": sent[trace, turn]}
            batch.append(otlp_span(trace, trace * 1000 + turn, start_ns=start, attributes=attributes))
        if turn % 20 == 19:
            await store(spans, export_request(*batch), 1)
            batch.clear()
    await columnar.command("OPTIMIZE TABLE span_rows FINAL")

    found = await columnar.query(
        "SELECT sum(column_data_compressed_bytes) AS bytes FROM system.parts_columns"
        " WHERE active AND database = currentDatabase() AND table = 'span_rows' AND column = 'attributes_text'"
    )
    raw = sum(map(len, sent.values()))
    # The texts are hex: half of the raw bytes, if nothing that repeats is found.
    assert raw > 10_000_000
    assert 0 < found[0]["bytes"] < raw / 15
    one = await spans.span(1, f"{2:032x}", f"{2059:016x}")
    assert one is not None
    assert one.attributes["gen_ai.input.messages"] == sent[2, 59]
    rows = await columnar.query("SELECT span_id, attributes['gen_ai.input.messages'] AS text FROM spans")
    assert {row["span_id"]: row["text"] for row in rows} == {
        f"{trace * 1000 + turn:016x}": text for (trace, turn), text in sent.items()
    }
