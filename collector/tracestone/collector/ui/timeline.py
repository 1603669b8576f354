"""A trace's spans as rows of a timeline: parents before children, each with its place on the time axis."""

from array import array
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tracestone.schema.stores.pages import Skeleton, SpanOutline

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
    """The time a timeline covers, from the first start to the last end, in nanoseconds since the epoch."""

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


@dataclass(frozen=True)
class Layout:
    """A trace's spans in the order of its timeline: depth first, siblings by start. Lists lie side by side."""

    span_ids: "array[int]"
    depths: "array[int]"
    children: "array[int]"
    failed: "array[int]"

    def __len__(self) -> int:
        return len(self.span_ids)

    def find(self, span_id: str) -> int | None:
        """In which row a span is."""
        try:
            return self.span_ids.index(int(span_id, 16))
        except ValueError:
            return None

    def next_failed(self, row: int) -> str:
        """The id of the first span after a row that failed, from the top again after the last; "" when none did."""
        for first in (row + 1, 0):
            try:
                return _hex(self.span_ids[self.failed.index(1, first)])
            except ValueError:
                continue
        return ""

    def ids(self, first: int, end: int) -> list[str]:
        """The ids of some rows."""
        return [_hex(number) for number in self.span_ids[first:end]]


def layout(skeleton: Skeleton) -> Layout:
    """Every span exactly once.

    A span whose parent is absent is a root. Spans that name each other as parents (only a broken sender does) hang on
    the first of them.
    """
    places: dict[int, int] = {}
    for place, span_id in enumerate(skeleton.span_ids):
        places.setdefault(span_id, place)
    children: dict[int, list[int]] = defaultdict(list)
    roots = []
    for place in places.values():
        parent = places.get(skeleton.parent_ids[place])
        if parent is None:
            roots.append(place)
        else:
            children[parent].append(place)
    found = Layout(array("Q"), array("I"), array("I"), array("B"))
    placed: set[int] = set()
    for root in (*roots, *places.values()):
        stack = [(root, 0)]
        while stack:
            place, depth = stack.pop()
            if place in placed:
                continue
            placed.add(place)
            below = children.get(place, ())
            found.span_ids.append(skeleton.span_ids[place])
            found.depths.append(depth)
            found.children.append(len(below))
            found.failed.append(skeleton.failed[place])
            stack.extend((child, depth + 1) for child in reversed(below))
    return found


def rows(laid_out: Layout, first: int, end: int, spans: Sequence[SpanOutline], axis: Axis) -> tuple[Row, ...]:
    """The rows from `first` to before `end`, of those spans that are given."""
    by_id = {span.span_id: span for span in spans}
    found = []
    for row, span_id in enumerate(laid_out.ids(first, end), first):
        if (span := by_id.get(span_id)) is not None:
            depth = laid_out.depths[row]
            x, width = axis.place(span.start_time_ns, span.end_time_ns)
            offset = span.start_time_ns - axis.start_ns
            found.append(Row(span, depth, min(depth, MAX_INDENT), laid_out.children[row], offset, x, width))
    return tuple(found)


def _hex(number: int) -> str:
    return f"{number:016x}"
