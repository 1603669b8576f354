"""Data points of all types from a request to SQL; what is no metric is left out and counted in data points."""

import json
import secrets
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    Exemplar,
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    Sum,
    Summary,
    SummaryDataPoint,
)

from support.running import Running
from support.signals import SECOND, START, metrics_request, pairs, post

EXPORT = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"


@pytest.fixture
def service() -> str:
    """A service that no other test uses, and so an experiment of its own."""
    return f"metrics-{secrets.token_hex(6)}"


def _point(value: float, at: int = START, **attributes: Any) -> NumberDataPoint:
    return NumberDataPoint(time_unix_nano=at, as_double=value, attributes=pairs(attributes))


def _gauge(name: str, *points: NumberDataPoint) -> Metric:
    return Metric(name=name, gauge=Gauge(data_points=points))


async def _send(receiver: Running, request: ExportMetricsServiceRequest) -> ExportMetricsServiceResponse:
    return ExportMetricsServiceResponse.FromString(await post(receiver, "metrics", request.SerializeToString()))


async def _rows(receiver: Running, service: str) -> list[dict[str, Any]]:
    return await receiver.rows(
        "SELECT *, toUnixTimestamp64Nano(time) AS ns, toUnixTimestamp64Nano(start_time) AS start_ns FROM metrics"
        " WHERE service_name = {name:String} ORDER BY name, time, value",
        name=service,
    )


def _of_all_types() -> list[Metric]:
    exemplar = Exemplar(
        time_unix_nano=START + 3,
        as_int=4,
        trace_id=b"t" * 16,
        span_id=b"s" * 8,
        filtered_attributes=pairs({"user": "u", "list": [1]}),
    )
    times = {"start_time_unix_nano": START - SECOND, "time_unix_nano": START}
    return [
        Metric(
            name="a gauge",
            description="d",
            unit="1",
            metadata=pairs({"origin": "prometheus"}),
            gauge=Gauge(
                data_points=[
                    NumberDataPoint(
                        **times,
                        as_double=-0.5,
                        exemplars=[exemplar],
                        attributes=pairs(
                            {"s": "x", "i": 2**62, "f": 0.5, "b": True, "l": ["p"], "n": None, "y": b"\xff"}
                        ),
                    )
                ]
            ),
        ),
        Metric(
            name="b sum",
            sum=Sum(
                data_points=[NumberDataPoint(**times, as_int=-(2**63))], aggregation_temporality=1, is_monotonic=True
            ),
        ),
        Metric(
            name="c histogram",
            histogram=Histogram(
                aggregation_temporality=2,
                data_points=[
                    HistogramDataPoint(
                        **times,
                        count=2**63,
                        sum=0.0,
                        min=0.0,
                        bucket_counts=[1, 2**63, 0],
                        explicit_bounds=[-1.5, 2.0],
                        exemplars=[exemplar],
                    )
                ],
            ),
        ),
        Metric(
            name="d exponential",
            exponential_histogram=ExponentialHistogram(
                aggregation_temporality=2,
                data_points=[
                    ExponentialHistogramDataPoint(
                        **times,
                        count=9,
                        scale=-3,
                        zero_count=4,
                        zero_threshold=0.25,
                        positive=ExponentialHistogramDataPoint.Buckets(offset=-2, bucket_counts=[1, 300]),
                        negative=ExponentialHistogramDataPoint.Buckets(offset=5, bucket_counts=[2]),
                        max=8.0,
                        exemplars=[exemplar],
                    )
                ],
            ),
        ),
        Metric(
            name="e summary",
            summary=Summary(
                data_points=[
                    SummaryDataPoint(
                        **times,
                        count=3,
                        sum=4.5,
                        quantile_values=[
                            SummaryDataPoint.ValueAtQuantile(quantile=0.5, value=1.0),
                            SummaryDataPoint.ValueAtQuantile(quantile=1.0, value=3.0),
                        ],
                        flags=1,
                    )
                ]
            ),
        ),
    ]


