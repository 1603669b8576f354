"""The order of a timeline and the place of its bars."""

from hypothesis import given
from hypothesis import strategies as st

from support.samples import outline
from tracestone.collector.ui.timeline import MAX_INDENT, WIDTH, Axis, Layout, Row, layout, rows
from tracestone.schema.stores.pages import Skeleton, SpanOutline


def span(number: int, parent: int = 0, start_ms: int = 0, length_ms: int = 10, **changes) -> SpanOutline:
    return outline(f"{number:016x}", f"{parent:016x}" if parent else "", start_ms, length_ms, **changes)


def laid_out(*spans: SpanOutline) -> Layout:
    """The layout of spans in any order, as ClickHouse would hand them over."""
    ordered = sorted(spans, key=lambda each: (each.start_time_ns, each.span_id))
    return layout(
        Skeleton(
            [int(each.span_id, 16) for each in ordered],
            [int(each.parent_span_id or "0", 16) for each in ordered],
            [int(each.status_code == "ERROR") for each in ordered],
        )
    )


def drawn(*spans: SpanOutline) -> tuple[Row, ...]:
    axis = Axis(min(each.start_time_ns for each in spans), max(each.end_time_ns for each in spans))
    return rows(laid_out(*spans), 0, len(spans), spans, axis)


def order(*spans: SpanOutline) -> list[tuple[int, int]]:
    return [(int(row.span.span_id, 16), row.depth) for row in drawn(*spans)]


def test_parents_before_children_siblings_by_start() -> None:
    spans = (span(3, 1, 5), span(2, 1, 2), span(4, 2, 3), span(1, 0, 0, 50))
    assert order(*spans) == [(1, 0), (2, 1), (4, 2), (3, 1)]
    assert [row.children for row in drawn(*spans)] == [2, 1, 0, 0]


def test_a_span_without_its_parent_is_a_root() -> None:
    assert order(span(1), span(2, 99, 3)) == [(1, 0), (2, 0)]


def test_spans_that_are_each_others_parents_are_shown_once() -> None:
    assert order(span(1, 2, 0), span(2, 1, 1), span(3, 3, 2)) == [(1, 0), (2, 1), (3, 0)]


def test_a_span_that_is_there_twice_is_shown_once() -> None:
    found = layout(Skeleton([1, 2, 2], [0, 1, 1], [0, 0, 0]))
    assert found.ids(0, 9) == [f"{1:016x}", f"{2:016x}"]


def test_bars_share_one_axis() -> None:
    first, second = drawn(span(1, 0, 0, 100), span(2, 1, 50, 25))
    assert (first.bar_x, first.bar_width) == (0, WIDTH)
    assert (second.bar_x, second.bar_width, second.offset_ns) == (500, 250, 50_000_000)


def test_nothing_is_no_timeline() -> None:
    assert len(layout(Skeleton([], [], []))) == 0


def test_a_chain_of_thousands_does_not_recurse() -> None:
    found = drawn(*[span(n, n - 1, n) for n in range(1, 5_001)])
    assert found[-1].depth == 4_999 and found[-1].indent == MAX_INDENT


def test_some_rows_and_where_a_span_is() -> None:
    spans = [span(1, 0, 0), *[span(n, 1, n) for n in range(2, 12)]]
    found = laid_out(*spans)
    some = rows(found, 3, 6, spans, Axis(0, 1))
    assert [int(row.span.span_id, 16) for row in some] == [4, 5, 6]
    assert found.find(f"{5:016x}") == 4 and found.find(f"{99:016x}") is None
    # one that has gone between the two reads leaves a gap, and no row moves
    assert [int(row.span.span_id, 16) for row in rows(found, 3, 6, spans[:4], Axis(0, 1))] == [4]


def test_the_next_failed_span_goes_round() -> None:
    found = laid_out(span(1), *[span(n, 1, n, status_code="ERROR" if n in (3, 5) else "OK") for n in range(2, 8)])
    assert [found.next_failed(row) for row in (0, 2, 4, 6)] == [f"{n:016x}" for n in (3, 5, 3, 3)]
    assert laid_out(span(1)).next_failed(0) == ""


ids = st.integers(1, 12)


@given(st.lists(st.tuples(ids, ids, st.integers(0, 50), st.integers(-5, 50)), max_size=12, unique_by=lambda t: t[0]))
def test_every_span_is_shown_once_and_inside(found) -> None:
    spans = [span(*each) for each in found]
    shown = drawn(*spans) if spans else ()
    assert sorted(row.span.span_id for row in shown) == sorted(each.span_id for each in spans)
    assert all(0 <= row.bar_x and 0 < row.bar_width and row.bar_x + row.bar_width <= WIDTH for row in shown)
