"""`traces` and `sessions` are exact however spans arrive (C2): compared with a plain recomputation of the contract.

Random traces of sessions are sent in random versions, order, requests and batches, as the loader hands them over: some
batches are inserted side by side, in any order and some of them again, while the traces of earlier ones are recomputed.
The same is sent to a running collector by OTLP.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from google.protobuf.internal.encoder import _VarintBytes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from support.engines import fresh_stores
from support.running import Running, grpc_export, running
from support.telemetry import MS, export_request
from support.trace_rules import PRICE_IN, PRICE_OUT, PRICED, Key, Received, Sent, session_rows, trace_rows
from tracestone.protos.ingest.v1.traces_pb2 import Traces
from tracestone.schema import clock
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.stores.prices import PriceTable
from tracestone.schema.stores.spans import SpanStore

HOUR = 3600 * 10**9
START = 1_790_000_000 * 10**9
_TRACES = (
    "SELECT *, toUnixTimestamp64Nano(start_time) AS start_ns, toUnixTimestamp64Nano(end_time) AS end_ns,"
    " toUnixTimestamp64Nano(last_seen) AS last_seen_ns FROM traces WHERE trace_id IN {ids:Array(String)}"
)
_SESSIONS = (
    "SELECT *, toUnixTimestamp64Nano(first_seen) AS first_seen_ns, toUnixTimestamp64Nano(last_seen) AS last_seen_ns"
    " FROM sessions WHERE session_id IN {ids:Array(String)}"
)
_numbers = itertools.count(1)
_counts = st.one_of(st.none(), st.integers(0, 100))
_shifts_ms = st.sampled_from([0, 0, 0, 10, 4_000, 61_000, 26 * 3600 * 1000])


@st.composite
def _span(draw: st.DrawFn, trace: int, number: int) -> Sent:
    """Parents may be missing, below their child, or the span itself."""
    kind = draw(st.sampled_from(["llm", "llm", "agent", "tool", "chain"]))
    return Sent(
        experiment=draw(st.sampled_from([1, 1, 1, 2])),
        trace=trace,
        span=number,
        parent=0 if number == 1 else draw(st.sampled_from([1, 1, number - 1, number - 1, number + 1, number, 99, 0])),
        start_ns=START + draw(_shifts_ms) * MS + trace * 10_000 + number,
        length_ms=draw(st.integers(0, 5_000)),
        ended=draw(st.integers(0, 3)) > 0,
        error=draw(st.booleans()),
        kind=kind,
        model=draw(st.sampled_from(["", "unpriced", PRICED])),
        response=draw(st.sampled_from(["", "", "r-1", "r-2"])),
        input_tokens=draw(_counts),
        output_tokens=draw(_counts),
        cost=draw(st.one_of(st.none(), st.none(), st.integers(0, 8).map(lambda quarters: quarters / 4))),
        session=draw(st.sampled_from(["", "a", "b"])),
        user=draw(st.sampled_from(["", "u", "v"])),
        said=draw(st.sampled_from(["", f"span {number}"])),
    )


@st.composite
def _arrivals(draw: st.DrawFn) -> list[list[Sent]]:
    """Requests in the order of their receipt; none holds two versions of a span."""
    versions = [
        draw(_span(trace, number))
        for trace in range(1, draw(st.integers(1, 4)) + 1)
        for number in range(1, draw(st.integers(1, 7)) + 1)
        for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3])))
    ]
    requests: list[list[Sent]] = [[]]
    for version in draw(st.permutations(versions)):
        if any(version.id == other.id for other in requests[-1]) or draw(st.integers(0, 2)) == 0:
            requests.append([])
        requests[-1].append(version)
    repeats = draw(st.lists(st.sampled_from(requests), max_size=2))
    return [request for request in [*requests, *repeats] if request]


@st.composite
def _batches(draw: st.DrawFn) -> tuple[list[list[Sent]], list[list[int]], list[list[int]]]:
    """Requests; which of them make up each batch; which batches are inserted side by side, some of them again."""
    requests = draw(_arrivals())
    most = min(5, len(requests))
    places = draw(st.lists(st.integers(0, most - 1), min_size=len(requests), max_size=len(requests)))
    batches = [[n for n, place in enumerate(places) if place == batch] for batch in sorted(set(places))]
    order = draw(st.permutations([*range(len(batches)), *draw(st.lists(st.integers(0, len(batches) - 1), max_size=2))]))
    rounds: list[list[int]] = [[]]
    for batch in order:
        if batch in rounds[-1] or draw(st.booleans()):
            rounds.append([])
        rounds[-1].append(batch)
    return requests, batches, [each for each in rounds if each]


class _Case:
    """One example in the database, under ids that no other has."""

    def __init__(self, requests: list[list[Sent]]) -> None:
        self.number = next(_numbers)
        self.requests = [[self._own(sent) for sent in request] for request in requests]

    def _own(self, sent: Sent) -> Sent:
        session = sent.session and f"{sent.session} {self.number}"
        return replace(sent, trace=self.number * 1000 + sent.trace, session=session)

    async def check(self, columnar: Columnar, received: list[Received], unknown: tuple[str, ...] = ()) -> None:
        """Compares both tables with the recomputation of what was received; `unknown` columns are left out."""
        traces = trace_rows(received)
        ids = sorted({f"{trace:032x}" for _, trace in traces})
        stored: dict[Key, dict[str, Any]] = {
            (row["experiment_id"], int(row["trace_id"], 16)): row for row in await columnar.query(_TRACES, {"ids": ids})
        }
        assert _differences(stored, traces, unknown) == []
        sessions = session_rows(traces, clock.now_ns())
        rows = await columnar.query(_SESSIONS, {"ids": [f"{name} {self.number}" for name in "ab"]})
        found = {(row["experiment_id"], row["session_id"]): row for row in rows}
        assert _differences(found, sessions, unknown) == []


def _differences(
    found: dict[Any, dict[str, Any]], expected: dict[Any, dict[str, Any]], unknown: tuple[str, ...]
) -> list[tuple[Any, str, Any, Any]]:
    """Key, column, what was found and what was expected; lists in any order."""
    differences: list[tuple[Any, str, Any, Any]] = [
        (key, "row", key in found, key in expected) for key in found.keys() ^ expected.keys()
    ]
    for key in found.keys() & expected.keys():
        for name, value in expected[key].items():
            stored = sorted(found[key][name]) if isinstance(value, list) else found[key][name]
            if name not in unknown and stored != value:
                differences.append((key, name, stored, value))
    return differences


@pytest_asyncio.fixture(scope="module")
async def columnar(postgres_server: str, chdb_url: str) -> AsyncIterator[Columnar]:
    """One database for the module, with a price for one of the models."""
    async with fresh_stores(postgres_server, chdb_url) as (_, clickhouse):
        price = {"scope": "deployment", "model": PRICED, "own": True, "input": PRICE_IN, "output": PRICE_OUT}
        await clickhouse.insert_rows("model_price_rows", list(price), [list(price.values())])
        await PriceTable(clickhouse).reload()
        yield clickhouse


def _payload(requests: list[tuple[int, list[Sent]]]) -> bytes:
    """A batch as the loader hands it over: requests and when each was received."""
    parts = []
    for received_ns, request in requests:
        experiments = sorted({sent.experiment for sent in request})
        message = ExportTraceServiceRequest()
        for experiment in experiments:
            spans = (sent.otlp() for sent in request if sent.experiment == experiment)
            message.resource_spans.extend(export_request(*spans).resource_spans)
        ours = Traces(experiment_ids=experiments, received_at=received_ns).SerializeToString()
        record = message.SerializeToString() + ours
        parts += [_VarintBytes(len(record)), record]
    return b"".join(parts)


async def _through_the_store(
    columnar: Columnar, arrivals: tuple[list[list[Sent]], list[list[int]], list[list[int]]], hours_ago: int, shares: int
) -> None:
    requests, batches, rounds = arrivals
    case = _Case(requests)
    spans = SpanStore(columnar)
    begun_ns = clock.now_ns() - hours_ago * HOUR
    stamped = [(begun_ns + number * 1000, request) for number, request in enumerate(case.requests)]
    names = [f"{case.number}/{batch}" for batch in range(len(batches))]
    inserted: set[int] = set()
    waiting: list[int] = []

    async def insert(batch: int) -> None:
        await spans.insert(_payload([stamped[number] for number in batches[batch]]), names[batch])

    async def refresh(done: list[int]) -> None:
        for share in range(shares if done else 0):
            await spans.refresh_traces([names[batch] for batch in done], share, shares)

    for number, together in enumerate(rounds):
        await asyncio.gather(refresh(waiting), *(insert(batch) for batch in together))
        inserted.update(together)
        waiting = together
        if number == len(rounds) // 2 or number == len(rounds) - 1:
            await refresh(waiting)
            await case.check(columnar, [
                Received(sent, at_ns)
                for batch in inserted for at_ns, request in (stamped[n] for n in batches[batch]) for sent in request
            ])  # fmt: skip
            waiting = []


_UNHURRIED = {"deadline": None, "suppress_health_check": list(HealthCheck)}


@pytest.mark.timeout(300)
@settings(max_examples=10, **_UNHURRIED)
@given(arrivals=_batches(), hours_ago=st.sampled_from([0, 2]), shares=st.sampled_from([1, 2]))
async def test_any_arrival_gives_the_same_rows(
    columnar: Columnar, arrivals: tuple[list[list[Sent]], list[list[int]], list[list[int]]], hours_ago: int, shares: int
) -> None:
    await _through_the_store(columnar, arrivals, hours_ago, shares)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@settings(max_examples=150, **_UNHURRIED)
@given(arrivals=_batches(), hours_ago=st.sampled_from([0, 2]), shares=st.sampled_from([1, 2]))
async def test_many_arrivals_give_the_same_rows(
    columnar: Columnar, arrivals: tuple[list[list[Sent]], list[list[int]], list[list[int]]], hours_ago: int, shares: int
) -> None:
    await _through_the_store(columnar, arrivals, hours_ago, shares)


@pytest_asyncio.fixture(scope="module")
async def collector(
    postgres_server: str, chdb_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Running]:
    """A running collector."""
    folder: Path = tmp_path_factory.mktemp("collector")
    async with fresh_stores(postgres_server, chdb_url) as (pool, clickhouse), running(pool, clickhouse, folder) as here:
        yield here


@pytest.mark.timeout(300)
@settings(max_examples=4, **_UNHURRIED)
@given(requests=_arrivals())
async def test_what_a_collector_receives_gives_the_same_rows(collector: Running, requests: list[list[Sent]]) -> None:
    """Cost and the time of receipt, which differ here, are the other test's."""
    case = _Case([[replace(sent, experiment=0, model="") for sent in request] for request in requests])
    metadata = (("x-mlflow-experiment-id", "0"),)
    received = []
    async with grpc_export(collector.grpc_address) as export:
        for number, request in enumerate(case.requests):
            spans = {sent.id: sent for sent in request}.values()
            await export(export_request(*(sent.otlp() for sent in spans)).SerializeToString(), metadata=metadata)
            received += [Received(sent, number) for sent in spans]
    await collector.rows("SELECT 1")
    await case.check(collector.columnar, received, ("last_seen_ns", "complete"))
