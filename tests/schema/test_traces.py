"""Traces and sessions as computed from spans: exact however the spans arrive (C2)."""

import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
from google.protobuf.internal.encoder import _VarintBytes
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from support.engines import fresh_stores
from support.telemetry import export_request, otlp_span
from tracestone.protos.ingest.v1.traces_pb2 import Traces
from tracestone.schema import clock
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.stores import spans
from tracestone.schema.stores.spans import SpanStore

MINUTE = 60_000_000_000
START = 1_790_000_000_000_000_000 // MINUTE * MINUTE
MS = 1_000_000


@dataclass
class Store:
    """ClickHouse, fed as the loader does; batches and trace ids are never used twice."""

    columnar: Columnar
    spans: SpanStore
    received_ns: int = field(default_factory=clock.now_ns)

    async def send(self, *requests: Sequence[Span] | ExportTraceServiceRequest, experiment: int = 1) -> str:
        """One batch of requests, in order; returns its name."""
        payload = b""
        for each in requests:
            request = each if isinstance(each, ExportTraceServiceRequest) else export_request(*each)
            self.received_ns += 1
            ours = Traces(
                experiment_ids=[experiment] * len(request.resource_spans), received_at=self.received_ns
            ).SerializeToString()
            record = request.SerializeToString() + ours
            payload += _VarintBytes(len(record)) + record
        name = f"test/{secrets.token_hex(8)}"
        await self.again(payload, name)
        self.last = payload
        return name

    async def again(self, payload: bytes, name: str) -> None:
        """The same batch, as after a crash."""
        await self.spans.insert(payload, name)
        await self.spans.refresh_traces([name])

    async def trace(self, number: int) -> dict[str, Any]:
        """The one row of a trace in `traces`."""
        rows = await self.columnar.query("SELECT * FROM traces WHERE trace_id = {id:String}", {"id": f"{number:032x}"})
        assert len(rows) == 1, rows
        return rows[0]

    async def names(self, number: int) -> list[str]:
        """The names of a trace's spans in `spans`, in order."""
        rows = await self.columnar.query(
            "SELECT name FROM spans WHERE trace_id = {id:String} ORDER BY name", {"id": f"{number:032x}"}
        )
        return [row["name"] for row in rows]


@pytest_asyncio.fixture(scope="module")
async def store(postgres_server: str, chdb_url: str) -> AsyncIterator[Store]:
    """One database for the module."""
    async with fresh_stores(postgres_server, chdb_url) as (_, columnar):
        yield Store(columnar, SpanStore(columnar))


@pytest.fixture
def trace() -> int:
    """The number of a trace that no other test uses."""
    return secrets.randbits(120) + 1


async def test_one_trace_whole(store: Store, trace: int) -> None:
    await store.send(
        [
            otlp_span(
                trace, 1, start_ns=START, length_ms=500, name="answer", attributes={"session.id": "s", "user.id": "u"}
            ),
            otlp_span(
                trace,
                2,
                1,
                start_ns=START + 100 * MS,
                length_ms=200,
                attributes={
                    "gen_ai.operation.name": "chat",
                    "gen_ai.request.model": "gpt",
                    "gen_ai.usage.input_tokens": 7,
                    "gen_ai.usage.output_tokens": 3,
                    "llm.cost.total": 0.25,
                },
            ),
            otlp_span(trace, 3, 1, start_ns=START + 400 * MS, length_ms=50, error="tool broke"),
        ]
    )
    row = await store.trace(trace)
    last_seen = row.pop("last_seen")
    assert last_seen.timestamp() == pytest.approx(clock.now_ns() / 1e9, abs=60)
    assert {name: value for name, value in row.items() if name not in ("start_time", "end_time")} == {
        "experiment_id": 1,
        "trace_id": f"{trace:032x}",
        "root_name": "answer",
        "service_name": "agent",
        "duration_ns": 500 * MS,
        "state": "OK",
        "span_count": 3,
        "error_count": 1,
        "input_tokens": 7,
        "output_tokens": 3,
        "total_tokens": 10,
        "cost_total": 0.25,
        "models": ["gpt"],
        "session_id": "s",
        "user_id": "u",
        "tags": {},
        "input_preview": "",
        "output_preview": "",
        "complete": True,
    }


