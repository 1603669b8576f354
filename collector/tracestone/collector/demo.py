"""The sample applications behind `tracestone up --demo`, instrumented with the real OpenTelemetry SDK.

Two services talk as if they had customers: `support-agent` (OpenTelemetry's GenAI conventions: an agent span,
model calls, tools, retrieval, errors) and `handbook-search` (OpenInference: a chain with embedding,
retriever, guardrail and model). No model is called: a turn is written down once it is over, with its times.
"""

import asyncio
import json
import logging
import random
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import urlsplit

from tracestone.collector import demo_dialogues as dialogues
from tracestone.collector.demo_dialogues import Lookup, ModelFailure, Question, ToolCall, Turn
from tracestone.schema import clock
from tracestone.schema.errors import MissingExtra

try:
    import grpc
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context
except ImportError as error:
    raise MissingExtra("opentelemetry-sdk", "demo") from error

logger = logging.getLogger(__name__)

OPEN_CONVERSATIONS = 12  # taken in turn, so one customer writes every 12 paces
CONNECT_SECONDS = 5.0
FLUSH_SECONDS = 1.2  # how long the last spans may take at the end before the connection is cut
MODELS = {  # USD per million tokens: input, cached input, output
    "gpt-4.1-mini": (0.40, 0.10, 1.60),
    "gpt-4.1": (2.00, 0.50, 8.00),
}
MODEL_SECONDS = (0.5, 1.6)  # shortest and longest model call

Attributes = dict[str, Any]
JsonPart = dict[str, Any]
JsonMessage = dict[str, Any]


async def run_demo(
    endpoint: str,
    stop_event: asyncio.Event,
    *,
    pace: float = 1.0,
    seed: int = 7,
    api_key: str = "",
    certificate: Path | None = None,
) -> None:
    """Sends traces to an OTLP/gRPC `endpoint` (http:// or https://host:port) until `stop_event` is set.

    `pace` is the mean number of seconds between two traces. The same `seed` tells the same stories. With
    `certificate`, a file in PEM, it sends over TLS to whoever shows that one or one signed by it, whatever name it is
    for. Returns within 2 s of the event, also when the endpoint does not answer.
    """
    stop = threading.Event()
    work = asyncio.to_thread(_work, endpoint, stop, pace, seed, api_key, certificate)
    worker = asyncio.create_task(work, name="demo-worker")
    waiter = asyncio.create_task(stop_event.wait(), name="demo-stop")
    try:
        await asyncio.wait({worker, waiter}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.set()
        waiter.cancel()
        await worker


def _work(endpoint: str, stop: threading.Event, pace: float, seed: int, api_key: str, certificate: Path | None) -> None:
    exporter = _exporter(endpoint, api_key, certificate)
    processor = BatchSpanProcessor(exporter, schedule_delay_millis=500)
    providers = [
        _provider(processor, "support-agent", "2.4.1"),
        _provider(processor, "handbook-search", "0.9.0"),
    ]
    support, handbook = (provider.get_tracer("tracestone.demo", "1.0") for provider in providers)
    rng = random.Random(seed)
    conversations = [_new_conversation(rng) for _ in range(OPEN_CONVERSATIONS)]
    number = 0
    try:
        while not stop.is_set():
            number += 1
            if number % 5 == 0:
                _answer_question(handbook, rng, rng.choice(dialogues.QUESTIONS), rng.choice(dialogues.PEOPLE)[1])
            else:
                slot = number % OPEN_CONVERSATIONS
                if conversations[slot].finished:
                    conversations[slot] = _new_conversation(rng)
                _take_turn(support, rng, conversations[slot])
            stop.wait(rng.uniform(0.6, 1.4) * pace)
    finally:
        # A store that does not answer must not hold up the end: cutting the connection ends the last export.
        cut = threading.Timer(FLUSH_SECONDS, exporter.shutdown)
        cut.start()
        for provider in providers:
            provider.shutdown()
        cut.cancel()
        cut.join()
        logger.info("demo stopped", extra={"traces": number})


def _exporter(endpoint: str, api_key: str, certificate: Path | None) -> OTLPSpanExporter:
    headers = {"x-api-key": api_key} if api_key else None
    if certificate is None:
        return OTLPSpanExporter(endpoint=endpoint, insecure=True, headers=headers)
    return OTLPSpanExporter(
        endpoint=endpoint,
        headers=headers,
        credentials=grpc.ssl_channel_credentials(certificate.read_bytes()),
        # It sends to an address of this machine, which a certificate need not name.
        channel_options=(("grpc.ssl_target_name_override", _shown_name(endpoint, certificate)),),
    )


def _shown_name(endpoint: str, certificate: Path) -> str:
    """A name for which the server's certificate is good, once it has proved to be the one that is trusted."""
    address = urlsplit(endpoint)
    context = ssl.create_default_context(cafile=certificate)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection((address.hostname, address.port), CONNECT_SECONDS) as plain,
        context.wrap_socket(plain) as connection,
    ):
        shown: dict[str, Any] = connection.getpeercert() or {}
    names = [name for kind, name in shown.get("subjectAltName", ()) if kind in ("DNS", "IP Address")]
    names += [value for part in shown.get("subject", ()) for kind, value in part if kind == "commonName"]
    return str(names[0]).replace("*", "demo") if names else ""


