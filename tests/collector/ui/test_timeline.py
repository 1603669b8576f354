"""The order of a timeline and the place of its bars."""

from hypothesis import given
from hypothesis import strategies as st

from support.samples import outline
from tracestone.collector.ui.timeline import MAX_INDENT, WIDTH, rows


def order(*spans) -> list[tuple[str, int]]:
    return [(row.span.span_id, row.depth) for row in rows(spans)]


def test_parents_before_children_siblings_by_start() -> None:
    spans = (outline("c", "a", 5), outline("b", "a", 2), outline("d", "b", 3), outline("a", "", 0, 50))
    assert order(*spans) == [("a", 0), ("b", 1), ("d", 2), ("c", 1)]


def test_a_span_without_its_parent_is_a_root() -> None:
    assert order(outline("a"), outline("b", "lost", 3)) == [("a", 0), ("b", 0)]


def test_spans_that_are_each_others_parents_are_shown_once() -> None:
    assert order(outline("a", "b", 0), outline("b", "a", 1), outline("c", "c", 2)) == [
        ("a", 0),
        ("b", 1),
        ("c", 0),
    ]


def test_bars_share_one_axis() -> None:
    first, second = rows((outline("a", "", 0, 100), outline("b", "a", 50, 25)))
    assert (first.bar_x, first.bar_width) == (0, WIDTH)
    assert (second.bar_x, second.bar_width, second.offset_ns) == (500, 250, 50_000_000)


def test_nothing_is_no_timeline() -> None:
    assert rows(()) == ()


def test_a_chain_of_thousands_does_not_recurse() -> None:
    found = rows([outline(str(n), str(n - 1) if n else "", n) for n in range(5_000)])
    assert found[-1].depth == 4_999 and found[-1].indent == MAX_INDENT


ids = st.integers(0, 12).map(str)


@given(st.lists(st.tuples(ids, ids, st.integers(0, 50), st.integers(-5, 50)), max_size=12, unique_by=lambda t: t[0]))
def test_every_span_is_shown_once_and_inside(spans) -> None:
    found = rows([outline(*span) for span in spans])
    assert sorted(row.span.span_id for row in found) == sorted(span[0] for span in spans)
    assert all(0 <= row.bar_x and 0 < row.bar_width and row.bar_x + row.bar_width <= WIDTH for row in found)
