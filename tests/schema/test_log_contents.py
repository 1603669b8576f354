"""Log records with content in the rows of their spans: right whatever comes when, and however often."""

import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from support.engines import fresh_stores
from support.signals import SECOND, START, log, logs_request
from support.telemetry import export_request, otlp_span
from tracestone.collector.receiver.nested import rewritten
from tracestone.collector.rewrite.kinds import KINDS, parameters
from tracestone.collector.rewrite.runner import Runner
from tracestone.collector.signals.logs import LOGS
from tracestone.collector.wal.frames import varint
from tracestone.protos.ingest.v1.logs_pb2 import Logs
from tracestone.protos.ingest.v1.traces_pb2 import Traces
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.stores.logs import LogStore
from tracestone.schema.stores.rewrites import RewriteStore
from tracestone.schema.stores.spans import SpanStore

QUESTION = {"content": "What is the capital of France?"}
ANSWER = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Paris."}}
_numbers = itertools.count(1)


class _Store:
    """What the loaders do, step by step."""

    def __init__(self, pool: Pool, columnar: Columnar) -> None:
        self.pool, self.columnar = pool, columnar
        self.spans, self.logs = SpanStore(columnar), LogStore(columnar)

    async def insert_spans(self, *spans: Span, batch: str, experiment: int = 1, received: int = START) -> None:
        request = export_request(*spans)
        ours = Traces(experiment_ids=[experiment], received_at=received)
        record = request.SerializeToString() + ours.SerializeToString()
        await self.spans.insert(varint(len(record)) + record, batch)

    async def insert_logs(self, *records: LogRecord, batch: str, experiment: int = 1, bound: bool = False) -> None:
        request = rewritten(LOGS, logs_request(*records), 64)
        ours = Logs(experiment_ids=[experiment], received_at=START, sender_bound=bound)
        record = request.SerializeToString() + ours.SerializeToString()
        await self.logs.insert(varint(len(record)) + record, batch)

    async def receive(self, *items: Span | LogRecord, **more: Any) -> None:
        """One request of spans or of logs, and what follows it."""
        batch = f"b/{next(_numbers)}"
        spans = [item for item in items if isinstance(item, Span)]
        records = [item for item in items if isinstance(item, LogRecord)]
        if records:
            await self.insert_logs(*records, batch=batch, **more)
            await self.spans.refresh_traces_of_logs([batch])
        if spans:
            await self.insert_spans(*spans, batch=batch, **more)
            await self.spans.refresh_traces([batch])

    async def rows(self) -> list[dict[str, Any]]:
        return await self.columnar.query("SELECT * FROM spans ORDER BY experiment_id, trace_id, span_id")

    async def told(self) -> list[tuple[str, str, str, str]]:
        """What each span's row says of its content."""
        return [
            (_text(row["input_messages"]), _text(row["output_messages"]), row["input_preview"], row["output_preview"])
            for row in await self.rows()
        ]


def _text(messages: str) -> str:
    return " | ".join(
        f"{message['role']}: {part['content']}" for message in json.loads(messages or "[]") for part in message["parts"]
    )


@pytest_asyncio.fixture(scope="module")
async def kept(postgres_server: str, chdb_url: str) -> AsyncIterator[_Store]:
    async with fresh_stores(postgres_server, chdb_url) as stores:
        yield _Store(*stores)


@pytest_asyncio.fixture
async def store(kept: _Store) -> AsyncIterator[_Store]:
    """Both stores, without anything in them."""
    yield kept
    tables = ("span_rows", "trace_rows", "trace_slices", "trace_touches", "log_rows", "log_places", "log_touches")
    for table in tables:
        await kept.columnar.command(f"TRUNCATE TABLE {table}")


def _call(trace: int = 1, span: int = 1, **attributes: Any) -> Span:
    given = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", **attributes}
    return otlp_span(trace, span, start_ns=START, attributes=given)


def _event(name: str, body: Any, trace: int = 1, span: int = 1, *, after: int = 1, **more: Any) -> LogRecord:
    return log(body, trace, span, at=START + after, event_name=f"gen_ai.{name}", **more)


COMPLETE = ("user: What is the capital of France?", "assistant: Paris.", "What is the capital of France?", "Paris.")


