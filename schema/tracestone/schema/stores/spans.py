"""Spans and traces in ClickHouse: handing over a batch of OTLP bytes, reading a trace back."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from tracestone.schema import sqlfiles
from tracestone.schema.engines.columnar import Columnar, Row, StatementFailed
from tracestone.schema.spans import Span, SpanEvent, SpanLink
from tracestone.schema.stores.log_contents import LogContents
from tracestone.schema.stores.otlp import OtlpTable
from tracestone.schema.traces import SessionTraces, Trace, TraceInfo

# Of one trace, read at once with their payloads; the rest is for SQL.
MAX_SPANS = 20_000
# ClickHouse's code of a failed throwIf.
_A_SPAN_HAS_TWO_ROWS = 395
# A batch that is inserted meanwhile may bring the next such span.
_HIDES = 5
# A replayed batch brings back what was hidden; hiding it again is the same insert, and no repeat to be ignored.
_HIDING = {"log_comment": "moved spans", "insert_deduplicate": 0, "allow_reorder_prewhere_conditions": 0}
# One thread refreshes for two thirds of the CPU that several spend; the query says the cheapest condition first. Of the
# few granules that the key leaves an index of trace ids can say nothing when thousands are asked for.
_REFRESHING = {"max_threads": 1, "use_skip_indexes": 0, "allow_reorder_prewhere_conditions": 0}
_LATEST = 2**63 - 1
_QUERIES = sqlfiles.queries("clickhouse", "spans")
_INGEST = sqlfiles.queries("clickhouse", "ingest")
_MOVED = sqlfiles.queries("clickhouse", "moved_spans")
# More spans than that are not named one by one in a statement.
_MOST_NAMED = 500
# What `plain_spans` does not read.
_WITHOUT = dict.fromkeys(
    "input_messages output_messages system_instructions tool_arguments tool_result retrieval_documents".split(), ""
)
_SPAN_FIELDS = [name for name in Span.__dataclass_fields__ if name not in ("attributes", "events", "links")]


class SpanStore:
    """Reads and writes of spans and the traces computed from them."""

    def __init__(self, columnar: Columnar) -> None:
        self._columnar = columnar
        self._table = OtlpTable(columnar, "traces", "Traces")
        self._contents = LogContents(columnar)

    async def insert(self, payload: bytes, batch: str) -> None:
        """Hands over length-delimited `ingest.v1.Traces` messages of a batch, all or part of it.

        Safe to repeat: a span that comes again, with the same `received_at`, replaces itself.
        """
        await self._table.insert(payload, batch)

    async def refresh_traces(
        self, batches: Sequence[str], share: int = 0, shares: int = 1, *, at_least_ns: int = 0
    ) -> None:
        """Recomputes the traces that these batches touched: all, or one share of several. Safe to repeat.

        The rows are written with ClickHouse's time, or `at_least_ns` if that is later. Before, log records with content
        become part of their spans' rows (`LogContents`).
        """
        await self._contents.join(batches, share, shares)
        parameters = {"batches": list(batches), "share": share, "shares": shares, "at_least_ns": at_least_ns}
        for _ in range(_HIDES):
            try:
                return await self._columnar.command(_INGEST["refresh_traces"], parameters, _REFRESHING)
            except StatementFailed as error:
                if error.code != _A_SPAN_HAS_TWO_ROWS:
                    raise
            await self._columnar.command(_MOVED["hide"], parameters, _HIDING)
        await self._columnar.command(_INGEST["refresh_traces"], parameters, _REFRESHING)

    async def refreshed_beyond(self, after_ns: int) -> int:
        """When the last trace's row was written that was written after `after_ns`, 0 when none was."""
        rows = await self._columnar.query(_INGEST["refreshed_beyond"], {"after_ns": after_ns})
        return int(rows[0]["at_ns"])

    async def refresh_traces_of_logs(
        self, batches: Sequence[str], share: int = 0, shares: int = 1, *, at_least_ns: int = 0
    ) -> None:
        """Does that for the traces whose log records with content these batches of logs brought."""
        if touched := await self._contents.touch(batches, share, shares):
            await self.refresh_traces([touched], at_least_ns=at_least_ns)

    async def trace(self, trace_id: str, experiment_id: int | None = None) -> Trace | None:
        """A trace with its first `MAX_SPANS` spans; without an experiment, the first that has it. None when unknown."""
        info = await self.info(trace_id, experiment_id)
        return None if info is None else await self.read(info)

    async def read(self, info: TraceInfo) -> Trace:
        """The trace of a row, with its first `MAX_SPANS` spans."""
        wanted = _wanted(info.experiment_id, [info.trace_id])
        return _trace(info, await self._columnar.query(_QUERIES["spans_of_traces"], wanted))

    async def plain(self, info: TraceInfo) -> Trace:
        """The same trace for a fourth of the time, where input and output are enough.

        Messages, instructions, a tool's arguments and result, and documents are there only of spans that have no input
        or no output besides.
        """
        rows = await self._plain(info.experiment_id, info.trace_id)
        wanted = [row["span_id"] for row in rows if row["contents_wanted"]]
        contents = await self._contents_of(info.experiment_id, info.trace_id, wanted) if wanted else {}
        return _trace(info, [{**_WITHOUT, **row, **contents.get(row["span_id"], {})} for row in rows])

    async def traces(self, experiment_id: int, trace_ids: Sequence[str]) -> dict[str, Trace]:
        """Some traces with the first `MAX_SPANS` spans of each, by id; unknown ids are absent.

        Much cheaper than one by one.
        """
        infos = await self.infos(experiment_id, trace_ids)
        if not infos:
            return {}
        rows = await self._columnar.query(_QUERIES["spans_of_traces"], _wanted(experiment_id, list(infos)))
        spans: dict[str, list[Row]] = {trace_id: [] for trace_id in infos}
        for row in rows:
            spans[row["trace_id"]].append(row)
        return {trace_id: _trace(info, spans[trace_id]) for trace_id, info in infos.items()}

    async def info(self, trace_id: str, experiment_id: int | None = None) -> TraceInfo | None:
        """A trace's row alone; None when unknown."""
        trace_id = trace_id.lower()
        for experiment in await self._experiments(trace_id, experiment_id):
            infos = await self.infos(experiment, [trace_id])
            if trace_id in infos:
                return infos[trace_id]
        return None

    async def infos(self, experiment_id: int, trace_ids: Sequence[str]) -> dict[str, TraceInfo]:
        """The rows of some traces, by id; unknown ids are absent."""
        rows = await self._columnar.query(
            _QUERIES["trace_infos"], {"experiment_id": experiment_id, "trace_ids": list(trace_ids)}
        )
        return {row["trace_id"]: _info(row) for row in rows}

    async def latest(self, experiment_id: int, limit: int, before: tuple[int, str] | None = None) -> list[TraceInfo]:
        """An experiment's traces, newest first, from after (start_time_ns, trace_id)."""
        before_ns, before_id = before or (_LATEST, "")
        rows = await self._columnar.query(
            _QUERIES["latest_traces"],
            {"experiment_id": experiment_id, "before_ns": before_ns, "before_id": before_id, "limit": limit},
        )
        return [_info(row) for row in rows]

    async def of_session(self, experiment_id: int, session_id: str, limit: int) -> SessionTraces:
        """The latest traces of a session, at most so many; none when it is unknown."""
        rows = await self._columnar.query(
            _QUERIES["traces_of_session"], {"experiment_id": experiment_id, "session_id": session_id, "limit": limit}
        )
        if not rows:
            return SessionTraces((), 0, 0)
        infos = tuple(_info(row) for row in reversed(rows))
        return SessionTraces(infos, int(rows[0]["traces"]), int(rows[0]["seen_ns"]))

    async def span(self, experiment_id: int, trace_id: str, span_id: str) -> Span | None:
        """One span with its payload; None when unknown."""
        trace_id, span_id = trace_id.lower(), span_id.lower()
        # Nearly all of it is planning, which two statements share.
        rows, contents = await asyncio.gather(
            self._plain(experiment_id, trace_id, span_id), self._contents_of(experiment_id, trace_id, [span_id])
        )
        return _span({**_WITHOUT, **rows[0], **contents.get(span_id, {})}) if rows else None

    async def _plain(self, experiment_id: int, trace_id: str, span_id: str = "") -> Sequence[Row]:
        where = {"experiment_id": experiment_id, "trace_id": trace_id, "span_id": span_id, "limit": MAX_SPANS + 1}
        return await self._columnar.query(_QUERIES["plain_spans"], where)

    async def _contents_of(self, experiment_id: int, trace_id: str, span_ids: Sequence[str]) -> dict[str, Row]:
        named = list(span_ids) if len(span_ids) <= _MOST_NAMED else []
        where = {"experiment_id": experiment_id, "trace_id": trace_id, "span_ids": named}
        return {row["span_id"]: row for row in await self._columnar.query(_QUERIES["contents_of_spans"], where)}

    async def _experiments(self, trace_id: str, experiment_id: int | None) -> list[int]:
        if experiment_id is not None:
            return [experiment_id]
        rows = await self._columnar.query(_QUERIES["experiments_of_trace"], {"trace_id": trace_id})
        return [row["experiment_id"] for row in rows]


