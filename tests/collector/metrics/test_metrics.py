"""`/metrics` and the backlog in `/health`, after real traffic: exact where it can be."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client.parser import text_string_to_metric_families

from support.faulty_columnar import ClosedColumnar
from support.load import Here, NotTaken, grpc_sender, request, requests
from support.running import Running, running
from tracestone.collector.ingest import backoff
from tracestone.collector.metrics.counts import Counts, added_up
from tracestone.collector.metrics.durations import BOUNDS, Durations
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.errors import LogFull, StorageDown, TooLarge

MIB = 1024 * 1024
PROTOBUF = {"content-type": "application/x-protobuf"}


@pytest_asyncio.fixture
async def closable(columnar: Columnar) -> AsyncIterator[ClosedColumnar]:
    """A store that can be closed."""
    store = ClosedColumnar(columnar.url, database=columnar.database)
    await store.open()
    yield store
    await store.close()


class Scrape:
    """One answer of /metrics, read by Prometheus' own parser."""

    def __init__(self, text: str) -> None:
        self._samples = {
            (sample.name.removeprefix("tracestone_"), tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        """The value of one series, 0 when there is none."""
        return self._samples.get((name, tuple(sorted(labels.items()))), 0.0)

    def all(self, name: str) -> dict[tuple[str, ...], float]:
        """All series of a metric, by the values of their labels in the order of the labels' names."""
        return {
            tuple(value for _, value in labels): value
            for (found, labels), value in self._samples.items()
            if found == name
        }


async def scraped(here: Running) -> Scrape:
    """What /metrics says now."""
    async with httpx.AsyncClient() as http:
        answer = await http.get(f"{here.url}/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return Scrape(answer.text)


async def test_requests_and_items_are_counted_by_transport_signal_and_outcome(
    pool: Pool, columnar: Columnar, tmp_path: Path
) -> None:
    sent = [next(requests(seed)) for seed in range(3)]
    invalid = request([Span(trace_id=b"short", span_id=b"8 bytes."), *sent[0].spans])
    async with running(pool, columnar, tmp_path, max_request_bytes=100_000) as here:
        send, close = grpc_sender(Here(here))
        for each in sent:
            await send(each.data)
        await close()
        async with httpx.AsyncClient(headers=PROTOBUF) as http:
            for body in (invalid.data, b"no request", bytes(100_001)):
                await http.post(here.traces_url, content=body)
            await http.post(here.traces_url, content=b"{}", headers={"content-type": "application/json"})
            await http.post(here.traces_url.replace("traces", "logs"), content=b"")
            agent = {"user-agent": "OTel-OTLP-Exporter-JavaScript/0.200.0"}
            await http.post(here.traces_url, content=sent[0].data, headers=agent)
        await here.collector.barrier()
        found = await scraped(here)
    assert found.all("receiver_requests_total") == {
        ("ok", "traces", "grpc"): 3,
        ("ok", "traces", "http"): 3,
        ("invalid", "traces", "http"): 1,
        ("too_large", "traces", "http"): 1,
        ("ok", "logs", "http"): 1,
    }
    spans = [len(each.spans) for each in sent]
    assert found.value("receiver_items_total", transport="grpc", signal="traces", outcome="accepted") == sum(spans)
    assert found.value("receiver_items_total", transport="http", signal="traces", outcome="accepted") == 2 * spans[0]
    assert found.value("receiver_items_total", transport="http", signal="traces", outcome="rejected") == 1
    assert found.value("receiver_bytes_total", transport="grpc", signal="traces") == sum(len(x.data) for x in sent)
    senders = found.all("receiver_senders_total")
    assert senders == {("grpc",): 3, ("python",): senders[("python",)], ("otel-js",): 1}
    assert found.value("loader_requests_total", signal="traces") == 5
    assert 1 <= found.value("loader_batches_total", signal="traces") <= 5
    assert found.value("loader_insert_seconds_count", signal="traces") == found.value(
        "loader_batches_total", signal="traces"
    )
    assert found.value("wal_sync_seconds_count", signal="traces") == 5
    assert found.value("wal_sync_seconds_bucket", signal="traces", le="+Inf") == 5
    assert found.value("wal_waiting_bytes", signal="traces") == 0
    assert found.value("receiver_body_bytes") == 0
    assert found.value("mirror_waiting_rows") >= 0
    states = ("running", "ready", "waiting", "waiting_for_budget", "waiting_for_provider")
    assert found.all("scoring_jobs") == {(state,): 0 for state in states}
    assert set(found.all("part_up").values()) == {1}
    assert len(found.all("build_info")) == 1
    assert found.value("process_resident_memory_bytes") > 0


async def test_a_backlog_is_told_and_is_a_problem_only_when_the_log_is_nearly_full(
    pool: Pool, closable: ClosedColumnar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backoff, "_FIRST_SECONDS", 0.02)
    monkeypatch.setattr(backoff, "_LAST_SECONDS", 0.1)
    async with running(pool, closable, tmp_path, wal_max_bytes=2 * MIB, wal_segment_bytes=64 * 1024) as here:
        assert (await _health(here))["backlog"]["traces"] == {
            "state": "idle",
            "waiting_bytes": 0,
            "bound_bytes": MIB,
            "oldest_seconds": 0.0,
        }
        closable.closed = True
        send, close = grpc_sender(Here(here))
        stream = requests(3, text_bytes=20_000)
        first = next(stream)
        await send(first.data)
        await asyncio.sleep(0.3)
        health = await _health(here)
        assert health["backlog"]["traces"]["state"] == "waiting"
        assert health["backlog"]["traces"]["waiting_bytes"] > len(first.data)
        assert health["backlog"]["traces"]["oldest_seconds"] > 0.2
        assert "write_ahead_log" not in health["broken"]
        with pytest.raises(NotTaken, match="full"):
            while True:
                await send(next(stream).data)
        health = await _health(here)
        assert "write_ahead_log" in health["broken"]
        assert "of the log's bound are used" in health["parts"]["write_ahead_log"]["problem"]
        found = await scraped(here)
        assert found.value("receiver_requests_total", transport="grpc", signal="traces", outcome="log_full") == 1
        assert found.value("wal_waiting_bytes", signal="traces") > 0.9 * found.value("wal_bound_bytes", signal="traces")
        assert found.value("wal_segments", signal="traces") > 5
        assert found.value("loader_oldest_seconds", signal="traces") > 0.2
        assert found.value("loader_failures_total", signal="traces") > 0
        assert (found.value("part_up", part="clickhouse"), found.value("part_up", part="postgres")) == (0, 1)
        closable.closed = False
        async with asyncio.timeout(30):
            while (health := await _health(here))["backlog"]["traces"]["state"] != "idle":
                await asyncio.sleep(0.05)
        assert health["broken"] == []
        await close()


def test_what_senders_say_makes_no_new_series() -> None:
    counts = Counts()
    for number in range(5000):
        counts.sender(f"a sender's own name {number}")
        counts.sender(f"OTel-OTLP-Exporter-Python/{number} grpc-python/1.85")
    counts.sender("")
    assert counts.numbers() == {"senders other": 5000, "senders otel-python": 5000, "senders none": 1}
    assert len(counts._families) <= 1000


def test_every_error_has_an_outcome_and_processes_add_up() -> None:
    counts = Counts()
    for error in (TooLarge("x"), LogFull("x"), StorageDown("x"), ValueError("x")):
        counts.refused("http", "logs", error)
    counts.took("grpc", "traces", 10, 3, 1)
    both = added_up([counts.numbers(), counts.numbers()])
    assert both == {
        **{f"requests http logs {name}": 2 for name in ("too_large", "log_full", "storage_down", "failed")},
        "requests grpc traces ok": 2,
        "bytes grpc traces": 20,
        "items grpc traces accepted": 6,
        "items grpc traces rejected": 2,
    }


def test_durations_fall_into_the_bucket_that_holds_them() -> None:
    durations = Durations()
    for seconds in (0.0005, 0.001, 0.0011, 29.0, 31.0):
        durations.add(seconds)
    assert durations.numbers("x") == {
        "x 0": 2,
        "x 1": 1,
        f"x {len(BOUNDS) - 1}": 1,
        f"x {len(BOUNDS)}": 1,
        "x sum": pytest.approx(60.0026),
    }


async def _health(here: Running) -> dict:
    async with httpx.AsyncClient() as http:
        return (await http.get(f"{here.url}/health")).json()
