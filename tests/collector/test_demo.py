"""The sample application, against a real OTLP/gRPC server in this process."""

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
import pytest_asyncio
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from support.certificates import Authority
from tracestone.collector.demo import run_demo
from tracestone.collector.demo_dialogues import DIALOGUES, QUESTIONS, Turn


@dataclass
class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps every span by service name."""

    endpoint: str = ""
    spans: dict[str, list[Span]] = field(default_factory=dict)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def Export(self, request, context):
        for resource in request.resource_spans:
            service = values(resource.resource.attributes)["service.name"]
            for scope in resource.scope_spans:
                self.spans.setdefault(service, []).extend(scope.spans)
        self.news.set()
        return trace_service_pb2.ExportTraceServiceResponse()

    async def until(self, service: str, count: int) -> list[Span]:
        while len(self.spans.get(service, [])) < count:
            self.news.clear()
            await self.news.wait()
        return self.spans[service]


def values(attributes: list[KeyValue]) -> dict[str, object]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value") or "string_value") for a in attributes}


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[Receiver]:
    servicer = Receiver()
    server = grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(servicer, server)
    servicer.endpoint = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield servicer
    await server.stop(None)


async def play(receiver: Receiver, service: str, count: int) -> list[Span]:
    stop = asyncio.Event()
    demo = asyncio.create_task(run_demo(receiver.endpoint, stop, pace=0.001))
    await receiver.until(service, count)
    stop.set()
    await asyncio.wait_for(demo, 30)
    return receiver.spans[service]


async def test_agent_turns_are_whole_traces_of_the_current_conventions(receiver: Receiver) -> None:
    spans = await play(receiver, "support-agent", 400)
    by_id = {span.span_id: span for span in spans}
    assert len(by_id) == len(spans)
    operations = {values(span.attributes)["gen_ai.operation.name"] for span in spans}
    assert operations == {"invoke_agent", "chat", "execute_tool", "retrieval"}
    for span in spans:
        attributes = values(span.attributes)
        assert attributes["session.id"] == attributes["gen_ai.conversation.id"]
        assert span.start_time_unix_nano < span.end_time_unix_nano
        parent = by_id.get(span.parent_span_id)
        if span.parent_span_id:
            assert parent is not None and parent.trace_id == span.trace_id
            assert parent.start_time_unix_nano <= span.start_time_unix_nano
            assert span.end_time_unix_nano <= parent.end_time_unix_nano
        for key in ("gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions"):
            assert key not in attributes or isinstance(json.loads(attributes[key]), list)


async def test_agent_has_long_conversations_and_errors(receiver: Receiver) -> None:
    spans = await play(receiver, "support-agent", 800)
    roots = [span for span in spans if not span.parent_span_id]
    sessions: dict[object, set[bytes]] = {}
    for root in roots:
        sessions.setdefault(values(root.attributes)["session.id"], set()).add(root.trace_id)
    assert max(map(len, sessions.values())) >= 3
    failed = [span for span in spans if span.status.code == Status.STATUS_CODE_ERROR]
    assert {"TimeoutError", "openai.RateLimitError"} <= {values(s.attributes)["error.type"] for s in failed}
    assert all("exception" in {event.name for event in span.events} for span in failed)
    assert any(span.status.code == Status.STATUS_CODE_ERROR for span in roots)


async def test_handbook_search_speaks_openinference(receiver: Receiver) -> None:
    spans = await play(receiver, "handbook-search", 80)
    by_kind: dict[object, list[dict[str, object]]] = {}
    for span in spans:
        attributes = values(span.attributes)
        by_kind.setdefault(attributes["openinference.span.kind"], []).append(attributes)
    assert set(by_kind) == {"CHAIN", "RETRIEVER", "EMBEDDING", "LLM", "GUARDRAIL"}
    assert all(attributes["llm.cost.total"] > 0 for attributes in by_kind["LLM"])


async def test_every_span_ended_before_the_stop_arrives(receiver: Receiver) -> None:
    spans = await play(receiver, "support-agent", 60)
    roots = {span.trace_id for span in spans if not span.parent_span_id}
    assert {span.trace_id for span in spans} == roots


@pytest.mark.parametrize("name", ["traces.example", "*.example"])
async def test_over_tls_it_sends_to_the_certificate_s_owner_alone(tmp_path: Path, name: str) -> None:
    authority = Authority("test")
    served, other = authority.issue(name, loopback=False), authority.issue(name)
    servicer, server = Receiver(), grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(servicer, server)
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(served.key, served.chain)]))
    await server.start()
    stop = asyncio.Event()
    endpoint = f"https://127.0.0.1:{port}"
    demo = asyncio.create_task(run_demo(endpoint, stop, pace=0.001, certificate=served.write(tmp_path, "served")[0]))
    async with asyncio.timeout(30):
        await servicer.until("support-agent", 10)
        stop.set()
        await demo
        with pytest.raises(ssl.SSLCertVerificationError):
            await run_demo(endpoint, asyncio.Event(), certificate=other.write(tmp_path, "other")[0])
    await server.stop(None)


@pytest.mark.parametrize("accepts", [True, False], ids=["silent", "closed"])
async def test_stops_although_nobody_answers(accepts: bool) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if accepts:
            listener.listen()
        stop = asyncio.Event()
        demo = asyncio.create_task(run_demo(f"127.0.0.1:{listener.getsockname()[1]}", stop, pace=0.01))
        await asyncio.sleep(0.7)
        stop.set()
        await asyncio.wait_for(demo, 10)


def test_every_text_can_be_filled() -> None:
    known = {"name", "order", "item", "price", "city", "day"}
    turns = [turn for dialogue in DIALOGUES for turn in dialogue]
    assert all(isinstance(turn, Turn) for turn in turns) and QUESTIONS
    for turn in turns:
        rest = repr(turn)
        for word in known:
            rest = rest.replace(f"${word}", "")
        assert "$" not in rest
