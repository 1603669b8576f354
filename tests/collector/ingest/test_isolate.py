"""Taking a refused insert apart never mistakes several records for one."""

from tracestone.collector.ingest.isolate import Isolate
from tracestone.collector.signals.traces import TRACES
from tracestone.collector.wal.frames import varint
from tracestone.protos.ingest.v1.traces_pb2 import ResourceSpans, ScopeSpans, Span, Traces

ISOLATE = Isolate(TRACES)


def record(spans: int, filler: int = 0) -> bytes:
    """A framed request with this many spans, the first one's name `filler` bytes long."""
    found = [Span(trace_id=bytes(15) + b"1", span_id=bytes(7) + bytes([n + 1])) for n in range(spans)]
    if found:
        found[0].name = "x" * filler
    message = Traces(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=found)])], experiment_ids=[1])
    body = message.SerializeToString()
    return varint(len(body)) + body


def test_only_one_record_is_tried_without_its_spans() -> None:
    bare = ISOLATE.without_items(record(3))
    assert bare is not None and ISOLATE.item_count(bare) == 0
    assert ISOLATE.without_items(record(1)) is None
    # The length of a second record can read as a field of the first, whatever it is.
    for filler in range(3000):
        assert ISOLATE.without_items(record(2) + record(2, filler)) is None


def test_parts_hold_every_span_once() -> None:
    payload = record(3) + record(2) + record(1)
    alone, waiting = [], [payload]
    while waiting:
        part = waiting.pop()
        smaller = ISOLATE.parts(part)
        if smaller:
            assert sum(ISOLATE.item_count(each) for each in smaller) == ISOLATE.item_count(part)
            waiting += smaller
        else:
            alone.append(part)
    assert [ISOLATE.item_count(part) for part in alone] == [1] * 6