def _provider(processor: BatchSpanProcessor, service: str, version: str) -> TracerProvider:
    resource = Resource.create(
        {
            "service.name": service,
            "service.version": version,
            "service.instance.id": f"{service}-0",
            "deployment.environment.name": "demo",
        }
    )
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(processor)
    return provider


@dataclass
class Pen:
    """Writes spans one after the other; `now_ns` is where the story has got to."""

    tracer: Tracer
    now_ns: int
    common: Attributes

    @contextmanager
    def span(
        self,
        name: str,
        parent: Span | None,
        kind: SpanKind,
        attributes: Mapping[str, Any],
        *,
        seconds: float = 0.0,
    ) -> Iterator[Span]:
        """A span from now on; it takes `seconds` more than what happens inside it."""
        context = set_span_in_context(parent) if parent is not None else None
        span = self.tracer.start_span(
            name, context=context, kind=kind, attributes={**self.common, **attributes}, start_time=self.now_ns
        )
        yield span
        self.wait(seconds)
        span.end(end_time=self.now_ns)

    def wait(self, seconds: float) -> None:
        self.now_ns += int(seconds * 1e9)

    def fail(self, span: Span, error_type: str, message: str) -> None:
        """The span ends in an error, with an exception event at its end."""
        span.add_event(
            "exception",
            {
                "exception.type": error_type,
                "exception.message": message,
                "exception.stacktrace": f'Traceback (most recent call last):\n  File "agent.py", line 118\n'
                f"{error_type}: {message}",
                "exception.escaped": False,
            },
            timestamp=self.now_ns,
        )
        span.set_attribute("error.type", error_type)
        span.set_status(Status(StatusCode.ERROR, message))


@dataclass
class Conversation:
    """A customer's dialogue and how far it has got."""

    session_id: str
    user_id: str
    model: str
    turns: tuple[Turn, ...]
    words: Mapping[str, str]
    messages: list[JsonMessage] = field(default_factory=list)
    taken: int = 0

    @property
    def finished(self) -> bool:
        return self.taken == len(self.turns)


def _new_conversation(rng: random.Random) -> Conversation:
    name, user_id = rng.choice(dialogues.PEOPLE)
    item, price = rng.choice(dialogues.ITEMS)
    words = {
        "name": name.split()[0],
        "order": f"{rng.randint(20_000, 99_999)}",
        "item": item,
        "price": price,
        "city": rng.choice(dialogues.CITIES),
        "day": rng.choice(dialogues.DAYS),
    }
    session_id = f"chat-{clock.now_ms():x}-{rng.getrandbits(24):06x}"
    model = rng.choices(list(MODELS), weights=(4, 1))[0]
    return Conversation(session_id, user_id, model, rng.choice(dialogues.DIALOGUES), words)


