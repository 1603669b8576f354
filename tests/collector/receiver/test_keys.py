"""OTLP where keys are demanded: who is refused and how, before a body is read; what a bound key may send."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import httpx
import pytest
import pytest_asyncio
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from support.api_keys import bearer, new_key
from support.engines import fresh_stores
from support.running import Running, grpc_export, running
from support.signals import log, logs_request
from support.stored_assessments import assessments_of
from support.telemetry import export_request, otlp_span
from tracestone.collector.receiver import encoding
from tracestone.schema import keys
from tracestone.schema.engines.postgres import Pool, open_pool
from tracestone.schema.stores.keys import KeyStore

START = 1_790_000_000_000_000_000
CODES = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    503: grpc.StatusCode.UNAVAILABLE,
}


@dataclass
class Guarded:
    """A collector that demands keys."""

    running: Running
    pool: Pool

    async def send(self, transport: str, headers: dict[str, str], body: bytes) -> tuple[int, str, bytes]:
        """The HTTP status, or the one that the gRPC code means; the message of a refusal; the body of an answer."""
        if transport == "grpc":
            async with grpc_export(self.running.grpc_address) as export:
                try:
                    return 200, "", await export(body, metadata=tuple(headers.items()))
                except grpc.aio.AioRpcError as error:
                    status = next(status for status, code in CODES.items() if code is error.code())
                    return status, error.details() or "", b""
        url = self.running.traces_url if transport == "http" else f"{self.running.url}/v1/traces"
        async with httpx.AsyncClient() as http:
            answer = await http.post(url, content=body, headers={"content-type": "application/x-protobuf", **headers})
        if answer.status_code == 200:
            return 200, "", answer.content
        assert answer.headers["content-type"] == "application/x-protobuf"
        status = Status.FromString(answer.content)
        assert status.code == CODES[answer.status_code].value[0]
        return answer.status_code, status.message, b""

    async def experiments(self, trace: int) -> dict[str, int]:
        """The number of spans of a trace by experiment name."""
        rows = await self.running.rows(
            "SELECT experiment_id AS e, count() AS n FROM spans WHERE trace_id = {id:String} GROUP BY e",
            id=f"{trace:032x}",
        )
        names = {row["experiment_id"]: row["name"] for row in await self.pool.fetch("SELECT * FROM experiments")}
        return {names[row["e"]]: row["n"] for row in rows}


@pytest_asyncio.fixture(scope="module")
async def guarded(
    postgres_server: str, chdb_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Guarded]:
    """One for the module."""
    folder: Path = tmp_path_factory.mktemp("collector")
    async with (
        fresh_stores(postgres_server, chdb_url) as (pool, columnar),
        running(pool, columnar, folder, auth="on") as collector,
    ):
        yield Guarded(collector, pool)


@pytest_asyncio.fixture(scope="module")
async def team(guarded: Guarded) -> dict[str, int]:
    """Three experiments by name."""
    create = guarded.running.collector.experiments.create
    return {name: (await create(name)).experiment_id for name in ("red", "green", "blue")}


def _request(trace: int, *services: str) -> bytes:
    """A request with a span of each service; "" for a resource without a name."""
    whole = ExportTraceServiceRequest()
    for number, service in enumerate(services, start=1):
        part = export_request(otlp_span(trace, number, start_ns=START), service=service)
        if not service:
            part.resource_spans[0].ClearField("resource")
        whole.MergeFrom(part)
    return whole.SerializeToString()


@pytest.mark.parametrize("transport", ["grpc", "http", "main"])
async def test_who_may_send(guarded: Guarded, trace: int, transport: str) -> None:
    body = _request(trace, "agent")
    ingest, read = await new_key(guarded.pool, "ingest"), await new_key(guarded.pool, "read", "write")
    boss, gone = await new_key(guarded.pool, "admin"), await new_key(guarded.pool, "ingest")
    await KeyStore(guarded.pool).revoke(keys.key_id_of(gone))
    expected: list[tuple[dict[str, str], int, str]] = [
        ({}, 401, "An API key is needed"),
        ({"authorization": "Bearer nonsense"}, 401, "not an API key"),
        (bearer(keys.new_token()[1]), 401, "unknown, revoked or expired"),
        (bearer(gone), 401, "unknown, revoked or expired"),
        (bearer(read), 403, "does not have the scope ingest"),
        (bearer(ingest), 200, ""),
        ({"x-api-key": ingest}, 200, ""),
        ({"authorization": f"Bearer%20{boss}"}, 200, ""),
    ]
    for headers, status, message in expected:
        found = await guarded.send(transport, headers, body)
        assert (found[0], message in found[1]) == (status, True), (headers, found)
        for token in (ingest, read, gone):
            assert token[20:] not in found[1]
    assert await guarded.experiments(trace) == {"agent": 1}


async def test_a_refusal_says_how_to_do_it_and_is_in_the_encoding_of_the_request(guarded: Guarded) -> None:
    async with httpx.AsyncClient() as http:
        refused = await http.post(guarded.running.traces_url, json={})
        unsaid = await http.post(guarded.running.traces_url)
    assert (refused.status_code, refused.headers["content-type"]) == (401, "application/json")
    assert refused.json()["code"] == 16 and "API key is needed" in refused.json()["message"]
    assert [name.split()[0] for name in refused.headers.get_list("www-authenticate", split_commas=False)] == [
        "Basic",
        "Bearer",
    ]
    assert (unsaid.status_code, unsaid.headers["content-type"]) == (401, "text/plain; charset=utf-8")


async def test_http_answers_before_the_body_comes(guarded: Guarded) -> None:
    parts = urlsplit(guarded.running.traces_url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(
        b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\n"
        b"Content-Length: 1000000\r\nExpect: 100-continue\r\n\r\n"
    )
    async with asyncio.timeout(5):
        assert (await reader.readline()).startswith(b"HTTP/1.1 401 ")
    writer.close()
    await writer.wait_closed()


async def test_grpc_answers_before_the_message_comes(guarded: Guarded) -> None:
    """A client that streams is one whose message has not come; the method itself takes a single one."""
    token = await new_key(guarded.pool, "ingest")
    method = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
    async with grpc.aio.insecure_channel(guarded.running.grpc_address) as channel:
        refused = channel.stream_unary(method)(timeout=5)
        assert await refused.code() is grpc.StatusCode.UNAUTHENTICATED
        waiting = channel.stream_unary(method)(metadata=tuple(bearer(token).items()), timeout=1)
        assert await waiting.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_stranger_s_bomb_is_not_decompressed(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []
    for name in ("decompress", "decompress_message"):
        kept = getattr(encoding, name)

        async def watched(body: bytes, *rest: Any, kept: Any = kept) -> bytes:
            opened.append(len(body))
            return bytes(await kept(body, *rest))

        monkeypatch.setattr(encoding, name, watched)
    bomb = gzip.compress(bytes(32 * 1024 * 1024))
    headers = {"content-encoding": "gzip"}
    for transport in ("http", "main"):
        assert (await guarded.send(transport, headers, bomb))[0] == 401
    async with grpc_export(guarded.running.grpc_address, grpc.Compression.Gzip) as export:
        with pytest.raises(grpc.aio.AioRpcError, match="UNAUTHENTICATED"):
            await export(bytes(32 * 1024 * 1024))
    assert opened == []
    token = await new_key(guarded.pool, "ingest")
    with pytest.raises(KeyError):  # 400: with a key it is read, and is no request
        await guarded.send("http", {**headers, **bearer(token)}, bomb)
    assert opened == [len(bomb)]


async def test_a_key_made_a_moment_ago_works_on_the_first_try(guarded: Guarded, trace: int) -> None:
    """gRPC asks for a known key before it reads; for this one it has to look first, and must not lose the message."""
    for number in range(3):
        token = await new_key(guarded.pool, "ingest")
        assert (await guarded.send("grpc", bearer(token), _request(trace + number, "agent")))[0] == 200
        assert await guarded.experiments(trace + number) == {"agent": 1}


@pytest.mark.parametrize("transport", ["grpc", "http"])
async def test_a_bound_key(guarded: Guarded, team: dict[str, int], trace: int, transport: str) -> None:
    token = bearer(await new_key(guarded.pool, "ingest", experiments=[team["red"], team["green"]]))
    count = len(await guarded.pool.fetch("SELECT FROM experiments"))

    assert (await guarded.send(transport, token, _request(trace, "red", "green")))[0] == 200
    assert await guarded.experiments(trace) == {"red": 1, "green": 1}

    status, _, answer = await guarded.send(transport, token, _request(trace + 1, "red", "blue", "green", "new", ""))
    partial = ExportTraceServiceResponse.FromString(answer).partial_success
    assert (status, partial.rejected_spans) == (200, 3)
    assert "is not for the experiment 'blue'" in partial.error_message
    assert await guarded.experiments(trace + 1) == {"red": 1, "green": 1}

    for services in (("blue",), ("new",), ("",), ("blue", "new")):
        status, message, _ = await guarded.send(transport, token, _request(trace + 2, *services))
        assert (status, "is not for the experiment" in message) == (403, True)

    named = {**token, "x-mlflow-experiment-id": str(team["green"])}
    assert (await guarded.send(transport, named, _request(trace + 3, "blue", "")))[0] == 200
    assert await guarded.experiments(trace + 3) == {"green": 2}
    for number in (team["blue"], 0, 999_999):
        status, message, _ = await guarded.send(
            transport, {**token, "x-mlflow-experiment-id": str(number)}, _request(trace + 4, "red")
        )
        assert (status, f"not for the experiment {number}" in message) == (403, True)
    assert await guarded.experiments(trace + 4) == {}
    assert len(await guarded.pool.fetch("SELECT FROM experiments")) == count  # no name made one


@pytest.mark.parametrize(
    ("signal", "resources", "scopes", "items", "item", "rejected"),
    [
        ("logs", "resourceLogs", "scopeLogs", "logRecords", {"body": {"stringValue": "x"}}, "rejectedLogRecords"),
        (
            "metrics",
            "resourceMetrics",
            "scopeMetrics",
            "metrics",
            {"name": "m", "gauge": {"dataPoints": [{"asInt": "1"}, {"asInt": "2"}]}},
            "rejectedDataPoints",
        ),
    ],
)
async def test_a_bound_key_and_other_signals(
    guarded: Guarded,
    team: dict[str, int],
    signal: str,
    resources: str,
    scopes: str,
    items: str,
    item: dict[str, Any],
    rejected: str,
) -> None:
    headers = bearer(await new_key(guarded.pool, "ingest", experiments=[team["red"]]))

    def body(*services: str) -> dict[str, Any]:
        return {
            resources: [
                {
                    "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]},
                    scopes: [{items: [item]}],
                }
                for service in services
            ]
        }

    url = guarded.running.traces_url.replace("traces", signal)
    async with httpx.AsyncClient(headers=headers) as http:
        both = await http.post(url, json=body("blue", "red"))
        foreign = await http.post(url, json=body("blue"))
    weight = "2" if signal == "metrics" else "1"
    assert (both.status_code, both.json()["partialSuccess"][rejected]) == (200, weight)
    assert (foreign.status_code, foreign.json()["code"]) == (403, 7)


async def test_a_key_for_one_experiment_takes_what_names_none(
    guarded: Guarded, team: dict[str, int], trace: int
) -> None:
    token = bearer(await new_key(guarded.pool, "ingest", experiments=[team["blue"]]))
    assert (await guarded.send("grpc", token, _request(trace, "")))[0] == 200
    assert await guarded.experiments(trace) == {"blue": 1}


async def test_a_large_request_of_a_bound_key(guarded: Guarded, team: dict[str, int], trace: int) -> None:
    """One that is taken in pieces, with an invalid span in what is left out and one in what is kept."""
    token = bearer(await new_key(guarded.pool, "ingest", experiments=[team["red"]]))
    whole = ExportTraceServiceRequest()
    for service in ("blue", "red"):
        spans = [otlp_span(trace, n, start_ns=START, attributes={"text": "x" * 1000}) for n in range(1, 1001)]
        spans[7].trace_id = b""
        whole.MergeFrom(export_request(*spans, service=service))
    status, _, answer = await guarded.send("grpc", token, whole.SerializeToString())
    assert status == 200
    assert ExportTraceServiceResponse.FromString(answer).partial_success.rejected_spans == 1001
    assert await guarded.experiments(trace) == {"red": 999}


async def test_while_postgres_is_away_strangers_are_told_to_come_back(
    guarded: Guarded, trace: int, postgres_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = bearer(await new_key(guarded.pool, "ingest"))
    assert (await guarded.send("grpc", token, _request(trace, "agent")))[0] == 200

    closed = await open_pool(postgres_server)
    await closed.close()
    monkeypatch.setattr(guarded.running.collector.doors.gate._store, "_pool", closed)
    for transport in ("grpc", "http"):
        assert (await guarded.send(transport, bearer(keys.new_token()[1]), _request(trace, "agent")))[0] == 503
        assert (await guarded.send(transport, token, _request(trace, "agent")))[0] == 200
        assert (await guarded.send(transport, {}, _request(trace, "agent")))[0] == 401


async def test_a_bound_key_s_evaluations_and_logs_stay_in_its_experiments(
    guarded: Guarded, team: dict[str, int], trace: int
) -> None:
    red = await new_key(guarded.pool, "ingest", "read", experiments=[team["red"]])
    free, blue = await new_key(guarded.pool, "ingest"), await new_key(guarded.pool, "read", experiments=[team["blue"]])
    url = guarded.running.otlp_url("logs")

    async def evaluate(key: str, at: int, trace: int = trace, **attributes: Any) -> None:
        named = {"gen_ai.evaluation.name": "score", **attributes}
        event = log("it says", trace, 1 if trace else 0, at=at, event_name="gen_ai.evaluation.result", attributes=named)
        async with httpx.AsyncClient() as http:
            answer = await http.post(
                url,
                content=logs_request(event, service="red").SerializeToString(),
                headers={"content-type": "application/x-protobuf", **bearer(key)},
            )
        assert (answer.status_code, answer.content) == (200, b"")
        await guarded.running.collector.barrier(("logs",))

    async def stored() -> list[tuple[int, int]]:
        found = await assessments_of(guarded.running.collector.assessments, f"{trace:032x}")
        return sorted((each.created_at_ms, each.experiment_id) for each in found)

    span = otlp_span(trace, 1, start_ns=START, attributes={"gen_ai.response.id": f"r{trace}"})
    body = export_request(span, service="blue").SerializeToString()
    assert (await guarded.send("http", bearer(free), body))[0] == 200
    await guarded.running.collector.barrier()
    await evaluate(red, START)
    await evaluate(red, START, trace=0, **{"gen_ai.response.id": f"r{trace}"})
    assert await stored() == []
    await evaluate(free, START + 10**6)
    await evaluate(free, START + 2 * 10**6, trace=0, **{"gen_ai.response.id": f"r{trace}"})
    assert await stored() == [(START // 10**6 + 1, team["blue"]), (START // 10**6 + 2, team["blue"])]
    page = f"{guarded.running.url}/experiments/{team['blue']}/traces/{trace:032x}/spans/{1:016x}"
    async with httpx.AsyncClient() as http:
        answer = await http.get(page, headers=bearer(blue))
        assert answer.status_code == 200 and "it says" not in answer.text  # the log records are red's
        everything = await http.get(page, headers=bearer(await new_key(guarded.pool, "read")))
        assert everything.status_code == 200 and "it says" in everything.text