async def test_states(store: Store, trace: int) -> None:
    await store.send([otlp_span(trace, 2, 1, start_ns=START, error="child")])
    assert (await store.trace(trace))["state"] == "IN_PROGRESS"
    assert not (await store.trace(trace))["complete"]
    await store.send([otlp_span(trace, 1, start_ns=START)])
    assert (await store.trace(trace))["state"] == "OK"
    await store.send([otlp_span(trace, 1, start_ns=START, error="after all")])
    assert (await store.trace(trace))["state"] == "ERROR"
    assert (await store.trace(trace))["error_count"] == 2


async def test_the_root_comes_last(store: Store, trace: int) -> None:
    for number in (4, 3, 2):
        await store.send([otlp_span(trace, number, number - 1, start_ns=START + number * MS, name=f"step {number}")])
    row = await store.trace(trace)
    assert (row["root_name"], row["span_count"], row["complete"]) == ("step 2", 3, False)
    await store.send([otlp_span(trace, 1, start_ns=START, name="root")])
    row = await store.trace(trace)
    assert (row["root_name"], row["span_count"], row["complete"]) == ("root", 4, True)


async def test_the_same_batch_twice(store: Store, trace: int) -> None:
    name = await store.send([otlp_span(trace, 1, start_ns=START, attributes={"llm.token_count.prompt": 5})])
    await store.again(store.last, name)
    assert await store.names(trace) == ["step"]
    row = await store.trace(trace)
    assert (row["span_count"], row["input_tokens"]) == (1, 5)


async def test_an_earlier_batch_again_does_not_bring_back_what_was_replaced(store: Store, trace: int) -> None:
    name = await store.send([otlp_span(trace, 1, start_ns=START, name="first")])
    first = store.last
    await store.send([otlp_span(trace, 1, start_ns=START + 3 * MINUTE, name="second")])
    for _ in range(3):
        await store.again(first, name)
        assert await store.names(trace) == ["second"]
        assert (await store.trace(trace))["span_count"] == 1


async def test_the_same_request_in_two_batches_and_twice_in_one(store: Store, trace: int) -> None:
    spans = [otlp_span(trace, 1, start_ns=START, attributes={"llm.token_count.prompt": 5})]
    await store.send(spans, spans)
    await store.send(spans)
    row = await store.trace(trace)
    assert (row["span_count"], row["input_tokens"]) == (1, 5)
    assert await store.names(trace) == ["step"]


async def test_the_same_span_twice_in_one_request(store: Store, trace: int) -> None:
    await store.send([otlp_span(trace, 1, start_ns=START), otlp_span(trace, 1, start_ns=START)])
    assert (await store.trace(trace))["span_count"] == 1
    assert await store.names(trace) == ["step"]


async def test_a_later_version_replaces_the_earlier(store: Store, trace: int) -> None:
    await store.send([otlp_span(trace, 1, start_ns=START, name="running", attributes={"llm.token_count.prompt": 5})])
    await store.send([otlp_span(trace, 1, start_ns=START, name="done", attributes={"llm.token_count.prompt": 8})])
    assert await store.names(trace) == ["done"]
    row = await store.trace(trace)
    assert (row["root_name"], row["span_count"], row["input_tokens"]) == ("done", 1, 8)


@pytest.mark.parametrize("shift", [MINUTE, -MINUTE, 40 * 24 * 60 * MINUTE, -40 * 24 * 60 * MINUTE])
async def test_a_later_version_with_another_start_replaces_the_earlier(store: Store, trace: int, shift: int) -> None:
    """Its minute, even its day, is part of where ClickHouse keeps it."""
    await store.send(
        [
            otlp_span(trace, 1, start_ns=START, name="first", attributes={"llm.token_count.prompt": 5}),
            otlp_span(trace, 2, 1, start_ns=START, name="child"),
        ]
    )
    await store.send(
        [otlp_span(trace, 1, start_ns=START + shift, name="second", attributes={"llm.token_count.prompt": 8})]
    )
    assert await store.names(trace) == ["child", "second"]
    row = await store.trace(trace)
    assert (row["root_name"], row["span_count"], row["input_tokens"]) == ("second", 2, 8)
    assert row["duration_ns"] == abs(shift) + 100 * MS
    # And back again: what was hidden must not hide what comes later.
    await store.send([otlp_span(trace, 1, start_ns=START, name="third")])
    assert await store.names(trace) == ["child", "third"]
    assert (await store.trace(trace))["root_name"] == "third"
    await store.columnar.command("OPTIMIZE TABLE span_rows FINAL")
    assert await store.names(trace) == ["child", "third"]


