"""kill -9 of an OpenTelemetry Collector and of the Tracestone behind it: what the Collector took arrives once.

The Collector keeps what it takes in a queue on the disk and tries without end. Senders repeat each request until the
Collector acknowledges it (tests/support/load.py); then every span that it acknowledged is counted in `spans`.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from support.clients import OtelCollector
from support.load import Senders, check_exact, drained
from support.program import Program

pytestmark = pytest.mark.slow

KILLS = 30


@dataclass(frozen=True)
class Behind:
    """Tracestone as senders reach it: through a Collector."""

    collector: OtelCollector
    program: Program

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


def _config(queue: Path, exporter: str, program: Program) -> dict[str, Any]:
    queue.mkdir(parents=True, exist_ok=True)
    endpoints = {
        "otlp": {"endpoint": program.grpc, "tls": {"insecure": True}},
        "otlphttp": {"endpoint": program.http_root},
    }
    # No batch processor, which would acknowledge what it holds in memory only; nor the queue's own batches, with which
    # acknowledged spans were lost here.
    return {
        "extensions": {"file_storage": {"directory": str(queue), "fsync": True}},
        "exporters": {
            exporter: {
                **endpoints[exporter],
                "timeout": "5s",
                "sending_queue": {"storage": "file_storage", "queue_size": 100_000},
                "retry_on_failure": {"initial_interval": "200ms", "max_interval": "1s", "max_elapsed_time": "0s"},
            }
        },
        "service": {
            "extensions": ["file_storage"],
            "pipelines": {"traces": {"receivers": ["otlp"], "exporters": [exporter]}},
        },
    }


@pytest_asyncio.fixture
async def tracestone(folder: Path, request: pytest.FixtureRequest) -> AsyncIterator[Program]:
    """Tracestone in a data folder of this test."""
    made = Program(folder / f"data {request.node.name}")
    yield made
    await made.close()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("exporter", ["otlp", "otlphttp"])
async def test_what_the_collector_took_arrives_once(tracestone: Program, folder: Path, exporter: str) -> None:
    dice = random.Random(exporter)
    collector = OtelCollector.with_receiver(
        folder / exporter, _config(folder / exporter / "queue", exporter, tracestone)
    )
    behind = Behind(collector, tracestone)
    senders = Senders(behind, count=4, pause=0.01)
    try:
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
                if kill % 3 == 0:
                    await asyncio.sleep(dice.uniform(0.0, 1.5))
                    await victim.kill()
                    await victim.launch()
            await asyncio.gather(*(victim.ready() for victim in victims))
        account = await senders.stop()
        await drained(behind, account, within=120)
        await check_exact(behind, account)
    finally:
        await collector.close()
    assert account.failures > KILLS / 3
    assert account.spans > 100 * KILLS
    assert await tracestone.terminate() == 0