@pytest.mark.parametrize("first", ["span", "log"])
async def test_an_event_fills_what_the_span_lacks(store: _Store, first: str) -> None:
    told = {
        "gen_ai.request.model": "other",
        "gen_ai.response.model": "m-2026",
        "gen_ai.response.id": "r-1",
        "gen_ai.response.finish_reasons": ["stop", "length"],
        "gen_ai.usage.input_tokens": 120,
        "gen_ai.usage.output_tokens": 30,
        "gen_ai.usage.cache_read.input_tokens": 100,
        "gen_ai.conversation.id": "c-1",
    }
    items = [
        _call(**{"gen_ai.usage.output_tokens": 31}),
        _event("client.inference.operation.details", None, attributes=told),
    ]
    for item in items if first == "span" else items[::-1]:
        await store.receive(item)
    (row,) = await store.rows()
    assert row["finish_reasons"] == ["stop", "length"]
    names = "request_model response_model response_id session_id input_tokens output_tokens cache_read_tokens".split()
    assert [row[name] for name in names] == ["m", "m-2026", "r-1", "c-1", 120, 31, 100]
    (trace,) = await store.columnar.query("SELECT input_tokens, output_tokens, session_id FROM traces")
    assert trace == {"input_tokens": 120, "output_tokens": 31, "session_id": "c-1"}


async def test_every_order(store: _Store) -> None:
    """A span in two versions and its records, each in a request of its own: all orders, a trace for each."""
    orders = list(itertools.permutations(("early", "late", "question", "answer")))

    def item(kind: str, trace: int) -> Span | LogRecord:
        if kind in ("early", "late"):
            return _call(trace, **{"session.id": kind})
        if kind == "question":
            return _event("user.message", QUESTION, trace)
        return _event("choice", ANSWER, trace, after=2)

    for step in range(4):
        kinds: dict[str, list[Any]] = {}
        for trace, order in enumerate(orders, start=1):
            kinds.setdefault(order[step], []).append(item(order[step], trace))
        for kind, items in kinds.items():
            await store.receive(*items, **({"received": START + (kind == "late")} if kind in ("early", "late") else {}))
    rows = await store.rows()
    assert len(rows) == 24
    assert {(row["session_id"], tuple(row["finish_reasons"])) for row in rows} == {("late", ("stop",))}
    assert set(await store.told()) == {COMPLETE}
    traces = await store.columnar.query("SELECT DISTINCT span_count, input_preview, output_preview FROM traces")
    assert [tuple(trace.values()) for trace in traces] == [(1, *COMPLETE[2:])]


async def test_a_later_record_joins_the_earlier_ones_in_their_order(store: _Store) -> None:
    await store.receive(_event("user.message", {"content": "third"}, after=3), _call())
    await store.receive(_event("user.message", {"content": "first"}, after=1))
    # what has the same time counts in the order in which it came
    await store.receive(*(_event("user.message", {"content": f"second {n}"}, after=2) for n in range(8)))
    seconds = [f"user: second {n}" for n in range(8)]
    ((said, _, last, _),) = await store.told()
    assert said == " | ".join(["user: first", *seconds, "user: third"])
    assert last == "third"


async def test_records_of_the_newer_form(store: _Store) -> None:
    """One event with attributes; what the span says itself goes before it, and errors are told as well."""
    messages = [{"role": "user", "parts": [{"type": "text", "content": "why?"}]}]
    answer = [{"role": "assistant", "parts": [{"type": "text", "content": "so."}], "finish_reason": "length"}]
    details = {"gen_ai.input.messages": messages, "gen_ai.output.messages": answer, "gen_ai.usage.input_tokens": 99}
    name = "client.inference.operation.details"
    await store.receive(_event(name, None, attributes=details), _call())
    await store.receive(_call(2, **{"gen_ai.input.messages": json.dumps([{"role": "user", "content": "own"}])}))
    await store.receive(_event(name, None, 2, attributes=details))
    failed = {"exception.type": "acme.RateLimited", "exception.message": "slow down"}
    await store.receive(_event("client.operation.exception", None, 2, attributes=failed))
    first, second = await store.told()
    assert first == ("user: why?", "assistant: so.", "why?", "so.")
    assert second[:2] == ("user: own", "assistant: so.")
    rows = await store.rows()
    assert [(row["finish_reasons"], row["error_type"]) for row in rows] == [
        (["length"], ""),
        (["length"], "acme.RateLimited"),
    ]
    assert [row["input_tokens"] for row in rows] == [99, 99]


@pytest.mark.parametrize("steps", ["rows", "rows and follow"])
async def test_a_crash_in_between(store: _Store, steps: str) -> None:
    """Logs are inserted, and joined or not; then the process dies, and everything comes once more."""
    await store.receive(_call())
    records = [_event("user.message", QUESTION), _event("choice", ANSWER, after=2)]
    await store.insert_logs(*records, batch="logs/1")
    if steps == "rows and follow":
        # all but the traces' rows
        await store.columnar.command("INSERT INTO trace_touches SELECT 'x', 1, trace_id, now() FROM log_touches")
        await store.spans._contents.join(["x"], 0, 1)
        assert await store.told() == [COMPLETE]
    await store.insert_spans(_call(), batch="spans/again")
    await store.insert_logs(*records, batch="logs/joined otherwise")
    await store.spans.refresh_traces(["spans/again"])
    await store.spans.refresh_traces_of_logs(["logs/joined otherwise"])
    assert await store.told() == [COMPLETE]
    (trace,) = await store.columnar.query("SELECT input_preview, output_preview FROM traces")
    assert tuple(trace.values()) == COMPLETE[2:]