async def test_two_starts_of_one_span_in_one_request(store: Store, trace: int) -> None:
    await store.send(
        [
            otlp_span(trace, 1, start_ns=START, name="early"),
            otlp_span(trace, 1, start_ns=START + 5 * MINUTE, name="late"),
        ]
    )
    assert len(await store.names(trace)) == 1
    assert (await store.trace(trace))["span_count"] == 1


async def test_a_span_without_times_sent_again_much_later(store: Store, trace: int) -> None:
    """Its time is that of its receipt, another one each time."""
    span = otlp_span(trace, 1, start_ns=START)
    span.start_time_unix_nano = span.end_time_unix_nano = 0
    await store.send([span])
    store.received_ns += 5 * MINUTE
    await store.send([span])
    assert await store.names(trace) == ["step"]
    assert (await store.trace(trace))["span_count"] == 1


async def test_one_trace_id_in_two_experiments_is_two_traces(store: Store, trace: int) -> None:
    await store.send([otlp_span(trace, 1, start_ns=START)], experiment=1)
    await store.send([otlp_span(trace, 1, start_ns=START), otlp_span(trace, 2, 1, start_ns=START)], experiment=2)
    rows = await store.columnar.query(
        "SELECT experiment_id, span_count FROM traces WHERE trace_id = {id:String} ORDER BY experiment_id",
        {"id": f"{trace:032x}"},
    )
    assert [(row["experiment_id"], row["span_count"]) for row in rows] == [(1, 1), (2, 2)]


@pytest.mark.parametrize(
    ("start", "end", "duration"),
    [
        (0, START, 0),
        (START, 0, 0),
        (START, START - 5, 0),
        (1, 2, 1),
        (START, 2**63, 2**63 - 1 - START),
        (START, 2**64 - 1, 2**63 - 1 - START),
        (2**64 - 1, 2**64 - 1, 0),
        (2**63 - 2, 2**63, 1),
    ],
)
async def test_times_at_the_edges(store: Store, trace: int, start: int, end: int, duration: int) -> None:
    span = otlp_span(trace, 1, start_ns=START)
    span.start_time_unix_nano, span.end_time_unix_nano = start, end
    await store.send([span, otlp_span(trace, 2, 1, start_ns=START)])
    rows = await store.columnar.query(
        "SELECT duration_ns FROM spans WHERE trace_id = {id:String} ORDER BY span_id", {"id": f"{trace:032x}"}
    )
    assert [row["duration_ns"] for row in rows] == [duration, 100 * MS]
    assert (await store.trace(trace))["span_count"] == 2


async def test_a_parent_that_repeats_its_childrens_usage_is_not_added(store: Store, trace: int) -> None:
    usage = {"gen_ai.usage.input_tokens": 30, "gen_ai.usage.output_tokens": 12, "llm.cost.total": 3.0}
    half = {"gen_ai.usage.input_tokens": 15, "gen_ai.usage.output_tokens": 6, "llm.cost.total": 1.5}
    await store.send(
        [
            otlp_span(trace, 1, start_ns=START, attributes=usage),
            otlp_span(trace, 2, 1, start_ns=START),
            otlp_span(trace, 3, 2, start_ns=START, attributes=half),
            otlp_span(trace, 4, 2, start_ns=START, attributes=half),
        ]
    )
    row = await store.trace(trace)
    assert (row["input_tokens"], row["output_tokens"], row["total_tokens"], row["cost_total"]) == (30, 12, 42, 3.0)


async def test_no_usage_is_missing_and_zero_is_zero(store: Store, trace: int) -> None:
    await store.send([otlp_span(trace, 1, start_ns=START)])
    row = await store.trace(trace)
    assert [row[name] for name in ("input_tokens", "output_tokens", "total_tokens", "cost_total")] == [None] * 4
    await store.send([otlp_span(trace, 2, 1, start_ns=START, attributes={"gen_ai.usage.input_tokens": 0})])
    row = await store.trace(trace)
    assert (row["input_tokens"], row["output_tokens"], row["total_tokens"], row["cost_total"]) == (0, None, 0, None)


