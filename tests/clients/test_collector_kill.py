"""kill -9 of an OpenTelemetry Collector and of the Tracestone behind it: what the Collector took arrives once.

The Collector keeps what it takes in a queue on the disk and tries without end. Senders repeat each request until the
Collector acknowledges it (tests/support/load.py); then every span that it acknowledged is counted in `spans`.

With one exception, and it is the Collector's: when it starts, its queue deletes all requests that were being sent when
it ended, and only then writes them anew, one after the other (`enqueueNotDispatchedReqs` in exporterhelper 0.160). A
kill in between loses them. So the first test kills a Collector only when it serves; the second kills it at any moment,
and asks only for what Tracestone owes: what it answered with success is stored, and it refuses nothing for good.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from support.clients import OtelCollector
from support.load import Account, Senders, check_exact, drained
from support.ports import free_ports
from support.program import Program
from support.tee import Tee
from tracestone.schema import clock

pytestmark = pytest.mark.slow

KILLS = 30
BATCH = {"sizer": "items", "flush_timeout": "200ms", "min_size": 500, "max_size": 2000}
# What an exporter tries again; anything else that is not success it drops (OTLP/HTTP, and the Collector).
RETRIED = {429, 502, 503, 504}


@dataclass(frozen=True)
class Behind:
    """Tracestone as senders reach it: through a Collector."""

    collector: OtelCollector
    program: Program
    key: str = ""

    @property
    def grpc(self) -> str:
        """The Collector's gRPC."""
        return self.collector.grpc

    @property
    def http(self) -> str:
        """The Collector's HTTP."""
        return f"{self.collector.http_root}/v1/traces"

    async def sql(self, statement: str) -> list[list[Any]]:
        """Asks Tracestone."""
        return await self.program.sql(statement)

    def tail(self) -> str:
        """Both logs."""
        return self.collector.tail() + self.program.tail()


def _collector(folder: Path, exporter: str, endpoint: str, batch: dict[str, Any] | None) -> OtelCollector:
    queue = folder / "queue"
    queue.mkdir(parents=True)
    # No batch processor, which would acknowledge what it holds in memory only.
    config = {
        "extensions": {"file_storage": {"directory": str(queue), "fsync": True}},
        "exporters": {
            exporter: {
                "endpoint": endpoint,
                **({"tls": {"insecure": True}} if exporter == "otlp" else {}),
                "compression": "none",
                "timeout": "5s",
                "sending_queue": {
                    "storage": "file_storage",
                    "queue_size": 100_000,
                    **({} if batch is None else {"batch": batch}),
                },
                "retry_on_failure": {"initial_interval": "200ms", "max_interval": "1s", "max_elapsed_time": "0s"},
            }
        },
        "service": {
            "extensions": ["file_storage"],
            "pipelines": {"traces": {"receivers": ["otlp"], "exporters": [exporter]}},
        },
    }
    return OtelCollector.with_receiver(folder, config)


@pytest_asyncio.fixture
async def tracestone(folder: Path, request: pytest.FixtureRequest) -> AsyncIterator[Program]:
    """Tracestone in a data folder of this test."""
    made = Program(folder / f"data {request.node.name}")
    yield made
    await made.close()


async def _kill_by_turns(behind: Behind, dice: random.Random, *, also_starting: bool) -> Account:
    """Kills one or both, 30 times, under load; the account of what the Collector acknowledged."""
    collector, tracestone = behind.collector, behind.program
    senders = Senders(behind, count=4, pause=0.01)
    await asyncio.gather(tracestone.start(), collector.start())
    await senders.start()
    for kill in range(KILLS):
        await asyncio.sleep(dice.uniform(0.0, 1.5))
        victims = dice.choice([(collector,), (collector,), (tracestone,), (collector, tracestone)])
        for victim in victims:
            await victim.kill()
        senders.check()
        await asyncio.sleep(dice.uniform(0.0, 0.5))
        for victim in victims:
            await victim.launch()
            # Some are killed again before they serve.
            if kill % 3 == 0 and (also_starting or victim is tracestone):
                await asyncio.sleep(dice.uniform(0.0, 1.5))
                await victim.kill()
                await victim.launch()
        await asyncio.gather(*(victim.ready() for victim in victims))
    account = await senders.stop()
    assert account.failures > KILLS / 3
    assert account.spans > 100 * KILLS
    return account


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("exporter", "batch"), [("otlp", None), ("otlphttp", None), ("otlphttp", BATCH)])
async def test_what_the_collector_took_arrives_once(
    tracestone: Program, folder: Path, exporter: str, batch: dict[str, Any] | None
) -> None:
    name = f"{exporter} {'batch' if batch else 'single'}"
    endpoint = tracestone.grpc if exporter == "otlp" else tracestone.http_root
    collector = _collector(folder / name, exporter, endpoint, batch)
    behind = Behind(collector, tracestone)
    try:
        account = await _kill_by_turns(behind, random.Random(name), also_starting=False)
        await drained(behind, account)
        await check_exact(behind, account)
    finally:
        await collector.close()
    assert "Dropping data" not in collector.log.read_text()
    assert await tracestone.terminate() == 0


@pytest.mark.timeout(900)
async def test_what_tracestone_acknowledged_is_stored_whenever_the_collector_is_killed(
    tracestone: Program, folder: Path
) -> None:
    (port,) = free_ports(1)
    tee = Tee(port, tracestone.http_port)
    await tee.start()
    collector = _collector(folder / "starting", "otlphttp", f"http://127.0.0.1:{port}", BATCH)
    behind = Behind(collector, tracestone)
    try:
        account = await _kill_by_turns(behind, random.Random("starting"), also_starting=True)
        await drained(behind, account, within=20)  # in vain when the Collector has lost some
    finally:
        await collector.close()
        await tee.close()
    owed: set[str] = set()
    for body, status in tee.exchanges():
        assert status in {0, 200, *RETRIED}
        if status == 200:
            owed |= _span_ids(body)
    stored = await _stored(tracestone, owed)
    assert len(stored) == len(set(stored))
    missing = owed - set(stored)
    assert not missing, f"{len(missing)} spans of {len(owed)} were answered with success and are not there"
    assert len(owed) > 100 * KILLS
    assert "Dropping data" not in collector.log.read_text()
    assert await tracestone.terminate() == 0


async def _stored(tracestone: Program, wanted: set[str]) -> list[str]:
    """The ids of all stored spans, once those wanted are among them or half a minute is over."""
    end = clock.monotonic() + 30
    while True:
        stored = [span_id for (span_id,) in await tracestone.sql("SELECT span_id FROM spans")]
        if wanted <= set(stored) or clock.monotonic() > end:
            return stored
        await asyncio.sleep(0.5)


def _span_ids(body: bytes) -> set[str]:
    request = ExportTraceServiceRequest.FromString(body)
    return {
        span.span_id.hex()
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    }
