"""Layouts of the traces that are being looked at, so that the next page of a large trace costs only its rows."""

import asyncio
from collections import OrderedDict

from tracestone.collector.ui import timeline
from tracestone.collector.ui.timeline import Layout
from tracestone.schema.stores.pages import PageStore
from tracestone.schema.traces import TraceInfo

MAX_SPANS = 200_000  # of one trace
KEPT_SPANS = 1_000_000  # of all layouts that are kept, 13 bytes each
KEPT_LAYOUTS = 100

_Key = tuple[int, str, int, int]


class Layouts:
    """The layouts used last, within bounds. Safe to use from one event loop."""

    def __init__(self) -> None:
        self._kept: OrderedDict[_Key, Layout] = OrderedDict()

    async def get(self, store: PageStore, info: TraceInfo) -> Layout:
        """The layout of a trace's first MAX_SPANS spans, as of this row of it. Raises StorageDown and Unavailable."""
        # Whatever is received of a trace changes one of the two numbers.
        key = (info.experiment_id, info.trace_id, info.span_count, info.last_seen_ns)
        if (found := self._kept.get(key)) is None:
            skeleton = await store.skeleton(info, MAX_SPANS)
            # On a thread: it takes a tenth of a second for 50,000 spans.
            found = self._kept[key] = await asyncio.to_thread(timeline.layout, skeleton)
        self._kept.move_to_end(key)
        while len(self._kept) > 1 and (
            len(self._kept) > KEPT_LAYOUTS or sum(map(len, self._kept.values())) > KEPT_SPANS
        ):
            self._kept.popitem(last=False)
        return found
