"""The contexts of a trace's page and of a span's, and how they are filled. A template sees one as `page`."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from tracestone.collector.auth.caller import caller
from tracestone.collector.ui import detail, timeline
from tracestone.collector.ui import format as fmt
from tracestone.collector.ui.detail import SpanDetail
from tracestone.collector.ui.pages import Crumb, Deps, Score, by_span, crumbs, score, trace_href, trace_info
from tracestone.collector.ui.timeline import Axis, Layout, Row
from tracestone.schema import clock
from tracestone.schema.assessments import Assessment
from tracestone.schema.errors import NotFound
from tracestone.schema.stores.logs import LogStore
from tracestone.schema.stores.pages import PageStore
from tracestone.schema.traces import TraceInfo

PAGE_SPANS = 500  # rows of a timeline that are shown at once


@dataclass(frozen=True)
class RowsPage:
    """Some rows of a timeline: from `first` to before `end`, counted from 0, of `total`.

    With `part=rows` the answer is these alone. `span_scores` are by span id. An empty link means that there is nothing
    there.
    """

    info: TraceInfo
    rows: tuple[Row, ...]
    first: int
    end: int
    total: int
    selected_id: str
    span_scores: dict[str, tuple[Score, ...]]
    first_href: str
    earlier_href: str
    later_href: str
    last_href: str


@dataclass(frozen=True)
class TracePage:
    """`/experiments/{id}/traces/{trace_id}`: the timeline, and one span in detail.

    `ticks` label the time axis, left to right; `next_failed_href` opens the next failed span after the open one, and is
    "" when there is none or all rows are shown; `spans_left_out` are beyond what a timeline is made of;
    `assessments_elsewhere` counts those that the trace id has in other experiments; `selected` is None only while no
    span has arrived.
    """

    title: str
    crumbs: tuple[Crumb, ...]
    info: TraceInfo
    timeline: RowsPage
    next_failed_href: str
    spans_left_out: int
    ticks: tuple[int, ...]
    assessments: tuple[Assessment, ...]
    assessments_elsewhere: int
    selected: SpanDetail | None
    now_ns: int


@dataclass(frozen=True)
class SpanPage:
    """`/experiments/{id}/traces/{trace_id}/spans/{span_id}`: one span, whole; with `part=detail` its pane."""

    title: str
    crumbs: tuple[Crumb, ...]
    info: TraceInfo
    selected: SpanDetail
    now_ns: int


async def trace(deps: Deps, experiment_id: int, trace_id: str, span_id: str, first: int | None) -> TracePage:
    """The trace with one span open, the first row's when `span_id` is "".

    The timeline begins at about the row `first`; without it, where the open span is. Raises NotFound and StorageDown.
    """
    info = await trace_info(deps, trace_id, experiment_id)
    store = PageStore(deps.columnar)
    layout, assessments, elsewhere = await asyncio.gather(
        deps.layouts.get(store, info),
        deps.assessments.by_trace(*info.key),
        deps.assessments.elsewhere(*info.key),
    )
    found = by_span(assessments)
    row = layout.find(span_id) if span_id else None
    shown = _page_of(layout, first if first is not None else row or 0)
    chosen = span_id or next(iter(layout.ids(shown, shown + 1)), "")
    rows, selected = await asyncio.gather(
        _rows(store, info, layout, shown, chosen, found),
        _describe(deps, info, chosen, found.get(chosen, []), whole=False) if chosen else _nothing(),
    )
    failed = layout.next_failed(shown if row is None else row) if len(layout) > PAGE_SPANS else ""
    length = Axis(info.start_time_ns, info.end_time_ns).length_ns
    return TracePage(
        title=info.root_name or trace_id,
        crumbs=await crumbs(store, experiment_id, Crumb(info.root_name or fmt.short_id(trace_id), "")),
        info=info,
        timeline=rows,
        next_failed_href=trace_href(info, failed) if failed else "",
        spans_left_out=max(info.span_count - len(layout), 0),
        ticks=tuple(length * quarter // 4 for quarter in range(5)),
        assessments=tuple(found.get("", ())),
        assessments_elsewhere=elsewhere,
        selected=selected,
        now_ns=clock.now_ns(),
    )


async def rows(deps: Deps, experiment_id: int, trace_id: str, span_id: str, first: int) -> RowsPage:
    """The rows at about `first`, with the open span marked. Raises NotFound and StorageDown."""
    info = await trace_info(deps, trace_id, experiment_id)
    store = PageStore(deps.columnar)
    layout, assessments = await asyncio.gather(deps.layouts.get(store, info), deps.assessments.by_trace(*info.key))
    return await _rows(store, info, layout, _page_of(layout, first), span_id, by_span(assessments))


async def span(deps: Deps, experiment_id: int, trace_id: str, span_id: str, *, whole: bool) -> SpanPage:
    """One span, `whole` or as its pane shows it. Raises NotFound and StorageDown."""
    info = await trace_info(deps, trace_id, experiment_id)
    assessments = by_span(await deps.assessments.by_trace(*info.key)).get(span_id, [])
    selected = await _describe(deps, info, span_id, assessments, whole=whole)
    trace_crumb = Crumb(info.root_name or fmt.short_id(trace_id), trace_href(info, span_id))
    here = Crumb(selected.span.name or fmt.short_id(span_id), "")
    return SpanPage(
        title=selected.span.name or span_id,
        crumbs=(*await crumbs(PageStore(deps.columnar), experiment_id, trace_crumb), here),
        info=info,
        selected=selected,
        now_ns=clock.now_ns(),
    )


def _page_of(layout: Layout, row: int) -> int:
    """The first row of the page that a row is on; of the last page when there is no such row."""
    return min(row, max(len(layout) - 1, 0)) // PAGE_SPANS * PAGE_SPANS


async def _rows(
    store: PageStore,
    info: TraceInfo,
    layout: Layout,
    first: int,
    span_id: str,
    assessments: dict[str, list[Assessment]],
) -> RowsPage:
    end = min(first + PAGE_SPANS, len(layout))
    ids = layout.ids(first, end)
    spans = await store.outline(info, ids)
    last = _page_of(layout, len(layout))

    def href(row: int) -> str:
        return f"{trace_href(info)}?from={row}{f'&span={span_id}' if span_id else ''}"

    return RowsPage(
        info=info,
        rows=timeline.rows(layout, first, end, spans, Axis(info.start_time_ns, info.end_time_ns)),
        first=first,
        end=end,
        total=len(layout),
        selected_id=span_id,
        span_scores={key: tuple(map(score, assessments[key])) for key in ids if key in assessments},
        first_href=href(0) if first > PAGE_SPANS else "",
        earlier_href=href(first - PAGE_SPANS) if first else "",
        later_href=href(end) if end < len(layout) else "",
        last_href=href(last) if end < last else "",
    )


async def _nothing() -> None:
    """Where there is no span to describe."""


async def _describe(
    deps: Deps, info: TraceInfo, span_id: str, assessments: Sequence[Assessment], *, whole: bool
) -> SpanDetail:
    limit = (detail.WHOLE if whole else detail.PANE).rows
    found, logs = await asyncio.gather(
        deps.spans.span(info.experiment_id, info.trace_id, span_id),
        LogStore(deps.columnar).of_span(info.trace_id, span_id, limit + 1, caller().experiments),
    )
    if found is None:
        raise NotFound(f"The trace {info.trace_id} has no span {span_id}.")
    # On a thread: messages of megabytes are parsed.
    return await asyncio.to_thread(detail.describe, found, info.start_time_ns, assessments, logs, whole=whole)
