"""Which experiment spans go to, by the sender's word: header or metadata, attribute, service name, Default."""

from collections.abc import Awaitable, Callable

import grpc
import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans

from support.running import Running, grpc_export
from support.telemetry import export_request, otlp_span

START = 1_790_000_000_000_000_000
HEADER = "x-mlflow-experiment-id"
Send = Callable[[ExportTraceServiceRequest, str | None], Awaitable[tuple[int, str]]]


@pytest.fixture(params=["grpc", "http"])
def send(request: pytest.FixtureRequest, receiver: Running) -> Send:
    """Sends a request with the header, if any; returns the HTTP status or gRPC code's number, and the message."""

    async def over_grpc(body: ExportTraceServiceRequest, experiment: str | None) -> tuple[int, str]:
        metadata = [(HEADER, experiment)] if experiment is not None else None
        async with grpc_export(receiver.grpc_address) as export:
            try:
                await export(body.SerializeToString(), metadata=metadata)
            except grpc.aio.AioRpcError as error:
                return (400 if error.code() is grpc.StatusCode.INVALID_ARGUMENT else 500), error.details() or ""
        return 200, ""

    async def over_http(body: ExportTraceServiceRequest, experiment: str | None) -> tuple[int, str]:
        headers = {"content-type": "application/x-protobuf"}
        if experiment is not None:
            headers[HEADER] = experiment
        async with httpx.AsyncClient() as client:
            answer = await client.post(receiver.traces_url, content=body.SerializeToString(), headers=headers)
        return answer.status_code, answer.content.decode("utf-8", "replace")

    return over_grpc if request.param == "grpc" else over_http


async def _experiment(receiver: Running, trace: int) -> list[int]:
    rows = await receiver.rows(
        "SELECT DISTINCT experiment_id FROM spans WHERE trace_id = {id:String} ORDER BY experiment_id",
        id=f"{trace:032x}",
    )
    return [row["experiment_id"] for row in rows]


def _named(request: ExportTraceServiceRequest, name: str) -> ExportTraceServiceRequest:
    request.resource_spans[0].resource.attributes.append(
        KeyValue(key="tracestone.experiment", value=AnyValue(string_value=name))
    )
    return request


async def test_the_header_wins(send: Send, receiver: Running, trace: int) -> None:
    chosen = await receiver.collector.experiments.create(f"by header {trace}")
    request = _named(export_request(otlp_span(trace, 1, start_ns=START), service="not-this"), "nor-this")
    assert await send(request, str(chosen.experiment_id)) == (200, "")
    assert await _experiment(receiver, trace) == [chosen.experiment_id]


async def test_the_attribute_wins_over_the_service(send: Send, receiver: Running, trace: int) -> None:
    request = _named(export_request(otlp_span(trace, 1, start_ns=START), service="not-this-service"), "by attribute")
    assert await send(request, None) == (200, "")
    chosen = await receiver.collector.experiments.by_name("by attribute")
    assert chosen is not None
    assert await _experiment(receiver, trace) == [chosen.experiment_id]
    assert await receiver.collector.experiments.by_name("not-this-service") is None


async def test_the_service_is_created_on_first_sight(send: Send, receiver: Running, trace: int) -> None:
    name = f"service {trace}"
    assert await receiver.collector.experiments.by_name(name) is None
    assert await send(export_request(otlp_span(trace, 1, start_ns=START), service=name), None) == (200, "")
    chosen = await receiver.collector.experiments.by_name(name)
    assert chosen is not None
    assert await _experiment(receiver, trace) == [chosen.experiment_id]


async def test_nothing_said_means_default(send: Send, receiver: Running, trace: int) -> None:
    spans = [otlp_span(trace, 1, start_ns=START)]
    request = ExportTraceServiceRequest(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=spans)])])
    assert await send(request, None) == (200, "")
    assert await _experiment(receiver, trace) == [0]


async def test_each_resource_has_its_own(send: Send, receiver: Running, trace: int) -> None:
    request = export_request(otlp_span(trace, 1, start_ns=START), service="several a")
    request.MergeFrom(export_request(otlp_span(trace, 2, start_ns=START), service="several b"))
    assert await send(request, None) == (200, "")
    ids = []
    for name in ("several a", "several b"):
        found = await receiver.collector.experiments.by_name(name)
        assert found is not None
        ids.append(found.experiment_id)
    assert await _experiment(receiver, trace) == sorted(ids)


@pytest.mark.parametrize(
    ("experiment", "reason"),
    [
        ("4242424", "there is no experiment 4242424"),
        ("99999999999", "must be the number of an experiment"),
        ("-1", "must be the number of an experiment"),
        ("shop", "must be the number of an experiment"),
        ("", "must be the number of an experiment"),
    ],
)
async def test_an_unknown_experiment_is_refused(
    send: Send, receiver: Running, trace: int, experiment: str, reason: str
) -> None:
    code, message = await send(export_request(otlp_span(trace, 1, start_ns=START)), experiment)
    assert code == 400
    assert f"{HEADER}: {reason}" in message
    assert await _experiment(receiver, trace) == []