def _take_turn(tracer: Tracer, rng: random.Random, talk: Conversation) -> None:
    turn: Turn = _filled(talk.turns[talk.taken], talk.words)
    talk.taken += 1
    common = {
        "session.id": talk.session_id,
        "gen_ai.conversation.id": talk.session_id,
        "user.id": talk.user_id,
        "gen_ai.agent.name": "fernweg-support",
    }
    question = _message("user", {"type": "text", "content": turn.user})
    talk.messages.append(question)
    opening = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": talk.model,
        "gen_ai.agent.version": "2.4.1",
        "gen_ai.input.messages": _json([question]),
        "gen_ai.system_instructions": _json([{"type": "text", "content": dialogues.SYSTEM_PROMPT}]),
        "app.channel": rng.choice(("web", "web", "mobile", "e-mail")),
        "app.turn": talk.taken,
        "app.tags": ["support", "demo"],
    }
    pen = Pen(tracer, clock.now_ns() - int(_longest(turn) * 1e9), common)
    with pen.span("invoke_agent fernweg-support", None, SpanKind.INTERNAL, opening, seconds=0.01) as root:
        pen.wait(0.004)
        AgentRun(pen, rng, talk, root).answer(turn)


def _longest(turn: Turn) -> float:
    """Seconds the turn takes at most, so that it ends about now and never later."""
    return sum(step.seconds for step in turn.steps) * 2 + (len(turn.steps) + 1) * MODEL_SECONDS[1] + 0.1


