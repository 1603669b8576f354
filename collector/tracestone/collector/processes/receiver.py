"""A receiver process: `python -m tracestone.collector.processes.receiver <descriptor>`, for the main process alone.

It takes OTLP on ports that it shares with its siblings, writes logs of its own and acknowledges by itself; the main
process reads the logs. It ends when it is told to, and when the main process has ended, in whatever way: then too it
finishes what it has in work.
"""

import asyncio
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import uvloop

from tracestone.collector.doors import Doors
from tracestone.collector.leaving import leave_within
from tracestone.collector.memory import keep_for_requests
from tracestone.collector.otlp_ports import OtlpPorts
from tracestone.collector.processes.channel import Channel
from tracestone.collector.processes.order import Order
from tracestone.collector.receiver.receivers import Receivers, receivers
from tracestone.collector.signals.known import SIGNALS
from tracestone.collector.wal.log import open_writer
from tracestone.collector.wal.receipt import ReceiptClock
from tracestone.collector.wal.remote import Report, ReportingLedger, SharedPage
from tracestone.collector.wal.writer import Writer
from tracestone.schema.engines.postgres import Pool, open_pool
from tracestone.schema.errors import TracestoneError
from tracestone.schema.observe import set_up_logging
from tracestone.schema.settings import Settings
from tracestone.schema.stores.experiments import ExperimentStore

_STATE_SECONDS = 1.0
_STOP_SECONDS = 4.5
_POOL_SECONDS = 0.5
_POOL_CONNECTIONS = 3
_LOOK_SECONDS = 0.5


async def _run(end: socket.socket) -> None:
    channel = await Channel.over(end)
    messages = channel.messages()
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    async for _, content in messages:
        order = Order.of(content)
        set_up_logging(order.settings.log_level)
        listening = asyncio.create_task(_listen(messages, stopping), name="listen")
        try:
            await _receive(order, channel, stopping)
        except TracestoneError as error:
            channel.say("refused", str(error))
        leave_within(_STOP_SECONDS, 1)
        await channel.close()
        listening.cancel()
        await asyncio.wait([listening])
        return


async def _listen(messages: AsyncIterator[tuple[str, Any]], stopping: asyncio.Event) -> None:
    """Until the main process says `stop`, or has gone."""
    async for key, _ in messages:
        if key == "stop":
            break
    stopping.set()


async def _receive(order: Order, channel: Channel, stopping: asyncio.Event) -> None:
    async with AsyncExitStack() as stack:
        pool = await _pool(order.settings, stack)
        receipt = SharedPage(order.times).receipt_clock(order.number, order.settings.receivers + 1)
        writers = _writers(order, channel, receipt, stack)
        experiments = ExperimentStore(pool, order.settings.max_experiments)
        doors = Doors(order.settings, pool)
        stack.push_async_callback(doors.stop)
        await doors.start(must_know=False)
        credentials = doors.grpc_credentials()
        receiving = receivers(order.settings, writers, experiments, receipt, doors.gate, credentials, shared_ports=True)
        ports = OtlpPorts(order.settings, receiving, doors, shared=True)
        stack.push_async_callback(ports.stop)
        await ports.start()
        channel.say("serving")
        telling = asyncio.create_task(_tell(channel, receiving, writers, ports), name="tell")
        await stopping.wait()
        leave_within(_STOP_SECONDS, 1)
        telling.cancel()
        await asyncio.wait([telling])


async def _pool(settings: Settings, stack: AsyncExitStack) -> Pool:
    assert settings.postgres_url is not None
    # Connects at the first question: while Postgres is away, experiments that are known go on.
    pool = await open_pool(settings.postgres_url.get_secret_value(), min_size=0, max_size=_POOL_CONNECTIONS)

    async def close() -> None:
        try:
            async with asyncio.timeout(_POOL_SECONDS):
                await pool.close()
        except TimeoutError:
            pool.terminate()

    stack.push_async_callback(close)
    return pool


def _writers(order: Order, channel: Channel, receipt: ReceiptClock, stack: AsyncExitStack) -> dict[str, Writer]:
    page = SharedPage(order.page)
    shares = {signal.name: signal.log_share for signal in SIGNALS}
    writers = {}
    for place, (name, (folder, beginning)) in enumerate(order.logs.items()):

        def tell(report: Report, place: int = place) -> None:
            channel.say(f"report {place} {report.first}", (place, report.first, report.end, report.closed))

        writers[name] = open_writer(
            folder,
            beginning,
            ReportingLedger(beginning, page.words(place), tell),
            receipt,
            max_bytes=int(order.settings.wal_max_bytes * shares[name]),
            segment_bytes=order.settings.wal_segment_bytes,
        )
        stack.push_async_callback(writers[name].close)
    return writers


async def _tell(channel: Channel, receiving: Receivers, writers: dict[str, Writer], ports: OtlpPorts) -> None:
    """Says how it is, every second."""
    while True:
        problems = {name: writer.last_error for name, writer in writers.items()} | ports.problems()
        problem = "; ".join(f"{part}: {each}" for part, each in problems.items() if each)
        channel.say("state", {"problem": problem, "counters": receiving.counters()})
        await asyncio.sleep(_STATE_SECONDS)


def _follow_main_process(main: int) -> None:
    """Ends this process, should its event loop hang, when the main process has ended."""
    while os.getppid() == main:
        time.sleep(_LOOK_SECONDS)
    leave_within(_STOP_SECONDS + _LOOK_SECONDS, 1)


def main() -> None:
    """Runs until the main process says stop, or ends."""
    # A terminal sends Ctrl-C to all processes; what is to be done the main process says.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_for_requests()
    threading.Thread(target=_follow_main_process, args=(os.getppid(),), daemon=True, name="main process").start()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(socket.socket(fileno=int(sys.argv[1]))))


if __name__ == "__main__":
    main()
