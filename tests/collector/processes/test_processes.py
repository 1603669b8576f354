"""A collector with several receiver processes, on the test's own stores."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from support.faulty_columnar import ClosedColumnar
from support.load import Here, NotTaken, Senders, check_exact, grpc_sender, http_sender, request, requests
from support.running import Running, running
from tracestone.collector.ingest import backoff
from tracestone.collector.processes import supervisor
from tracestone.collector.processes.fleet import ReceiverProcesses, shares
from tracestone.collector.processes.logs import open_receiver_logs
from tracestone.collector.processes.supervisor import ReceiverProcess
from tracestone.collector.wal.remote import SharedPage
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.errors import StartRefused
from tracestone.schema.settings import Settings

RECEIVERS = 2
MIB = 1024 * 1024


@pytest_asyncio.fixture
async def closable(columnar: Columnar) -> AsyncIterator[ClosedColumnar]:
    """A store that can be closed."""
    store = ClosedColumnar(columnar.url, database=columnar.database)
    await store.open()
    yield store
    await store.close()


@pytest_asyncio.fixture
async def here(
    pool: Pool, closable: ClosedColumnar, tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Running]:
    """A collector with two receiver processes, which have small logs."""
    monkeypatch.setattr(backoff, "_FIRST_SECONDS", 0.02)
    monkeypatch.setattr(backoff, "_LAST_SECONDS", 0.1)
    small = {"wal_max_bytes": 16 * MIB, "wal_segment_bytes": MIB}
    async with running(
        pool, closable, tmp_path, receivers=RECEIVERS, postgres_url=postgres_url, **small
    ) as running_here:
        yield running_here


def fleet(here: Running) -> ReceiverProcesses:
    """Its processes."""
    found = here.collector._otlp
    assert isinstance(found, ReceiverProcesses)
    return found


async def healthy(here: Running) -> None:
    """Waits until every part works."""
    async with asyncio.timeout(40):
        while any((await here.collector.health()).values()):
            await asyncio.sleep(0.05)


def test_bounds_are_shared_out_and_never_exceeded_together() -> None:
    given = Settings(wal_max_bytes=4096 * MIB, max_body_bytes=256 * MIB)
    assert shares(given) == (given, given)
    for receivers in (2, 3, 7):
        main, each = shares(given.model_copy(update={"receivers": receivers}))
        assert main.wal_max_bytes + receivers * each.wal_max_bytes <= given.wal_max_bytes
        assert main.max_body_bytes + receivers * each.max_body_bytes <= given.max_body_bytes
        assert receivers * each.wal_max_bytes > given.wal_max_bytes * 0.8
        assert each.max_connections == given.max_connections


async def test_what_any_process_takes_is_stored_counted_and_bounded(here: Running, closable: ClosedColumnar) -> None:
    senders = Senders(Here(here), count=8, text_bytes=4000)
    await senders.start()
    await asyncio.sleep(0.5)
    closable.closed = True
    logs = here.collector._receiver_logs
    async with asyncio.timeout(60):
        while senders.account.failures < 50:
            await asyncio.sleep(0.05)
    assert senders.account.without_retry == [], "who is refused for want of room is told to try again"
    for each in logs:
        for half in each.halves.values():
            assert half.stats().disk_bytes <= 14 * MIB // RECEIVERS
    closable.closed = False
    account = await senders.stop()
    await check_exact(Here(here), account)
    async with asyncio.timeout(20):
        while _accepted(here) < account.spans:
            await asyncio.sleep(0.05)
    assert _accepted(here) == account.spans
    more = requests(2, traces=1)
    extra = 0
    async with asyncio.timeout(20):  # connections are spread, so each process gets one before long
        while min(_accepted_by_each(here)[1:]) == 0:
            spans = next(more).spans
            extra += len(spans)
            send, close = grpc_sender(Here(here))
            await send(request(list(spans)).data)
            await close()
            await asyncio.sleep(0.2)
    assert _accepted_by_each(here)[0] == 0
    spans = next(more).spans
    async with httpx.AsyncClient() as client:
        answer = await client.post(
            f"{here.url}/v1/traces",
            content=request(list(spans)).data,
            headers={"content-type": "application/x-protobuf"},
        )
    assert answer.status_code == 200
    assert (await here.rows("SELECT count() AS n FROM spans"))[0]["n"] == account.spans + extra + len(spans)


async def test_a_backlog_is_measured_by_the_bound_of_the_log_that_it_is_in(
    here: Running, closable: ClosedColumnar
) -> None:
    closable.closed = True
    bounds = {pipeline.signal.name: pipeline.backlog().bound_bytes for pipeline in here.collector._pipelines}
    assert sum(bounds.values()) == 16 * MIB
    send, close = grpc_sender(Here(here))
    stream = requests(4, text_bytes=20_000)
    for _ in range(18):  # more than the main process's own log may hold, a third of what a receiver's may
        await send(next(stream).data)
    await close()
    (traces,) = (each.backlog() for each in here.collector._pipelines if each.signal.name == "traces")
    assert traces.disk_bytes > MIB
    assert traces.full < 0.6
    assert (await here.collector.health())["write_ahead_log"] == ""
    closable.closed = False


def _accepted(here: Running) -> float:
    return sum(_accepted_by_each(here))


def _accepted_by_each(here: Running) -> list[float]:
    """By the main process, then by the others."""
    return [
        sum(counted.get(f"items {way} traces accepted", 0) for way in ("grpc", "http"))
        for counted in here.collector.receiver_counters()
    ]


async def test_a_process_that_dies_or_hangs_is_told_of_and_started_again(
    here: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    spans = next(requests(1, traces=1)).spans
    for make in (grpc_sender, http_sender) * 3:
        send, close = make(Here(here))
        await send(request(list(spans)).data)
        await close()
    counted = 6 * len(spans)
    async with asyncio.timeout(20):
        while _accepted(here) < counted:
            await asyncio.sleep(0.05)
    os.kill(fleet(here).pids()[0], signal.SIGKILL)
    async with asyncio.timeout(20):
        while not (problem := fleet(here).problems()["receiver_1"]):
            await asyncio.sleep(0.01)
    assert problem == "Receiver process 1 ended with -9."
    await healthy(here)
    assert _accepted(here) == counted, "what a process counted is not forgotten with it"
    monkeypatch.setattr(supervisor, "_SILENCE_SECONDS", 4.0)
    before = fleet(here).pids()
    for pid in before:  # the new patience is that of a new process
        os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(20):
        while set(before) & set(fleet(here).pids()):
            await asyncio.sleep(0.05)
    await healthy(here)
    hangs = fleet(here).pids()[1]
    os.kill(hangs, signal.SIGSTOP)
    async with asyncio.timeout(20):
        while not (problem := fleet(here).problems()["receiver_2"]):
            await asyncio.sleep(0.05)
    assert problem == "Receiver process 2 gave no sign of life."
    await healthy(here)
    assert hangs not in fleet(here).pids()
    send, close = grpc_sender(Here(here))
    await send(request(list(spans)).data)
    for pid in fleet(here).pids():
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(NotTaken):
        await send(request(list(spans)).data)
    await healthy(here)
    async with asyncio.timeout(20):
        while True:  # the channel that was refused tries to connect again a second later, as it does for any client
            try:
                await send(request(list(spans)).data)
                break
            except NotTaken:
                await asyncio.sleep(0.1)
    await close()
    await here.collector.barrier()
    assert (await here.rows("SELECT count() AS n FROM spans"))[0]["n"] == len(spans)


@pytest.mark.parametrize("name", ["otlp_grpc_port", "otlp_http_port"])
async def test_a_port_that_is_taken_refuses_the_start(
    pool: Pool, columnar: Columnar, tmp_path: Path, postgres_url: str, name: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartRefused, match=f"cannot listen on 127.0.0.1:{port}: the port is taken"):
            async with running(
                pool, columnar, tmp_path, receivers=RECEIVERS, postgres_url=postgres_url, **{name: port}
            ):
                pass


async def test_what_a_process_refuses_is_the_reason_of_the_main_one(
    pool: Pool, tmp_path: Path, postgres_url: str
) -> None:
    times = SharedPage.new()
    logs = await open_receiver_logs(tmp_path, 1, ["traces", "logs", "metrics"], times.receipt_clock(0, 2))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = Settings(data_dir=tmp_path, otlp_grpc_port=0, otlp_http_port=port, postgres_url=postgres_url)
        process = ReceiverProcess(settings, logs, times)
        with pytest.raises(StartRefused, match=f"otlp cannot listen on 127.0.0.1:{port}: the port is taken"):
            await process.start()
    await process.stop()
    await logs.close()
    times.close()
