"""ClickHouse does not answer, or refuses something: ingest goes on to its bound, then asks senders to wait (C4)."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from support.faulty_columnar import ClosedColumnar, PickyColumnar
from support.load import Account, Here, NotTaken, Request, Senders, check_exact, drained, grpc_sender, request, requests
from support.running import Running, running
from tracestone.collector.ingest import backoff, loader
from tracestone.collector.wal import lanes
from tracestone.collector.wal.frames import varint
from tracestone.protos.ingest.v1.traces_pb2 import Traces
from tracestone.schema import clock
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.stores.spans import SpanStore

MIB = 1024 * 1024
BOUND = 4 * MIB
MARK = b"the store refuses this"


@pytest_asyncio.fixture
async def closable(columnar: Columnar) -> AsyncIterator[ClosedColumnar]:
    """A store that can be closed."""
    store = ClosedColumnar(columnar.url, database=columnar.database)
    await store.open()
    yield store
    await store.close()


@pytest_asyncio.fixture
async def picky(columnar: Columnar) -> AsyncIterator[PickyColumnar]:
    """A store that can be told to refuse something."""
    store = PickyColumnar(columnar.url, database=columnar.database)
    await store.open()
    yield store
    await store.close()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loader tries again soon."""
    monkeypatch.setattr(backoff, "_FIRST_SECONDS", 0.02)
    monkeypatch.setattr(backoff, "_LAST_SECONDS", 0.1)


async def test_a_closed_clickhouse_fills_the_log_and_nothing_is_lost(
    pool: Pool, closable: ClosedColumnar, tmp_path: Path
) -> None:
    async with running(pool, closable, tmp_path, wal_max_bytes=BOUND, wal_segment_bytes=MIB) as here:
        closable.closed = True
        senders = Senders(Here(here), text_bytes=4000)
        await senders.start()
        await _until_refused(senders)
        assert senders.account.spans > 100
        assert senders.account.without_retry == []
        log = sum(file.stat().st_size for file in (tmp_path / "wal" / "traces").glob("*"))
        assert BOUND // 4 < log < BOUND // 2 + MIB  # half of the bound is for traces
        status, broken = await _health(here)
        assert status == 503
        assert {"clickhouse", "loader"} <= set(broken)
        closable.closed = False
        account = await senders.stop()
        await check_exact(Here(here), account)
        assert (await _health(here))[0] == 200
        places = _places(closable)
        # Two batches are inserted side by side, begun in the log's order: when one is in, at most one before it is not,
        # which a slow machine may hold up while several others pass.
        for number, place in enumerate(places):
            assert sum(later < place for later in places[number:]) <= 1


