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
from tracestone.collector.wal.writer import Writer
from tracestone.schema.settings import Settings
from tracestone.schema.stores.experiments import ExperimentStore


@dataclass(frozen=True)
class Receivers:
    """Both transports, not started; `exporters` are what they call, one a signal."""

    exporters: tuple[Exporter, ...]
    http: HttpReceiver
    grpc: GrpcReceiver

    def counters(self) -> dict[str, float]:
        """What was counted since the start; adding up makes sense for each of them."""
        counted: dict[str, float] = {}
        for exporter in self.exporters:
            counted[f"{exporter.signal.name}_accepted"] = exporter.items_accepted
            counted[f"{exporter.signal.name}_rejected"] = exporter.items_rejected
        return counted


def receivers(
    settings: Settings,
    writers: Mapping[str, Writer],
    experiments: ExperimentStore,
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
        Exporter(signal, writers[signal.name], experiments, limits=limits, work=work) for signal in SIGNALS
    )
    return Receivers(
        exporters,
        HttpReceiver(exporters, max_request_bytes=settings.max_request_bytes),
        GrpcReceiver(
            exporters,
            gate=gate,
            credentials=credentials,
            host=settings.host,
            port=settings.otlp_grpc_port,
            limits=GrpcLimits.of(settings),
            shared=shared_ports,
        ),
    )
