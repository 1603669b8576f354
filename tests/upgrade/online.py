"""Migrates an earlier folder while spans go in as the earlier code hands them over, and tells what became of them.

With every statement that changes a table or a view of spans or traces, spans are sent at the same time.

    PYTHONPATH=tests python tests/upgrade/online.py FOLDER

A process of its own, since chDB opens one folder in a process. The statements that recompute and read traces are the
earlier code's: until the last of its collectors has been replaced they run on the newer schema.
"""

import asyncio
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf.internal.encoder import _VarintBytes

from support.telemetry import export_request, otlp_span
from tracestone.protos.ingest.v1.traces_pb2 import Traces
from tracestone.schema import clock
from tracestone.schema.engines.columnar import Columnar, Settings
from tracestone.schema.engines.embedded_postgres import EmbeddedPostgres
from tracestone.schema.engines.postgres import open_pool
from tracestone.schema.migrate import migrate
from tracestone.schema.stores.spans import SpanStore

EXPERIMENT, FIRST = 77, 1000


class _Earlier:
    """Inserts and recomputes as the earlier code does."""

    def __init__(self, columnar: Columnar, folder: Path) -> None:
        self.columnar = columnar
        self._spans = SpanStore(columnar)
        self.sql = {name: query for file in ("ingest", "spans") for name, query in _queries(folder / f"{file}.sql")}
        self.sent = 0

    async def send(self) -> None:
        """A trace of two spans."""
        trace = FIRST + self.sent
        began = clock.now_ns()
        attributes = {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 2, "session.id": "online"}
        request = export_request(
            otlp_span(trace, 1, start_ns=began), otlp_span(trace, 2, 1, start_ns=began, attributes=attributes)
        )
        record = (
            request.SerializeToString() + Traces(experiment_ids=[EXPERIMENT], received_at=began).SerializeToString()
        )
        await self._spans.insert(_VarintBytes(len(record)) + record, f"online/{trace}")
        await self.columnar.command(
            self.sql["refresh_traces"],
            {"batches": [f"online/{trace}"], "share": 0, "shares": 1},
            {"max_threads": 1, "allow_reorder_prewhere_conditions": 0},
        )
        self.sent += 1


class _Busy(Columnar):
    """Migrates in no quiet moment."""

    earlier: _Earlier
    changes = 0

    async def command(
        self, sql: str, parameters: Mapping[str, Any] | None = None, settings: Settings | None = None
    ) -> None:
        """The statement, and a trace beside it."""
        if re.search(r"^(?:ALTER|CREATE|DROP) .*\b(?:span|trace)s?(?:_|\b)", sql, flags=re.MULTILINE):
            self.changes += 1
            await asyncio.gather(super().command(sql, parameters, settings), self.earlier.send())
        else:
            await super().command(sql, parameters, settings)


def _queries(file: Path) -> list[tuple[str, str]]:
    parts = re.split(r"^-- name: (\w+)$", file.read_text(), flags=re.MULTILINE)
    return list(zip(parts[1::2], (body.strip().removesuffix(";") for body in parts[2::2]), strict=True))


async def main(folder: Path) -> None:
    """Prints how many traces were sent, and what is stored of them."""
    server = EmbeddedPostgres(folder / "postgres")
    pool = await open_pool(await server.start())
    columnar = Columnar(f"chdb://{folder}/clickhouse", database="tracestone")
    await columnar.open()
    earlier = _Earlier(columnar, folder / "queries")
    await earlier.send()
    busy = _Busy(columnar.url, database="tracestone")
    busy.earlier = earlier
    await busy.open()
    applied = await migrate(pool, busy)
    await earlier.send()
    where = {"experiment_id": EXPERIMENT, "trace_ids": [f"{FIRST + n:032x}" for n in range(earlier.sent)]}
    read = await columnar.query(earlier.sql["spans_of_traces"], {**where, "span_id": "", "limit": 10})
    infos = await columnar.query(earlier.sql["trace_infos"], where)
    rows = await columnar.query(
        "SELECT count() AS spans, uniqExact(trace_id) AS traces, sum(input_tokens) AS tokens,"
        f" countIf(session_id = 'online') AS calls FROM spans WHERE experiment_id = {EXPERIMENT}"
    )
    totals = await columnar.query(f"SELECT sum(span_count) AS s FROM traces WHERE experiment_id = {EXPERIMENT}")
    told = {
        "changes": busy.changes,
        "sent": earlier.sent,
        "applied": len(applied),
        "stored": rows[0],
        "read": len(read),
        "infos": len(infos),
        "span_count": totals[0]["s"],
    }
    print(json.dumps(told))
    await busy.close()
    await columnar.close()
    await pool.close()
    await server.stop()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
