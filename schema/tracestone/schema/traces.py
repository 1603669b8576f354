"""A stored trace as read back, for the API, the pages and the scorers. Times are nanoseconds since the Unix epoch."""

from dataclasses import dataclass

from tracestone.schema.spans import Span


@dataclass(frozen=True)
class TraceInfo:
    """One row of `tracestone.traces`. `state` is OK, ERROR or IN_PROGRESS; tokens and cost are counted once."""

    experiment_id: int
    trace_id: str
    root_name: str
    service_name: str
    start_time_ns: int
    end_time_ns: int
    duration_ns: int
    state: str
    span_count: int
    error_count: int
    input_tokens: int | None
    output_tokens: int | None
    total_tokens: int | None
    cost_total: float | None
    models: tuple[str, ...]
    session_id: str
    user_id: str
    tags: dict[str, str]
    input_preview: str
    output_preview: str
    complete: bool
    last_seen_ns: int

    @property
    def key(self) -> tuple[int, str]:
        """What it is known by: the same trace id in two experiments is two traces."""
        return self.experiment_id, self.trace_id

    @property
    def seen_ns(self) -> int:
        """Which state it is in: when a span last arrived, and a nanosecond for each span.

        So it grows with every span, also with one from a collector whose clock is behind another's.
        """
        return self.last_seen_ns + self.span_count


@dataclass(frozen=True)
class SessionTraces:
    """The latest traces of a session in order of start, how many it has, and its state.

    `seen_ns` is when something of it last arrived, and a nanosecond for each of its spans, as `TraceInfo.seen_ns`.
    """

    infos: tuple[TraceInfo, ...]
    count: int
    seen_ns: int


@dataclass(frozen=True)
class Trace:
    """A trace with its spans, in order of start; a span whose parent is absent counts as a root.

    `cut` when it has more spans than are read at once; `info` tells about all of them.
    """

    info: TraceInfo
    spans: tuple[Span, ...]
    cut: bool = False

    @property
    def root(self) -> Span | None:
        """The span without a parent that started first; None while it has not arrived."""
        return next((span for span in self.spans if not span.parent_span_id), None)
