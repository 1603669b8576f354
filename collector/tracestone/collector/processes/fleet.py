"""All receiver processes of a collector, on two shared ports."""

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack

from tracestone.collector.processes.logs import ReceiverLogs
from tracestone.collector.processes.ports import SharedPort
from tracestone.collector.processes.supervisor import ReceiverProcess
from tracestone.collector.wal.remote import SharedPage
from tracestone.schema.errors import StartRefused
from tracestone.schema.settings import Settings

MIB = 1024 * 1024
# One part in so many is the main process's, which takes only what is sent to its own port.
_MAIN_SHARE = 8


def shares(settings: Settings) -> tuple[Settings, Settings]:
    """The settings of the main process and of each receiver process: what bounds all of them is shared out."""
    if settings.receivers == 1:
        return settings, settings
    total = settings.wal_max_bytes, settings.max_body_bytes
    main = tuple(size // _MAIN_SHARE for size in total)
    each = tuple((size - own) // settings.receivers for size, own in zip(total, main, strict=True))
    return _bounded(settings, *main), _bounded(settings, *each)


def _bounded(settings: Settings, wal_max_bytes: int, max_body_bytes: int) -> Settings:
    smallest = {"wal_max_bytes": max(MIB, wal_max_bytes), "max_body_bytes": max(1024, max_body_bytes)}
    return settings.model_copy(update=smallest)


class ReceiverProcesses:
    """The processes, between `start` and `stop`; the counterpart of `OtlpPorts`."""

    def __init__(self, settings: Settings, logs: Sequence[ReceiverLogs], times: SharedPage) -> None:
        """`settings` are each one's of `shares`, with the address of Postgres; `logs` are theirs, in their order.

        `times` is the page of the `ReceiptClock` of all.
        """
        self._settings = settings
        self._logs = logs
        self._times = times
        self._ports = ExitStack()
        self._processes: list[ReceiverProcess] = []
        self.grpc_port = self.http_port = 0

    async def start(self) -> None:
        """Returns when all serve. Raises StartRefused; call `stop` then too."""
        settings = self._settings
        grpc = self._ports.enter_context(SharedPort("OTLP/gRPC", settings.host, settings.otlp_grpc_port))
        http = self._ports.enter_context(SharedPort("OTLP/HTTP", settings.host, settings.otlp_http_port))
        self.grpc_port, self.http_port = grpc.number, http.number
        settings = settings.model_copy(update={"otlp_grpc_port": grpc.number, "otlp_http_port": http.number})
        self._processes = [ReceiverProcess(settings, logs, self._times) for logs in self._logs]
        try:
            async with asyncio.TaskGroup() as tasks:
                for process in self._processes:
                    tasks.create_task(process.start(), name=f"start receiver {process.number}")
        except* StartRefused as group:
            raise group.exceptions[0] from None

    def end_soon(self) -> None:
        """Tells all to take no more requests and to finish those in work."""
        for process in self._processes:
            process.end_soon()

    async def stop(self) -> None:
        """Stops all, within some seconds. Safe to call twice."""
        await asyncio.gather(*(process.stop() for process in self._processes))
        self._ports.close()

    def problems(self) -> dict[str, str]:
        """For each process what is wrong with it, "" when it serves."""
        return {f"receiver_{process.number}": process.problem for process in self._processes}

    def counters(self) -> list[dict[str, float]]:
        """What each process has counted since the start, those before it included."""
        return [process.counters for process in self._processes]

    def pids(self) -> list[int]:
        """The ids of the processes that run now."""
        return [process.pid for process in self._processes if process.pid is not None]
