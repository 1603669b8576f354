"""Metrics: valid with a name and data of a kind that OTLP knows; what counts is their data points."""

from collections.abc import Iterable, Iterator
from operator import attrgetter

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from tracestone.collector.signals.signal import Signal, composite_in, for_checking, nested_in
from tracestone.protos.ingest.v1.metrics_pb2 import Metric, Metrics


def _count(metrics: Iterable[Metric]) -> int | None:
    points = 0
    for metric in metrics:
        kind = metric.WhichOneof("data")
        if kind is None or not metric.name:
            return None
        points += len(getattr(metric, kind).data_points)
    return points


def _weight(metric: Metric) -> int:
    kind = metric.WhichOneof("data")
    return 0 if kind is None else len(getattr(metric, kind).data_points)


def _problem(metric: Metric) -> str:
    if not metric.name:
        return "a metric has no name"
    if metric.WhichOneof("data") is None:
        return f"metric {metric.name[:100]!r} has no data of a known kind"
    return ""


def _nested(request: ExportMetricsServiceRequest) -> Iterator[AnyValue]:
    for resource in request.resource_metrics:
        yield from nested_in(resource.resource.attributes)
        for scope in resource.scope_metrics:
            yield from composite_in(scope.scope.attributes)
            for metric in scope.metrics:
                yield from composite_in(metric.metadata)
                kind = metric.WhichOneof("data")
                for point in getattr(metric, kind).data_points if kind is not None else ():
                    yield from composite_in(point.attributes)
                    for exemplar in getattr(point, "exemplars", ()):
                        yield from composite_in(exemplar.filtered_attributes)


METRICS = Signal(
    name="metrics",
    log_share=0.25,
    batch_age=4.0,
    item="metric",
    counted="data point(s)",
    service="opentelemetry.proto.collector.metrics.v1.MetricsService",
    message=Metrics,
    incoming=for_checking(Metrics),
    request=ExportMetricsServiceRequest,
    response=ExportMetricsServiceResponse,
    rejected="rejected_data_points",
    resources=attrgetter("resource_metrics"),
    scopes=attrgetter("scope_metrics"),
    items=attrgetter("metrics"),
    count=_count,
    weight=_weight,
    problem=_problem,
    tells_bound=False,
    nested=_nested,
    tree={
        "item": {5: "numbers", 7: "numbers", 9: "histograms", 10: "exponentials", 11: "summaries", 12: "pair"},
        "numbers": {1: "number"},
        "number": {5: "exemplar", 7: "pair"},
        "histograms": {1: "histogram"},
        "histogram": {8: "exemplar", 9: "pair"},
        "exponentials": {1: "exponential"},
        "exponential": {1: "pair", 11: "exemplar"},
        "summaries": {1: "summary"},
        "summary": {6: "quantile", 7: "pair"},
        "quantile": {},
        "exemplar": {7: "pair"},
        "pair": {2: "value"},
        "value": {5: "array", 6: "list"},
        "array": {1: "value"},
        "list": {1: "pair"},
    },
)
