"""The MLflow API on a real server, over the real stores, and a trace for it to talk about."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Span, StatusCode
from starlette.applications import Starlette

from support.asgi_server import serving
from tracestone.collector.mlflow_api.routes import Deps, fallback, routes
from tracestone.protos.ingest.v1 import traces_pb2
from tracestone.schema import clock
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.online import OnlineSetup
from tracestone.schema.stores.assessments import AssessmentStore
from tracestone.schema.stores.experiments import ExperimentStore
from tracestone.schema.stores.mlflow_scorers import MlflowScorerStore
from tracestone.schema.stores.scorers import ScorerStore
from tracestone.schema.stores.spans import SpanStore

TRACE_NS = 60_000_000_000


@dataclass(frozen=True)
class StoredTrace:
    """A trace in ClickHouse; `span_id` is its root's. Ids are hex."""

    trace_id: str
    span_id: str
    experiment_id: int


@asynccontextmanager
async def mlflow_server(deps: Deps) -> AsyncIterator[str]:
    """Serves the API; yields its base URL."""
    async with serving(Starlette(routes=[*routes(deps), *fallback()])) as url:
        yield url


def real_deps(pool: Pool, columnar: Columnar) -> Deps:
    """The stores as an application has them; nothing is ever on its way here, so the barrier need not wait."""

    async def barrier() -> None:
        return

    experiments = ExperimentStore(pool, 1000)
    scorers = MlflowScorerStore(pool, OnlineSetup(ScorerStore(pool), experiments, columnar))
    return Deps(experiments, AssessmentStore(pool), SpanStore(columnar), scorers, barrier)


async def store_trace(columnar: Columnar, experiment_id: int = 0) -> StoredTrace:
    """An agent's answer with a model call and a failed tool, as the OpenTelemetry SDK sends them."""
    spans = _recorded()
    message = traces_pb2.Traces.FromString(encode_spans(spans).SerializeToString())
    message.experiment_ids.extend([experiment_id] * len(message.resource_spans))
    message.received_at = clock.now_ns()
    body = message.SerializeToString()
    store = SpanStore(columnar)
    root = next(span.context for span in spans if span.parent is None)
    batch = f"trace-{root.trace_id:032x}"
    await store.insert(_length(len(body)) + body, batch)
    await store.refresh_traces([batch])
    return StoredTrace(f"{root.trace_id:032x}", f"{root.span_id:016x}", experiment_id)


def refused(answer: httpx.Response, status: int, code: str, *words: str) -> None:
    """Asserts that an answer is this error of MLflow's, and that its message has these words."""
    assert (answer.status_code, answer.json()["error_code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/json"
    for word in words:
        assert word in answer.json()["message"]


def _recorded() -> tuple[ReadableSpan, ...]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource.create({"service.name": "shop"}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("tests")
    start_ns = clock.now_ns()  # the root outlasts its children, however slow the machine
    with tracer.start_as_current_span("answer", start_time=start_ns, end_on_exit=False) as root:
        root.set_attributes({"gen_ai.operation.name": "invoke_agent", "session.id": "conversation-1"})
        with tracer.start_as_current_span("chat") as chat:
            _fill(chat)
        try:
            with tracer.start_as_current_span("look up") as tool:
                tool.set_attribute("gen_ai.operation.name", "execute_tool")
                raise TimeoutError("no answer")
        except TimeoutError:
            root.set_status(StatusCode.ERROR, "the tool failed")
    root.end(start_ns + TRACE_NS)
    provider.shutdown()
    return exporter.get_finished_spans()


def _fill(chat: Span) -> None:
    chat.set_attributes(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-4.1-mini",
            "gen_ai.usage.input_tokens": 10,
            "gen_ai.usage.output_tokens": 5,
            "gen_ai.response.finish_reasons": ["stop"],
            "app.cached": False,
            "app.temperature": 0.5,
        }
    )


def _length(size: int) -> bytes:
    out = bytearray()
    while size > 0x7F:
        out.append(size & 0x7F | 0x80)
        size >>= 7
    out.append(size)
    return bytes(out)
