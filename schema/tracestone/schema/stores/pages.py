"""What the pages list: experiments, traces, sessions, and a trace's spans in outline. Never long texts.

Lists are read in pages by key: a place in a list is the (time, id) of a row, and a page is what follows it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tracestone.schema.engines.columnar import Columnar, Row, StatementFailed
from tracestone.schema.errors import Unavailable
from tracestone.schema.sqlfiles import queries
from tracestone.schema.traces import TraceInfo

END_OF_TIME_NS = 2**63 - 1
MAX_EXPERIMENTS = 1_000
# Seconds and bytes; on a large database a filter that finds nothing would read on and on.
_LIMITS = {"max_execution_time": 20, "max_memory_usage": 1024**3}
_OVER_LIMIT = (159, 241)  # ClickHouse's codes of both


@dataclass(frozen=True)
class ExperimentSummary:
    """An experiment and what it holds. `name` is "" until it is mirrored; `last_start_ns` 0 when empty."""

    experiment_id: int
    name: str
    trace_count: int
    error_count: int
    total_tokens: int | None
    cost_total: float | None
    last_start_ns: int


@dataclass(frozen=True)
class SessionSummary:
    """One row of `tracestone.sessions`; tokens and cost are the sums over its traces."""

    session_id: str
    user_ids: tuple[str, ...]
    trace_count: int
    error_count: int
    total_tokens: int | None
    cost_total: float | None
    first_seen_ns: int
    last_seen_ns: int


@dataclass(frozen=True)
class SpanOutline:
    """A span as a timeline shows it; times in nanoseconds since the Unix epoch, cost in USD."""

    span_id: str
    parent_span_id: str
    name: str
    span_type: str
    service_name: str
    start_time_ns: int
    end_time_ns: int
    duration_ns: int
    in_progress: bool
    status_code: str
    error_type: str
    total_tokens: int | None
    cost_total: float | None


@dataclass(frozen=True)
class Skeleton:
    """How the spans of a trace hang together.

    Lists side by side, in order of start: ids as numbers, those of the parents (0 is none), and whether each failed.
    """

    span_ids: Sequence[int]
    parent_ids: Sequence[int]
    failed: Sequence[int]


@dataclass(frozen=True)
class Place:
    """A place in a list: the time and the id of a row."""

    time_ns: int = END_OF_TIME_NS
    id: str = ""


@dataclass(frozen=True)
class TraceFilter:
    """Which traces to list; "" is any. `name` is found anywhere in the root's name, in any case."""

    state: str = ""
    name: str = ""
    session_id: str = ""


class PageStore:
    """Reads ClickHouse. Every method raises StorageDown when it does not answer, Unavailable over a limit."""

    def __init__(self, columnar: Columnar) -> None:
        self._columnar = columnar
        self._queries = queries("clickhouse", "pages")

    async def experiments(self) -> tuple[ExperimentSummary, ...]:
        """All experiments (at most MAX_EXPERIMENTS), the one with the newest trace first."""
        rows = await self._rows("experiments", limit=MAX_EXPERIMENTS)
        return tuple(ExperimentSummary(**row) for row in rows)

    async def experiment_name(self, experiment_id: int) -> str:
        """The name, or "" when it is not known here."""
        rows = await self._rows("experiment_name", experiment_id=experiment_id)
        return str(rows[0]["name"]) if rows else ""

    async def traces_older(
        self, experiment_id: int, limit: int, place: Place, wanted: TraceFilter
    ) -> tuple[TraceInfo, ...]:
        """The traces that come after `place`, newest first."""
        return await self._traces("traces_older", experiment_id, limit, place, wanted)

    async def traces_newer(
        self, experiment_id: int, limit: int, place: Place, wanted: TraceFilter
    ) -> tuple[TraceInfo, ...]:
        """The traces that come just before `place`, newest first."""
        return (await self._traces("traces_newer", experiment_id, limit, place, wanted))[::-1]

    async def sessions(self, experiment_id: int, limit: int, place: Place) -> tuple[SessionSummary, ...]:
        """The sessions that come after `place`, the one last heard from first."""
        rows = await self._rows(
            "sessions",
            experiment_id=experiment_id,
            limit=limit,
            last_seen_ns=place.time_ns,
            session_id=place.id,
        )
        return tuple(map(_session, rows))

    async def session(self, experiment_id: int, session_id: str) -> SessionSummary | None:
        """One session; None when it has no traces."""
        rows = await self._rows("session", experiment_id=experiment_id, session_id=session_id)
        return _session(rows[0]) if rows else None

    async def skeleton(self, info: TraceInfo, limit: int) -> Skeleton:
        """The first `limit` spans of a trace, by start. About 24 bytes a span are read."""
        rows = await self._rows("skeleton", experiment_id=info.experiment_id, trace_id=info.trace_id, limit=limit)
        return Skeleton(**rows[0])

    async def outline(self, info: TraceInfo, span_ids: Sequence[str]) -> tuple[SpanOutline, ...]:
        """Some spans of a trace, in no order; unknown ids are absent."""
        rows = await self._rows(
            "outline", experiment_id=info.experiment_id, trace_id=info.trace_id, span_ids=list(span_ids)
        )
        return tuple(SpanOutline(**row) for row in rows)

    async def _traces(
        self, query: str, experiment_id: int, limit: int, place: Place, wanted: TraceFilter
    ) -> tuple[TraceInfo, ...]:
        rows = await self._rows(
            query,
            experiment_id=experiment_id,
            limit=limit,
            start_ns=place.time_ns,
            trace_id=place.id,
            state=wanted.state,
            name=wanted.name,
            session_id=wanted.session_id,
        )
        return tuple(_trace(row) for row in rows)

    async def _rows(self, query: str, **parameters: Any) -> list[Row]:
        try:
            return await self._columnar.query(self._queries[query], parameters, _LIMITS)
        except StatementFailed as error:
            if error.code in _OVER_LIMIT:
                raise Unavailable("Reading this page took too long or too much memory") from error
            raise


def _trace(row: Row) -> TraceInfo:
    return TraceInfo(**{**row, "models": tuple(row["models"]), "tags": dict(row["tags"])})


def _session(row: Row) -> SessionSummary:
    return SessionSummary(**{**row, "user_ids": tuple(row["user_ids"])})