@pytest.mark.parametrize(
    "parents",
    [{1: 2, 2: 1}, {1: 1}, {1: 0, 2: 1, 3: 4, 4: 5, 5: 3}, {number: number % 600 + 1 for number in range(1, 601)}],
)
async def test_spans_in_a_circle_end(store: Store, trace: int, parents: dict[int, int]) -> None:
    """A circle alone, beside a tree, and of more spans than are looked at one by one: none is lost, nothing runs on."""
    usage = {"gen_ai.usage.input_tokens": 1}
    await store.send(
        [otlp_span(trace, child, parent, start_ns=START, attributes=usage) for child, parent in parents.items()]
    )
    row = await store.trace(trace)
    assert (row["span_count"], row["complete"]) == (len(parents), 0 in parents.values())
    assert len(await store.names(trace)) == len(parents)
    read = await store.spans.trace(f"{trace:032x}")
    assert read is not None
    assert {int(span.span_id, 16): int(span.parent_span_id or "0", 16) for span in read.spans} == parents


_CALL = {
    "gen_ai.operation.name": "chat",
    "gen_ai.response.id": "msg_1",
    "gen_ai.usage.input_tokens": 30,
    "gen_ai.usage.output_tokens": 12,
}


async def _usage(store: Store, trace: int) -> tuple[Any, ...]:
    row = await store.trace(trace)
    return row["input_tokens"], row["output_tokens"], row["total_tokens"], row["cost_total"]


async def test_one_response_seen_by_two_instrumentations_is_one_call(store: Store, trace: int) -> None:
    """Side by side below one agent, as when two packages instrument a client; each knows other things."""
    await store.send([otlp_span(trace, 2, 1, start_ns=START, attributes={**_CALL, "gen_ai.usage.output_tokens": 10})])
    assert await _usage(store, trace) == (30, 10, 40, None)
    await store.send([otlp_span(trace, 3, 1, start_ns=START, attributes={**_CALL, "llm.cost.total": 0.5})])
    assert await _usage(store, trace) == (30, 12, 42, 0.5)
    await store.send([otlp_span(trace, 1, start_ns=START), otlp_span(trace, 4, 1, start_ns=START, attributes={
        **_CALL, "gen_ai.response.id": "msg_2"})])  # fmt: skip
    assert await _usage(store, trace) == (60, 24, 84, 0.5)


async def test_of_one_response_the_model_call_s_usage_counts(store: Store, trace: int) -> None:
    """An agent beside the call may name the last answer, and have counted all of them."""
    agent = {**_CALL, "gen_ai.operation.name": "invoke_agent", "gen_ai.usage.input_tokens": 500, "llm.cost.total": 9.0}
    await store.send([otlp_span(trace, 2, 1, start_ns=START, attributes=agent)])
    assert (await _usage(store, trace))[0] == 500
    await store.send([otlp_span(trace, 3, 1, start_ns=START, attributes=_CALL)])
    assert await _usage(store, trace) == (30, 12, 42, 9.0)


async def test_one_response_in_two_traces_is_two_calls(store: Store, trace: int) -> None:
    """Nothing is known of a trace but its own spans."""
    for each in (trace, trace + 1):
        await store.send([otlp_span(each, 1, start_ns=START, attributes=_CALL)])
    assert [await _usage(store, each) for each in (trace, trace + 1)] == [(30, 12, 42, None)] * 2


@pytest.mark.parametrize("size", [3, 65, 300, 4_000])
async def test_the_way_to_the_top_may_be_long(store: Store, trace: int, size: int) -> None:
    """Only the span at the bottom of a chain counts, and the root too once the chain is cut."""
    root = otlp_span(trace, 1, start_ns=START, attributes={"gen_ai.usage.input_tokens": 1000})
    between = [otlp_span(trace, number, number - 1, start_ns=START) for number in range(2, size)]
    await store.send([root, *between, otlp_span(trace, size, size - 1, start_ns=START, attributes=_CALL)])
    assert await _usage(store, trace) == (30, 12, 42, None)
    await store.send([otlp_span(trace, 2, 999_999, start_ns=START)])
    assert await _usage(store, trace) == (1030, 12, 1042, None)


