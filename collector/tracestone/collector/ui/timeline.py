"""A trace's spans as rows of a timeline: parents before children, each with its place on the time axis."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tracestone.schema.stores.pages import SpanOutline

WIDTH = 1000  # the time axis in units of the drawing
MIN_BAR = 4
MAX_INDENT = 12  # deeper spans stay at this indent; a stylesheet has one class each


@dataclass(frozen=True)
class Row:
    """One span in the timeline. `bar_x` and `bar_width` are in 0..WIDTH; `depth` counts from 0."""

    span: SpanOutline
    depth: int
    indent: int
    children: int
    offset_ns: int
    bar_x: int
    bar_width: int


@dataclass(frozen=True)
class Axis:
    """The time a timeline covers, in nanoseconds since the epoch."""

    start_ns: int
    end_ns: int

    @property
    def length_ns(self) -> int:
        """Never 0, so that it can divide."""
        return max(self.end_ns - self.start_ns, 1)

    def place(self, start_ns: int, end_ns: int) -> tuple[int, int]:
        """Where a bar begins and how wide it is; always visible and always inside."""
        width = max(MIN_BAR, round((end_ns - start_ns) * WIDTH / self.length_ns))
        x = round((start_ns - self.start_ns) * WIDTH / self.length_ns)
        width = min(width, WIDTH)
        return min(max(x, 0), WIDTH - width), width


def axis(spans: Sequence[SpanOutline]) -> Axis:
    """From the first start to the last end."""
    if not spans:
        return Axis(0, 0)
    return Axis(min(span.start_time_ns for span in spans), max(span.end_time_ns for span in spans))


def rows(spans: Sequence[SpanOutline]) -> tuple[Row, ...]:
    """Every span exactly once, depth first, siblings by start.

    A span whose parent is absent is a root. Spans that name each other as parents (only a broken sender does)
    hang on the first of them.
    """
    ordered = sorted(spans, key=lambda span: (span.start_time_ns, span.span_id))
    known = {span.span_id for span in ordered}
    children: dict[str, list[SpanOutline]] = defaultdict(list)
    for span in ordered:
        if span.parent_span_id in known:
            children[span.parent_span_id].append(span)
    roots = [span for span in ordered if span.parent_span_id not in known]
    whole = axis(ordered)
    placed: set[str] = set()
    found: list[Row] = []
    for root in (*roots, *ordered):
        stack = [(root, 0)]
        while stack:
            span, depth = stack.pop()
            if span.span_id in placed:
                continue
            placed.add(span.span_id)
            below = children[span.span_id]
            x, width = whole.place(span.start_time_ns, span.end_time_ns)
            offset = span.start_time_ns - whole.start_ns
            found.append(Row(span, depth, min(depth, MAX_INDENT), len(below), offset, x, width))
            stack.extend((child, depth + 1) for child in reversed(below))
    return tuple(found)