async def test_what_comes_while_a_backlog_drains_is_stored_beside_it_and_counts_once(
    pool: Pool, closable: ClosedColumnar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(pool, closable, tmp_path, batch_max_bytes=100_000, wal_segment_bytes=256 * 1024) as here:
        closable.closed = True
        senders = Senders(Here(here), text_bytes=4000)
        await senders.start()
        async with asyncio.timeout(30):
            while here.collector.backlogs()["traces"]["waiting_bytes"] < 3 * MIB:
                await asyncio.sleep(0.02)
        monkeypatch.setattr(lanes, "BEHIND_SECONDS", -1.0)  # from now on, what waits counts as old
        monkeypatch.setattr(lanes, "PATIENCE_SECONDS", 0.0)
        closable.closed = False
        async with asyncio.timeout(30):  # until a batch was inserted before one that lies far in front of it
            while not any(place > 2 * MIB + later for place, later in pairwise(_places(closable))):
                await asyncio.sleep(0.02)
        await check_exact(Here(here), await senders.stop())
        assert here.collector.backlogs()["traces"]["waiting_bytes"] == 0


async def test_a_refused_sender_is_told_when_to_come_back(pool: Pool, closable: ClosedColumnar, tmp_path: Path) -> None:
    async with running(pool, closable, tmp_path, wal_max_bytes=MIB, wal_segment_bytes=256 * 1024) as here:
        closable.closed = True
        send, close = grpc_sender(Here(here))
        stream = requests(3, text_bytes=30_000)
        with pytest.raises(NotTaken, match="UNAVAILABLE: The write-ahead log is full") as refused:
            while True:
                await send(next(stream).data)
        assert refused.value.retry_told
        async with httpx.AsyncClient() as http:
            answer = await http.post(
                here.traces_url, content=next(stream).data, headers={"content-type": "application/x-protobuf"}
            )
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        await close()


async def test_what_no_parser_understands_becomes_a_dead_letter_and_its_neighbours_are_stored(
    pool: Pool, columnar: Columnar, tmp_path: Path
) -> None:
    good = [next(requests(seed)) for seed in range(4)]
    async with running(pool, columnar, tmp_path, batch_max_age_ms=500) as here:
        await _append(here, good[0].data, good[1].data, b"\x0a\x05ab", good[2].data, good[3].data)
        account = _account(*good)
        await check_exact(Here(here), account)
        assert (await _health(here))[0] == 200
        after = next(requests(9))
        send, close = grpc_sender(Here(here))
        await send(after.data)
        await close()
        account.acknowledge(after)
        await check_exact(Here(here), account)
    letters = list((tmp_path / "deadletter").glob("*.json"))
    assert len(letters) == 1
    assert "444" in json.loads(letters[0].read_text())["reasons"][0]
    assert b"\x0a\x05ab" in letters[0].with_suffix(".pb").read_bytes()


async def test_what_protobuf_allows_and_clickhouse_does_not_is_mended(
    pool: Pool, columnar: Columnar, tmp_path: Path
) -> None:
    good = next(requests(1))
    group = varint(99 << 3 | 3) + varint(99 << 3 | 4)
    two_values = b"\x0a\x01k\x12" + varint(5) + b"\x0a\x01x\x18\x07"
    strange = []
    for number, extra in enumerate((group, b"\x4a" + varint(len(two_values)) + two_values, varint(5 << 3) + b"\x07")):
        ids = Span(trace_id=bytes([1, number] * 8), span_id=b"8 bytes.").SerializeToString() + extra
        scope = b"\x12" + varint(len(ids)) + ids
        resource = b"\x12" + varint(len(scope)) + scope
        strange.append(b"\x0a" + varint(len(resource)) + resource)
    async with running(pool, columnar, tmp_path, batch_max_age_ms=500) as here:
        await _append(here, good.data, *strange)
        rows = await here.rows("SELECT span_id, attributes FROM spans WHERE trace_id < '02' ORDER BY trace_id")
        assert [row["span_id"] for row in rows] == [b"8 bytes.".hex()] * 3
        assert rows[1]["attributes"] == {"k": "7"}
        assert len(await here.rows("SELECT trace_id FROM traces")) == 3 + len({span.trace_id for span in good.spans})
    assert not (tmp_path / "deadletter").exists()


async def test_one_span_that_is_refused_costs_no_other_of_its_request(
    pool: Pool, picky: PickyColumnar, tmp_path: Path
) -> None:
    spans = list(next(requests(5, traces=4, calls=6)).spans)
    bad = Span(trace_id=spans[0].trace_id, span_id=b"bad span", name=MARK.decode())
    picky.refuses_insert = lambda payload: 70 if MARK in payload else None
    async with running(pool, picky, tmp_path) as here:
        send, close = grpc_sender(Here(here))
        await send(request([*spans[:5], bad, *spans[5:]]).data)
        await close()
        await check_exact(Here(here), _account(request(spans)))
    letters = list((tmp_path / "deadletter").glob("*.pb"))
    assert len(letters) == 1
    kept = Traces.FromString(letters[0].read_bytes()[1:])  # behind a short length
    assert [span.span_id for span in kept.resource_spans[0].scope_spans[0].spans] == [b"bad span"]
    assert json.loads(letters[0].with_suffix(".json").read_text())["items"] == 1


async def test_a_resource_that_is_refused_is_one_dead_letter(pool: Pool, picky: PickyColumnar, tmp_path: Path) -> None:
    spans = list(next(requests(5, traces=4, calls=6)).spans)
    picky.refuses_insert = lambda payload: 70 if MARK in payload else None
    async with running(pool, picky, tmp_path, batch_max_age_ms=500) as here:
        send, close = grpc_sender(Here(here))
        await asyncio.gather(send(request(spans, service=MARK.decode()).data), send(next(requests(6)).data))
        await close()
        await check_exact(Here(here), _account(next(requests(6))))
        assert picky.refusals < 6
    about = [json.loads(file.read_text()) for file in (tmp_path / "deadletter").glob("*.json")]
    assert [each["items"] for each in about] == [len(spans)]


@pytest.mark.parametrize("code", [252, 243, 202, 60])
async def test_load_and_limits_are_waited_for(code: int, pool: Pool, picky: PickyColumnar, tmp_path: Path) -> None:
    picky.refuses_insert = lambda payload: code if picky.refusals < 5 else None
    async with running(pool, picky, tmp_path) as here:
        senders = Senders(Here(here), count=2)
        await senders.start()
        await asyncio.sleep(0.2)
        await check_exact(Here(here), await senders.stop())
        assert picky.refusals == 5
    assert not (tmp_path / "deadletter").exists()


async def test_an_unheard_of_error_stops_nothing_for_ever(pool: Pool, picky: PickyColumnar, tmp_path: Path) -> None:
    good = [next(requests(seed)) for seed in range(2)]
    bad = Span(trace_id=b"a trace to lose.", span_id=b"bad span", name=MARK.decode())
    picky.refuses_insert = lambda payload: 98765 if MARK in payload else None
    async with running(pool, picky, tmp_path, batch_max_age_ms=500) as here:
        await _append(here, good[0].data, request([bad]).data, good[1].data)
        await check_exact(Here(here), _account(*good))
    assert len(list((tmp_path / "deadletter").glob("*.pb"))) == 1


async def test_an_unheard_of_error_of_a_store_that_takes_nothing_is_waited_for(
    pool: Pool, picky: PickyColumnar, tmp_path: Path
) -> None:
    picky.refuses_insert = lambda payload: 98765 if picky.refusals < 10 else None
    async with running(pool, picky, tmp_path) as here:
        send, close = grpc_sender(Here(here))
        await send(next(requests(1)).data)
        await close()
        await check_exact(Here(here), _account(next(requests(1))))
    assert not (tmp_path / "deadletter").exists()


async def test_traces_that_cannot_be_computed_hold_up_no_others(
    pool: Pool, picky: PickyColumnar, tmp_path: Path
) -> None:
    lost = request([Span(trace_id=b"a trace to lose.", span_id=b"one span", name="lost")])
    good = next(requests(1, traces=20))
    rows = await picky.query("SELECT sipHash64(lower(hex('a trace to lose.'))) AS hash")
    place = int(rows[0]["hash"])

    def refuse(sql: str, parameters: object) -> int | None:
        assert isinstance(parameters, dict)
        shares = parameters.get("shares")
        return 70 if shares and place % shares == parameters["share"] else None

    picky.refuses_statement = refuse
    async with running(pool, picky, tmp_path) as here:
        await _append(here, lost.data, good.data)
        await check_traces(here, _account(good))
        assert len(await here.rows("SELECT span_id FROM spans WHERE name = 'lost'")) == 1
        assert (await _health(here))[0] == 200
    about = [json.loads(file.read_text()) for file in (tmp_path / "deadletter").glob("*.json")]
    assert len(about) == 1
    assert "cannot be computed" in about[0]["reasons"][0]


async def test_notes_that_expired_during_an_outage_are_written_again(
    pool: Pool, picky: PickyColumnar, tmp_path: Path
) -> None:
    first = next(requests(1))
    picky.refuses_statement = lambda sql, parameters: 252 if "shares" in parameters else None
    async with running(pool, picky, tmp_path) as here:
        await _append(here, first.data)
        async with asyncio.timeout(20):
            while not await picky.query("SELECT 1 FROM trace_touches"):
                await asyncio.sleep(0.05)
    await picky.command("TRUNCATE TABLE trace_touches")
    picky.refuses_statement = lambda sql, parameters: None
    async with running(pool, picky, tmp_path) as here:
        await check_exact(Here(here), _account(first))


async def test_a_part_that_a_kill_left_out_of_its_place_is_inserted_again(
    pool: Pool, picky: PickyColumnar, tmp_path: Path
) -> None:
    first = next(requests(1))
    picky.refuses_statement = lambda sql, parameters: 252 if "shares" in parameters else None
    async with running(pool, picky, tmp_path) as here:
        await _append(here, first.data)
        async with asyncio.timeout(20):
            while not await picky.query("SELECT 1 FROM trace_touches"):
                await asyncio.sleep(0.05)
    tables = await picky.query(
        "SELECT data_paths[1] AS folder FROM system.tables WHERE database = currentDatabase() AND name = 'span_rows'"
    )
    await picky.command("DETACH TABLE span_rows")
    parts = list(Path(tables[0]["folder"]).glob("*_*_*_*"))
    for part in parts:
        shutil.rmtree(part)
    await picky.command("ATTACH TABLE span_rows")
    assert parts
    assert await picky.query("SELECT span_id FROM spans") == []
    picky.refuses_statement = lambda sql, parameters: None
    async with running(pool, picky, tmp_path) as here:
        await check_exact(Here(here), _account(first))


@pytest.mark.parametrize("what", ["time goes by", "the clock jumps"])
async def test_a_refresh_that_waited_too_long_begins_with_the_insert(
    pool: Pool,
    picky: PickyColumnar,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    what: str,
) -> None:
    if what == "time goes by":
        monkeypatch.setattr(loader, "_NOTES_SECONDS", 1.0)
    expired = "batches waited too long for what follows them"
    picky.refuses_statement = lambda sql, parameters: 252 if "shares" in parameters else None
    async with running(pool, picky, tmp_path) as here:
        senders = Senders(Here(here), count=2)
        await senders.start()
        async with asyncio.timeout(30):
            while not await picky.query("SELECT 1 FROM trace_touches"):
                await asyncio.sleep(0.05)
            await picky.query("TRUNCATE TABLE trace_touches")
            if what == "the clock jumps":  # and ClickHouse removes the notes, which are a day old for it
                now = clock.now_ns
                monkeypatch.setattr(clock, "now_ns", lambda: now() + 24 * 3600 * 10**9)
            while expired not in caplog.text:
                await asyncio.sleep(0.05)
        monkeypatch.undo()
        picky.refuses_statement = lambda sql, parameters: None
        await check_exact(Here(here), await senders.stop())


async def test_a_defect_of_the_loader_is_told_and_survived(
    pool: Pool, picky: PickyColumnar, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def defect(payload: bytes) -> int | None:
        if picky.refusals < 2:
            picky.refusals += 1
            raise RuntimeError("a defect")
        return None

    picky.refuses_insert = defect
    async with running(pool, picky, tmp_path) as here:
        senders = Senders(Here(here), count=2)
        await senders.start()
        await asyncio.sleep(0.2)
        await check_exact(Here(here), await senders.stop())
        assert (await _health(here))[0] == 200
    assert "the loader failed and begins anew" in caplog.text


async def test_what_is_inserted_is_on_the_disk_before_the_insert_returns(pool: Pool, columnar: Columnar) -> None:
    """Without this, a crash of the machine takes what has left the log already."""
    tables = await columnar.query(
        "SELECT name, engine_full FROM system.tables WHERE database = currentDatabase() AND engine LIKE '%MergeTree'"
    )
    # what is noted in log_joins is read by the next statement, and never after a crash
    others = ("schema_migrations", "log_joins")
    kept = {row["name"]: row["engine_full"] for row in tables if row["name"] not in others}
    assert {"span_rows", "trace_slices", "trace_touches", "trace_rows", "assessment_rows"} <= kept.keys()
    for name, definition in kept.items():
        for setting in ("fsync_after_insert = 1", "fsync_part_directory = 1", "min_rows_to_fsync_after_merge = 1"):
            assert setting in definition, name
    count = "SELECT sum(value) AS syncs FROM system.events WHERE event IN ('FileSync', 'DirectorySync')"
    before = (await columnar.query(count))[0]["syncs"]
    await SpanStore(columnar).insert(_framed(next(requests(1)).data), "batch")
    assert (await columnar.query(count))[0]["syncs"] > before


async def check_traces(here: Running, account: Account) -> None:
    """Waits until the traces of an account are counted."""
    await drained(Here(here), account)
    rows = await here.rows("SELECT trace_id, span_count FROM traces")
    assert {row["trace_id"]: row["span_count"] for row in rows} == {
        trace_id: len(trace.spans) for trace_id, trace in account.traces.items()
    }


async def _until_refused(senders: Senders) -> None:
    async with asyncio.timeout(60):
        while senders.account.failures < 20:
            await asyncio.sleep(0.05)
            senders.check()


def _places(store: ClosedColumnar) -> list[int]:
    """Where in the log the batches began that were inserted, in that order."""
    return [int(batch.split("/")[1].split("-")[0]) for batch in store.inserted]


async def _append(here: Running, *bodies: bytes) -> None:
    """Puts records into the log, past the receiver's checks."""
    log = here.collector._pipelines[0].log
    tails = [Traces(experiment_ids=[0], received_at=number).SerializeToString() for number in range(1, len(bodies) + 1)]
    await asyncio.gather(*(log.writer.append(body + tail) for body, tail in zip(bodies, tails, strict=True)))


def _framed(body: bytes) -> bytes:
    record = body + Traces(experiment_ids=[0], received_at=1).SerializeToString()
    return varint(len(record)) + record


def _account(*taken: Request) -> Account:
    account = Account()
    for each in taken:
        account.acknowledge(each)
    return account


async def _health(here: Running) -> tuple[int, list[str]]:
    async with httpx.AsyncClient() as http:
        answer = await http.get(f"{here.url}/health")
    return answer.status_code, answer.json()["broken"]