@dataclass
class AgentRun:
    """The inside of one turn: steps, model calls, and the usage an agent span repeats."""

    pen: Pen
    rng: random.Random
    talk: Conversation
    root: Span
    input_tokens: int = 0
    output_tokens: int = 0

    def answer(self, turn: Turn) -> None:
        """Takes every step, then answers, unless the provider refused for good."""
        for step in turn.steps:
            if isinstance(step, ModelFailure):
                self._refused(step)
                if not step.recovers:
                    self.pen.fail(self.root, step.type, step.message)
                    return
            elif isinstance(step, Lookup):
                self._retrieve(step)
            else:
                self._use_tool(step)
        answer = _message("assistant", {"type": "text", "content": turn.answer})
        self._chat(answer, "stop")
        self.root.set_attribute("gen_ai.output.messages", _json([answer]))
        self.root.set_attribute("gen_ai.usage.input_tokens", self.input_tokens)
        self.root.set_attribute("gen_ai.usage.output_tokens", self.output_tokens)

    def _chat(self, answer: JsonMessage, reason: str) -> None:
        model = self.talk.model
        sent = _json(self.talk.messages)
        seconds = self.rng.uniform(*MODEL_SECONDS)
        cached = 512 if self.talk.taken > 1 else 0
        input_tokens = 640 + _tokens(sent)
        output_tokens = _tokens(_json(answer)) + self.rng.randint(2, 12)
        self.input_tokens += input_tokens
        self.output_tokens += output_tokens
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": self.talk.model,
            "gen_ai.response.model": f"{model}-2025-04-14",
            "gen_ai.response.id": f"chatcmpl-{self.rng.getrandbits(64):016x}",
            "gen_ai.request.temperature": 0.2,
            "gen_ai.request.max_tokens": 400,
            "gen_ai.system_instructions": _json([{"type": "text", "content": dialogues.SYSTEM_PROMPT}]),
            "gen_ai.input.messages": sent,
            "gen_ai.output.messages": _json([{**answer, "finish_reason": reason}]),
            "gen_ai.response.finish_reasons": [reason],
            "gen_ai.response.time_to_first_chunk": round(seconds * self.rng.uniform(0.2, 0.5), 3),
            "gen_ai.usage.input_tokens": input_tokens,
            "gen_ai.usage.output_tokens": output_tokens,
            "gen_ai.usage.cache_read.input_tokens": cached,
            "server.address": "api.openai.com",
            "server.port": 443,
            **_cost(model, input_tokens, cached, output_tokens),
        }
        self.talk.messages.append(answer)
        with self.pen.span(f"chat {model}", self.root, SpanKind.CLIENT, attributes, seconds=seconds):
            pass

    def _refused(self, step: ModelFailure) -> None:
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": self.talk.model,
            "gen_ai.input.messages": _json(self.talk.messages),
            "server.address": "api.openai.com",
            "http.response.status_code": step.status,
        }
        with self.pen.span(f"chat {self.talk.model}", self.root, SpanKind.CLIENT, attributes) as span:
            self.pen.wait(step.seconds)
            self.pen.fail(span, step.type, step.message)

    def _use_tool(self, step: ToolCall) -> None:
        call_id = f"call_{self.rng.getrandbits(48):012x}"
        request = {"type": "tool_call", "id": call_id, "name": step.name, "arguments": step.arguments}
        self._chat(_message("assistant", request), "tool_call")
        attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": step.name,
            "gen_ai.tool.type": "function",
            "gen_ai.tool.call.id": call_id,
            "gen_ai.tool.call.arguments": _json(step.arguments),
        }
        with self.pen.span(f"execute_tool {step.name}", self.root, SpanKind.INTERNAL, attributes) as span:
            self.pen.wait(step.seconds if step.error else step.seconds * self.rng.uniform(0.6, 1.5))
            if step.error:
                self.pen.fail(span, *step.error)
            else:
                span.set_attribute("gen_ai.tool.call.result", _json(step.result))
        response = {"error": step.error[1]} if step.error else step.result
        reply = {"type": "tool_call_response", "id": call_id, "response": response}
        self.talk.messages.append(_message("tool", reply))

    def _retrieve(self, step: Lookup) -> None:
        attributes = {
            "gen_ai.operation.name": "retrieval",
            "gen_ai.data_source.id": "help-centre",
            "gen_ai.retrieval.query.text": step.query,
            "gen_ai.retrieval.top_k": 3,
            "gen_ai.retrieval.documents": _json([vars(document) for document in step.documents]),
        }
        with self.pen.span("retrieval help-centre", self.root, SpanKind.CLIENT, attributes) as span:
            self.pen.wait(step.seconds * self.rng.uniform(0.5, 2.0))
            span.add_event("index.searched", {"candidates": self.rng.randint(40, 90)}, timestamp=self.pen.now_ns)


def _answer_question(tracer: Tracer, rng: random.Random, question: Question, user_id: str) -> None:
    seconds = rng.uniform(0.5, 1.4)
    common = {"session.id": f"handbook-{user_id}", "user.id": user_id}
    pen = Pen(tracer, clock.now_ns() - int((seconds + 0.4) * 1e9), common)
    opening = {
        "openinference.span.kind": "CHAIN",
        "input.value": question.user,
        "input.mime_type": "text/plain",
        "metadata": _json({"surface": "intranet", "language": "en"}),
    }
    with pen.span("answer_question", None, SpanKind.INTERNAL, opening, seconds=0.005) as root:
        if question.blocked:
            verdict = {
                "openinference.span.kind": "GUARDRAIL",
                "input.value": question.user,
                "output.value": "blocked",
            }
            with pen.span(f"guardrail {question.blocked}", root, SpanKind.INTERNAL, verdict, seconds=0.08):
                pass
            root.set_attribute("output.value", "I cannot answer questions about other people's pay.")
            return
        _embed_and_search(pen, root, question)
        _complete(pen, rng, root, question, seconds)
        root.set_attribute("output.value", question.answer)
        root.set_attribute("output.mime_type", "text/plain")