async def test_who_writes_a_row_without_its_records_brings_it_up_to_them(store: _Store) -> None:
    """A span that comes again, and a row that was read before the records came and is written after."""
    await store.receive(_call())
    await store.columnar.command("CREATE TABLE read_before AS spans_in ENGINE = MergeTree ORDER BY trace_id")
    try:
        read = KINDS["renormalise"].rewrite[0].replace("INSERT INTO spans_in", "INSERT INTO read_before")
        bound = {"experiment_id": 1, "after": 0, "upto": 2**40, **parameters()}
        await store.columnar.command(read.replace("map_version !=", "0 !="), bound)
        await store.receive(_event("user.message", QUESTION), _event("choice", ANSWER, after=2))
        assert await store.told() == [COMPLETE]
        await store.columnar.command("INSERT INTO spans_in SELECT * FROM read_before", settings={"log_comment": "r"})
        assert await store.told() != [COMPLETE]
        await store.spans.refresh_traces(["r"])
    finally:
        await store.columnar.command("DROP TABLE read_before SYNC")
    assert await store.told() == [COMPLETE]


async def test_renormalise_keeps_what_was_joined_and_joins_the_rest(store: _Store) -> None:
    await store.receive(_event("user.message", QUESTION), _event("choice", ANSWER, after=2), _call(1), _call(2))
    await store.insert_logs(
        *(_event(name, body, 2) for name, body in (("user.message", QUESTION), ("choice", ANSWER))), batch="x"
    )
    old = "INSERT INTO span_rows SELECT * REPLACE (0 AS map_version) FROM span_rows FINAL"
    await store.columnar.command(old, settings={"log_comment": "old"})
    rewrites = RewriteStore(store.pool)
    asked = await rewrites.add("renormalise", parameters())
    await Runner(store.pool, store.columnar, KINDS).work()
    assert (await rewrites.get(asked.rewrite_id)).spans_changed == 2
    assert await store.told() == [COMPLETE, COMPLETE]


async def test_only_its_own_experiment_if_the_sender_is_bound(store: _Store) -> None:
    await store.receive(_call(1), _call(2))
    await store.receive(_event("user.message", QUESTION, 1), experiment=2)
    await store.receive(_event("user.message", {"content": "forged"}, 2), experiment=2, bound=True)
    assert [said for said, *_ in await store.told()] == ["user: What is the capital of France?", ""]
    await store.receive(_event("user.message", {"content": "own"}, 2), experiment=1, bound=True)
    assert [said for said, *_ in await store.told()] == ["user: What is the capital of France?", "user: own"]


async def test_a_span_takes_so_many_records(store: _Store) -> None:
    await store.receive(_call())
    await store.receive(*(_event("user.message", {"content": str(n)}, after=n) for n in range(1001)))
    await store.receive(
        *(_event("user.message", {"content": "x" * 9_000_000}, span=2, after=n) for n in range(5)), _call(1, 2)
    )
    (many, _, last, _), (large, *_) = await store.told()
    assert (many.count("|"), last) == (999, "999")
    assert large.count("|") == 2
    before = await store.columnar.query("SELECT count() AS n FROM span_rows")
    await store.receive(_event("user.message", {"content": "too late"}, after=2000))
    assert await store.columnar.query("SELECT count() AS n FROM span_rows") == before, "nothing is written for it"


async def test_other_records_change_nothing(store: _Store) -> None:
    """Without a span, without a name, of another kind: no row is written, no trace computed anew."""
    await store.receive(_call())
    count = "SELECT (SELECT count() FROM span_rows) AS spans, (SELECT count() FROM trace_touches) AS touches"
    before = await store.columnar.query(count)
    await store.receive(
        log("plain", 1, 1), log("plain"), log({"content": "x"}, 1, 0, event_name="gen_ai.user.message"),
        log({"content": "x"}, 1, 1, event_name="http.request"), log(None, 1, 1, event_name="gen_ai.evaluation.result"),
        log({"content": "x"}, 9, 9, event_name="gen_ai.user.message", at=START + SECOND),
    )  # fmt: skip
    assert await store.columnar.query(count) == before
