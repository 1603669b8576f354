"""The receivers of all signals over given logs: what one process needs to take telemetry."""

from collections.abc import Mapping
from dataclasses import dataclass

import grpc

from tracestone.collector.auth.gate import Gate
from tracestone.collector.receiver.arrivals import Arrivals
from tracestone.collector.receiver.budget import Budget
from tracestone.collector.receiver.export import Exporter, Work
from tracestone.collector.receiver.grpc import GrpcReceiver
from tracestone.collector.receiver.grpc_limits import GrpcLimits
from tracestone.collector.receiver.http import HttpReceiver
from tracestone.collector.receiver.pieces import Limits
from tracestone.collector.receiver.trimming import ItemLimits
from tracestone.collector.signals.known import SIGNALS
from tracestone.collector.wal.receipt import ReceiptClock
from tracestone.collector.wal.writer import Writer
from tracestone.schema.settings import Settings
from tracestone.schema.stores.experiments import ExperimentStore


@dataclass(frozen=True)
class Receivers:
    """Both transports, not started; `exporters` are what they call, one a signal."""

    exporters: tuple[Exporter, ...]
    writers: Mapping[str, Writer]
    http: HttpReceiver
    grpc: GrpcReceiver
    _work: Work

    def counters(self) -> dict[str, float]:
        """What was counted since the start, to be added up over processes; `now …` is a state and goes with it.

        The keys are those of `metrics.counts`, and more: `truncated <signal>`, `log_sync <signal> …` (`Durations`).
        """
        counted = self._work.counts.numbers()
        for exporter in self.exporters:
            counted[f"truncated {exporter.signal.name}"] = exporter.items_truncated
        for name, writer in self.writers.items():
            counted |= writer.syncs.numbers(f"log_sync {name}")
        counted["given_up"] = self._work.arrivals.given_up
        counted["now body_bytes"] = self._work.arrivals.budget.bytes
        counted["now pending_bytes"] = sum(writer.pending_bytes for writer in self.writers.values())
        return counted


def receivers(
    settings: Settings,
    writers: Mapping[str, Writer],
    experiments: ExperimentStore,
    receipt: ReceiptClock,
    gate: Gate,
    credentials: grpc.ServerCredentials | None = None,
    *,
    shared_ports: bool = False,
) -> Receivers:
    """The receivers that write to these logs, one by each signal's name; with `credentials`, gRPC speaks TLS."""
    item = ItemLimits(settings.max_attributes, settings.max_events, settings.max_links, settings.max_value_bytes)
    limits = Limits(settings.max_nesting, settings.max_request_groups, settings.max_request_spans, item)
    budget = Budget(settings.max_body_bytes)
    work = Work(Arrivals(budget, seconds=settings.max_body_seconds, slow=settings.max_slow_bodies))
    exporters = tuple(
        Exporter(signal, writers[signal.name], experiments, receipt, limits=limits, work=work) for signal in SIGNALS
    )
    return Receivers(
        exporters,
        writers,
        HttpReceiver(exporters, max_request_bytes=settings.max_request_bytes, max_json_values=settings.max_json_values),
        GrpcReceiver(
            exporters,
            gate=gate,
            credentials=credentials,
            host=settings.host,
            port=settings.otlp_grpc_port,
            limits=GrpcLimits.of(settings),
            shared=shared_ports,
        ),
        work,
    )
