"""The outbox: what changed in Postgres and has to appear in ClickHouse, delivered at least once.

A row is deleted in the same transaction that read it, after ClickHouse took it; a crash in between delivers
it again, which changes nothing because ClickHouse keeps the newest version of a row. A row that ClickHouse
refuses by itself is put off and tried again later, so that it never holds up the others.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tracestone.schema import sqlfiles
from tracestone.schema.assessments import value_number, value_text
from tracestone.schema.engines.columnar import Columnar, StatementFailed
from tracestone.schema.engines.postgres import Pool, Record, storage_errors
from tracestone.schema.prices.rows import clickhouse_row, price_of
from tracestone.schema.stores.prices import PriceTable

CHANNEL = "tracestone_outbox"
"""Postgres notifies here when there is something to deliver."""


@dataclass(frozen=True)
class Backlog:
    """What is not delivered: rows (counted up to 100,000), rows refused at least once, the last refusal."""

    rows: int
    refused: int
    last_error: str


class Outbox:
    """Delivers the outbox. Several processes may do so at once."""

    def __init__(self, pool: Pool, columnar: Columnar) -> None:
        self._pool = pool
        self._columnar = columnar
        self._sql = sqlfiles.queries("postgres", "outbox")

    async def deliver(self, limit: int, limit_bytes: int = 16 * 1024 * 1024) -> int:
        """Delivers the oldest rows that are due, bounded in number and size; returns how many, refused included.

        Raises StorageDown when either store is away; then nothing was taken off the queue.
        """
        with storage_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                claimed = await connection.fetch(self._sql["claim"], limit, limit_bytes)
                refused = await self._insert(claimed)
                for row_id, reason in refused.items():
                    await connection.execute(self._sql["refused"], row_id, reason)
                if any(row["relation"] == "model_prices" for row in claimed):
                    await PriceTable(self._columnar).reload()
                delivered = [row["id"] for row in claimed if row["id"] not in refused]
                await connection.execute(self._sql["delivered"], delivered)
                return len(claimed)

    async def backlog(self) -> Backlog:
        """What still has to be delivered. Raises StorageDown."""
        with storage_errors():
            row = await self._pool.fetchrow(self._sql["waiting"])
        return Backlog(0, 0, "") if row is None else Backlog(row["rows"], row["refused"], row["last_error"])

    async def prices_waiting(self) -> bool:
        """Whether there are prices by which ClickHouse does not price yet. Raises StorageDown."""
        with storage_errors():
            return bool(await self._pool.fetchval(self._sql["prices_waiting"]))

    async def _insert(self, claimed: Sequence[Record]) -> dict[int, str]:
        refused: dict[int, str] = {}
        for relation, (table, convert) in _RELATIONS.items():
            rows = [row for row in claimed if row["relation"] == relation]
            if not rows:
                continue
            try:
                await self._insert_into(table, [convert(row["payload"]) for row in rows])
            except StatementFailed:
                for row in rows:
                    try:
                        await self._insert_into(table, [convert(row["payload"])])
                    except StatementFailed as error:
                        refused[row["id"]] = str(error)
        return refused

    async def _insert_into(self, table: str, rows: list[dict[str, Any]]) -> None:
        payload = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode()
        await self._columnar.insert_bytes(table, payload, "JSONEachRow", {"date_time_input_format": "best_effort"})


def _assessment_row(payload: Mapping[str, Any]) -> dict[str, Any]:
    as_they_are = (
        "assessment_id experiment_id target_type trace_id span_id session_id name kind error_code rationale "
        "source_type source_id scorer_name scorer_version probability cost_usd input_tokens output_tokens "
        "metadata overrides valid deleted"
    )
    code, message = payload["error_code"], payload["error_message"]
    return {column: payload[column] for column in as_they_are.split()} | {
        "value": value_text(payload["value"]),
        "value_number": value_number(payload["value"]),
        "error": f"{code}: {message}" if message else code,
        "target_seen_ns": payload.get("target_seen_ns") or 0,  # absent in what was written before it was kept
        "created_at": _moment(payload["created_at_ms"]),
        "updated_at": _moment(payload["updated_at_ms"]),
        "version": payload["revision"],
    }


def _experiment_row(payload: Mapping[str, Any]) -> dict[str, Any]:
    as_they_are = "experiment_id name lifecycle_stage tags deleted"
    return {column: payload[column] for column in as_they_are.split()} | {
        "artifact_location": payload["artifact_location"] or f"mlflow-artifacts:/{payload['experiment_id']}",
        "created_at": _moment(payload["creation_time_ms"]),
        "updated_at": _moment(payload["last_update_time_ms"]),
        "version": payload["revision"],
    }


def _price_row(payload: Mapping[str, Any]) -> dict[str, Any]:
    # Revisions count up from 1; the time in milliseconds that a packaged row has for a version is never compared with.
    row = clickhouse_row(price_of(payload), own=True)
    return row | {"version": payload["revision"], "deleted": payload["deleted"]}


def _moment(milliseconds: int) -> str:
    return f"{milliseconds // 1000}.{milliseconds % 1000:03}"


_RELATIONS: dict[str, tuple[str, Callable[[Mapping[str, Any]], dict[str, Any]]]] = {
    "assessments": ("assessment_rows", _assessment_row),
    "experiments": ("experiment_rows", _experiment_row),
    "model_prices": ("model_price_rows", _price_row),
}