async def test_every_field_of_every_type(receiver: Running, service: str) -> None:
    assert await _send(receiver, metrics_request(*_of_all_types(), service=service)) == ExportMetricsServiceResponse()
    rows = await _rows(receiver, service)
    assert [row["type"] for row in rows] == ["gauge", "sum", "histogram", "exponential_histogram", "summary"]
    assert {(row["ns"], row["start_ns"]) for row in rows} == {(START, START - SECOND)}
    assert [row["temporality"] for row in rows] == ["UNSPECIFIED", "DELTA", "CUMULATIVE", "CUMULATIVE", "UNSPECIFIED"]
    assert [row["no_recorded_value"] for row in rows] == [False, False, False, False, True]
    gauge, total, histogram, exponential, summary = rows
    assert (gauge["description"], gauge["unit"], gauge["metadata"]) == ("d", "1", '{"origin":"prometheus"}')
    assert (gauge["value"], gauge["value_int"], gauge["count"]) == (-0.5, None, None)
    assert gauge["attributes_string"] == {"s": "x"}
    assert gauge["attributes_int"] == {"i": 2**62}
    assert (gauge["attributes_float"], gauge["attributes_bool"]) == ({"f": 0.5}, {"b": True})
    assert gauge["attributes_json"] == {"l": '["p"]', "n": "null"}
    assert gauge["attributes"]["y"] == "/w=="
    (exemplar,) = gauge["exemplars"]
    assert (exemplar["value"], exemplar["trace_id"], exemplar["span_id"]) == (4.0, "74" * 16, "73" * 8)
    assert json.loads(exemplar["attributes"]) == {"user": "u", "list": [1]}
    assert (total["value_int"], total["is_monotonic"]) == (-(2**63), True)
    assert (histogram["count"], histogram["sum"], histogram["min"], histogram["max"]) == (2**63, 0.0, 0.0, None)
    assert (histogram["bucket_counts"], histogram["bucket_bounds"]) == ([1, 2**63, 0], [-1.5, 2.0])
    assert len(histogram["exemplars"]) == len(exponential["exemplars"]) == 1
    assert (exponential["count"], exponential["sum"], exponential["max"]) == (9, None, 8.0)
    assert (exponential["scale"], exponential["zero_count"], exponential["zero_threshold"]) == (-3, 4, 0.25)
    assert (exponential["positive_offset"], exponential["positive_counts"]) == (-2, [1, 300])
    assert (exponential["negative_offset"], exponential["negative_counts"]) == (5, [2])
    assert (summary["count"], summary["sum"]) == (3, 4.5)
    assert [tuple(each.values()) for each in summary["quantiles"]] == [(0.5, 1.0), (1.0, 3.0)]


async def test_a_point_sent_again_is_one_and_the_later_counts(receiver: Running, service: str) -> None:
    request = metrics_request(*_of_all_types(), service=service)
    for _ in range(3):
        await _send(receiver, request)
    assert len(await _rows(receiver, service)) == 5
    await _send(receiver, metrics_request(_gauge("x", _point(1.0, a="1", b="2")), service=service))
    await _send(receiver, metrics_request(_gauge("x", _point(2.0, b="2", a="1")), service=service))  # the same set
    for other in (_point(3.0), _point(4.0, at=START + 1, a="1", b="2"), _point(5.0, a="2", b="1"), _point(6.0, a=1)):
        await _send(receiver, metrics_request(_gauge("x", other), service=service))
    assert [row["value"] for row in await _rows(receiver, service) if row["name"] == "x"] == [2.0, 3.0, 5.0, 6.0, 4.0]


async def test_what_is_no_metric_is_left_out_and_its_points_are_counted(receiver: Running, service: str) -> None:
    unnamed = _gauge("", _point(1.0), _point(2.0))
    answer = await _send(receiver, metrics_request(unnamed, _gauge("good", _point(3.0)), service=service))
    assert answer.partial_success.rejected_data_points == 2
    assert answer.partial_success.error_message == "2 invalid data point(s) left out; a metric has no name"
    assert [row["name"] for row in await _rows(receiver, service)] == ["good"]


async def test_a_metric_of_a_kind_that_is_not_known_is_told_without_a_count(receiver: Running, service: str) -> None:
    request = metrics_request(Metric(name="new"), _gauge("good", _point(3.0)), service=service)
    request.resource_metrics[0].scope_metrics[0].metrics[0].MergeFromString(b"\x7a\x00")  # field 15: a later kind
    answer = await _send(receiver, request)
    assert answer.partial_success.rejected_data_points == 0
    assert answer.partial_success.error_message == "metric 'new' has no data of a known kind"
    assert [row["name"] for row in await _rows(receiver, service)] == ["good"]


async def test_a_resource_without_points_does_not_shift_the_experiments_of_others(
    receiver: Running, service: str
) -> None:
    request = metrics_request(_gauge("empty"), service="somebody-else")
    request.MergeFrom(metrics_request(_gauge("x", _point(1.0)), service=service))
    assert await _send(receiver, request) == ExportMetricsServiceResponse()
    experiment = await receiver.collector.experiments.by_name(service)
    (row,) = await _rows(receiver, service)
    assert experiment is not None
    assert row["experiment_id"] == experiment.experiment_id
    assert await _send(receiver, metrics_request(_gauge("empty"))) == ExportMetricsServiceResponse()


async def test_a_small_body_of_many_empty_points_is_too_large(receiver: Running) -> None:
    points = Gauge.FromString(b"\x0a\x00" * 300_000)
    body = metrics_request(Metric(name="x", gauge=points)).SerializeToString()
    assert len(body) < 1_000_000
    async with grpc.aio.insecure_channel(receiver.grpc_address) as channel:
        for sent in (body, body + metrics_request(_gauge("", _point(1.0))).SerializeToString()):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await channel.unary_unary(EXPORT)(sent)
            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "data point" in (refused.value.details() or "")


async def test_text_that_is_not_utf8_costs_its_metric_alone(receiver: Running, service: str) -> None:
    request = metrics_request(_gauge("good", _point(1.0)), _gauge("cut-here", _point(2.0)), service=service)
    body = request.SerializeToString().replace(b"cut-here", b"cut-her\xc3")
    answer = ExportMetricsServiceResponse.FromString(await post(receiver, "metrics", body))
    assert answer.partial_success.rejected_data_points == 1
    assert "metric 2 of its scope: a text is not UTF-8" in answer.partial_success.error_message
    assert [row["name"] for row in await _rows(receiver, service)] == ["good"]
