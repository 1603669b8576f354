"""Log records in ClickHouse: handing over a batch, reading those of a span, and the evaluations among them."""

import json
from collections.abc import Collection, Sequence
from typing import Any

from tracestone.schema import sqlfiles
from tracestone.schema.engines.columnar import Columnar, Row
from tracestone.schema.logs import EvaluationEvent, LogEvent, SpanPlace
from tracestone.schema.stores.otlp import OtlpTable

_QUERIES = sqlfiles.queries("clickhouse", "logs")
_MAPS = ("attributes_string", "attributes_int", "attributes_float", "attributes_bool")
MAX_BODY_CHARACTERS = 200_000
_DAY_NS = 24 * 3600 * 10**9
_LATEST_NS = 2**63 - 1


class LogStore:
    """Reads and writes of log records."""

    def __init__(self, columnar: Columnar) -> None:
        self._columnar = columnar
        self._table = OtlpTable(columnar, "logs", "Logs")

    async def insert(self, payload: bytes, batch: str) -> None:
        """Hands over length-delimited `ingest.logs.v1.Logs` messages of a batch, all or part of it. Safe to repeat."""
        await self._table.insert(payload, batch)

    async def of_span(
        self, trace_id: str, span_id: str, limit: int, experiments: Collection[int] | None = None
    ) -> list[LogEvent]:
        """The first log records of a span, in order of time; long bodies are cut.

        They may be of other experiments than the span; only `experiments` count if these are given.
        """
        parameters = {
            "trace_id": trace_id.lower(),
            "span_id": span_id.lower(),
            "limit": limit,
            "characters": MAX_BODY_CHARACTERS,
            "bound": experiments is not None,
            "experiments": sorted(experiments or ()),
        }
        return [_event(row) for row in await self._columnar.query(_QUERIES["of_span"], parameters)]

    async def evaluations(self, batch: str, share: int, shares: int) -> list[EvaluationEvent]:
        """The evaluation events that a batch brought, all or one share of several."""
        parameters = {"batch": batch, "share": share, "shares": shares}
        return [_evaluation(row) for row in await self._columnar.query(_QUERIES["evaluations"], parameters)]

    async def experiments_of(self, trace_ids: Sequence[str]) -> dict[str, list[int]]:
        """In which experiments each of these traces has spans; unknown ones are absent."""
        rows = await self._columnar.query(_QUERIES["experiments_of_traces"], {"trace_ids": list(trace_ids)})
        return {row["trace_id"]: sorted(row["experiments"]) for row in rows}

    async def by_response(
        self, response_ids: Sequence[str], first_ns: int, last_ns: int
    ) -> dict[str, dict[int, SpanPlace]]:
        """The latest span with each response id, by experiment, among those that began within a day of these times."""
        parameters = {
            "response_ids": list(response_ids),
            "from_ns": max(0, first_ns - _DAY_NS),
            "to_ns": min(_LATEST_NS, last_ns + _DAY_NS),
        }
        found: dict[str, dict[int, SpanPlace]] = {}
        for row in await self._columnar.query(_QUERIES["spans_by_response"], parameters):
            place = SpanPlace(row["experiment_id"], row["trace_id"], row["span_id"])
            found.setdefault(row["response_id"], {})[place.experiment_id] = place
        return found

    async def responses_of(self, spans: Collection[tuple[str, str]]) -> dict[tuple[str, str], str]:
        """The response ids of spans, given by trace id and span id; those without are absent."""
        if not spans:
            return {}
        parameters = {
            "trace_ids": sorted({trace_id for trace_id, _ in spans}),
            "span_ids": sorted({span_id for _, span_id in spans}),
        }
        rows = await self._columnar.query(_QUERIES["responses_of_spans"], parameters)
        return {(row["trace_id"], row["span_id"]): row["response_id"] for row in rows}


def _event(row: Row) -> LogEvent:
    return LogEvent(
        log_id=row["log_id"],
        time_ns=row["time_ns"],
        event_name=row["event_name"],
        severity_text=row["severity_text"],
        body=row["body"],
        body_type=row["body_type"],
        attributes={
            **_attributes(row),
            **{key: json.loads(text) for key, text in row["attributes_json"].items()},
            **row["attributes_bytes"],
        },
    )


def _evaluation(row: Row) -> EvaluationEvent:
    return EvaluationEvent(
        log_id=row["log_id"],
        experiment_id=row["experiment_id"],
        sender_bound=row["sender_bound"],
        time_ns=row["time_ns"],
        trace_id=row["trace_id"],
        span_id=row["span_id"],
        service_name=row["service_name"],
        scope_name=row["scope_name"],
        attributes=_attributes(row),
    )


def _attributes(row: Row) -> dict[str, Any]:
    return {key: value for name in _MAPS for key, value in row[name].items()}