async def test_a_trace_of_thousands_of_spans_counts_as_a_small_one_does(store: Store, trace: int) -> None:
    """Agents repeat their calls' usage, one reports usage alone, and each call is seen twice."""
    agents, calls, size = 300, 5, 1 + 300 * (1 + 2 * 5)
    sent = [otlp_span(trace, 1, start_ns=START)]
    for agent in range(agents):
        top = 10 + agent * 100
        usage = {"gen_ai.operation.name": "invoke_agent", "gen_ai.usage.input_tokens": 30 * calls}
        sent.append(otlp_span(trace, top, 1, start_ns=START, attributes=usage))
        for call in range(calls):
            attributes = {**_CALL, "gen_ai.response.id": f"msg_{agent}_{call}"}
            sent += [
                otlp_span(trace, top + 1 + 2 * call + n, top, start_ns=START, attributes=attributes) for n in (0, 1)
            ]
    alone = otlp_span(trace, 5, 1, start_ns=START, attributes={"gen_ai.usage.input_tokens": 7})
    await store.send([*sent, alone])
    row = await store.trace(trace)
    assert row["span_count"] == size + 1 > 2_000
    assert (row["input_tokens"], row["output_tokens"]) == (agents * calls * 30 + 7, agents * calls * 12)


async def test_no_traces_at_all(columnar: Columnar) -> None:
    for relation in ("spans", "traces", "sessions", "assessments", "experiments"):
        assert await columnar.query(f"SELECT * FROM {relation}") == []
        assert await columnar.query(f"SELECT count() AS n FROM {relation}") == [{"n": 0}]
    await SpanStore(columnar).refresh_traces(["never seen"])
    assert await SpanStore(columnar).trace("0" * 31 + "1") is None


async def test_sessions(store: Store) -> None:
    session = f"session {secrets.token_hex(4)}"
    traces = [secrets.randbits(120) + 1 for _ in range(3)]
    for turn, trace in enumerate(traces):
        await store.send(
            [
                otlp_span(
                    trace,
                    1,
                    99 if turn == 2 else 0,
                    start_ns=START + turn * MINUTE,
                    error="no" if turn == 1 else "",
                    attributes={
                        "session.id": session,
                        "user.id": f"user {turn % 2}",
                        "gen_ai.usage.input_tokens": 10,
                        "gen_ai.usage.output_tokens": turn,
                        "llm.cost.total": 0.5,
                    },
                )
            ]
        )
    await store.send([otlp_span(secrets.randbits(120), 1, start_ns=START)])
    (row,) = await store.columnar.query(
        "SELECT * REPLACE (arraySort(user_ids) AS user_ids, toUnixTimestamp64Nano(first_seen) AS first_seen,"
        " toUnixTimestamp64Nano(last_seen) AS last_seen) FROM sessions WHERE session_id = {s:String}",
        {"s": session},
    )
    assert row == {
        "experiment_id": 1,
        "session_id": session,
        "user_ids": ["user 0", "user 1"],
        "turn_count": 2,
        "trace_count": 3,
        "error_count": 1,
        "input_tokens": 30,
        "output_tokens": 3,
        "total_tokens": 33,
        "cost_total": 1.5,
        "first_seen": START,
        "last_seen": START + 2 * MINUTE + 100 * MS,
        "complete": False,
    }
    assert await store.columnar.query("SELECT * FROM sessions WHERE session_id = ''") == []


async def test_the_first_spans_of_a_large_trace_are_read_and_it_is_marked(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    large, small = secrets.randbits(120), secrets.randbits(120)
    await store.send(
        [otlp_span(large, number, start_ns=START + number * MS) for number in range(1, 6)]
        + [otlp_span(small, number, start_ns=START) for number in range(1, 4)]
    )
    monkeypatch.setattr(spans, "MAX_SPANS", 3)
    ids = f"{large:032x}", f"{small:032x}"
    found = await store.spans.traces(1, ids)
    assert [(found[each].cut, found[each].info.span_count, len(found[each].spans)) for each in ids] == [
        (True, 5, 3),
        (False, 3, 3),
    ]
    assert [span.span_id for span in found[ids[0]].spans] == [f"{number:016x}" for number in (1, 2, 3)]
    assert found[ids[0]] == await store.spans.trace(ids[0])


async def test_a_span_sent_to_two_experiments_is_two_spans(store: Store) -> None:
    trace = secrets.randbits(120)
    for experiment in (1, 2, 2):
        await store.send([otlp_span(trace, 1, start_ns=START)], experiment=experiment)
    rows = await store.columnar.query(
        "SELECT experiment_id, count() AS n FROM spans WHERE trace_id = {id:String} GROUP BY ALL ORDER BY ALL",
        {"id": f"{trace:032x}"},
    )
    assert rows == [{"experiment_id": 1, "n": 1}, {"experiment_id": 2, "n": 1}]