def _wanted(experiment_id: int, trace_ids: list[str]) -> dict[str, Any]:
    return {"experiment_id": experiment_id, "trace_ids": trace_ids, "limit": MAX_SPANS + 1}


def _trace(info: TraceInfo, rows: Sequence[Row]) -> Trace:
    return Trace(info, tuple(_span(row) for row in rows[:MAX_SPANS]), cut=len(rows) > MAX_SPANS)


def _info(row: Row) -> TraceInfo:
    values = {name: row[name] for name in TraceInfo.__dataclass_fields__}
    values["models"] = tuple(values["models"])
    values["complete"] = bool(values["complete"])
    return TraceInfo(**values)


def _span(row: Row) -> Span:
    values = {name: row[name] for name in _SPAN_FIELDS}
    values["in_progress"] = bool(row["in_progress"])
    values["resource_attributes"] = json.loads(row["resource_attributes"] or "{}")
    return Span(
        **values,
        attributes={
            **row["attributes_string"],
            **row["attributes_text"],
            **row["attributes_int"],
            **row["attributes_float"],
            **row["attributes_bool"],
            **{key: json.loads(text) for key, text in row["attributes_json"].items()},
            **row["attributes_bytes"],
        },
        events=tuple(
            SpanEvent(time, name, json.loads(attributes)) for time, name, attributes in _tuples(row["span_events"])
        ),
        links=tuple(
            SpanLink(trace, span, json.loads(attributes)) for trace, span, attributes in _tuples(row["span_links"])
        ),
    )


def _tuples(items: Any) -> list[tuple[Any, ...]]:
    return [tuple(item.values()) if isinstance(item, dict) else tuple(item) for item in items]