def _embed_and_search(pen: Pen, root: Span, question: Question) -> None:
    embedding = {
        "openinference.span.kind": "EMBEDDING",
        "embedding.model_name": "text-embedding-3-small",
        "embedding.embeddings.0.embedding.text": question.user,
        "llm.token_count.prompt": _tokens(question.user),
        "llm.token_count.total": _tokens(question.user),
        "llm.cost.total": round(_tokens(question.user) * 0.02 / 1e6, 10),
    }
    search: Attributes = {"openinference.span.kind": "RETRIEVER", "input.value": question.user}
    for rank, document in enumerate(question.documents):
        prefix = f"retrieval.documents.{rank}.document"
        search[f"{prefix}.id"] = document.id
        search[f"{prefix}.score"] = document.score
        search[f"{prefix}.content"] = document.content
    with pen.span("search handbook", root, SpanKind.INTERNAL, search, seconds=0.06) as retriever:
        with pen.span("embed query", retriever, SpanKind.CLIENT, embedding, seconds=0.09):
            pass


def _complete(pen: Pen, rng: random.Random, root: Span, question: Question, seconds: float) -> None:
    passages = "\n\n".join(f"[{document.id}] {document.content}" for document in question.documents)
    prompt = f"Answer from these passages only.\n\n{passages}"
    prompt_tokens, completion_tokens = _tokens(prompt) + _tokens(question.user) + 40, _tokens(question.answer)
    attributes = {
        "openinference.span.kind": "LLM",
        "llm.system": "openai",
        "llm.provider": "openai",
        "llm.model_name": "gpt-4.1-mini",
        "llm.invocation_parameters": _json({"temperature": 0, "max_tokens": 300}),
        "llm.input_messages.0.message.role": "system",
        "llm.input_messages.0.message.content": prompt,
        "llm.input_messages.1.message.role": "user",
        "llm.input_messages.1.message.content": question.user,
        "llm.output_messages.0.message.role": "assistant",
        "llm.output_messages.0.message.content": question.answer,
        "llm.finish_reason": "stop",
        "llm.token_count.prompt": prompt_tokens,
        "llm.token_count.completion": completion_tokens,
        "llm.token_count.total": prompt_tokens + completion_tokens,
        **_cost("gpt-4.1-mini", prompt_tokens, 0, completion_tokens),
    }
    with pen.span("ChatCompletion", root, SpanKind.CLIENT, attributes, seconds=seconds):
        pen.wait(rng.uniform(0.0, 0.05))


def _filled(value: Any, words: Mapping[str, str]) -> Any:
    """The same value with every placeholder in its texts replaced, at any depth."""
    if isinstance(value, str):
        return Template(value).substitute(words)
    if isinstance(value, dict):
        return {key: _filled(inner, words) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_filled(inner, words) for inner in value)
    if isinstance(value, Turn | ToolCall | Lookup | ModelFailure):
        return type(value)(**{name: _filled(inner, words) for name, inner in vars(value).items()})
    return value


def _message(role: str, part: JsonPart) -> JsonMessage:
    return {"role": role, "parts": [part]}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _tokens(text: str) -> int:
    """About four characters of English are a token."""
    return max(1, len(text) // 4)


def _cost(model: str, input_tokens: int, cached_tokens: int, output_tokens: int) -> Attributes:
    """USD of a call, as OpenInference spells it."""
    input_price, cached_price, output_price = MODELS[model]
    prompt = ((input_tokens - cached_tokens) * input_price + cached_tokens * cached_price) / 1e6
    completion = output_tokens * output_price / 1e6
    return {
        "llm.cost.prompt": prompt,
        "llm.cost.completion": completion,
        "llm.cost.total": prompt + completion,
    }
