"""Senders that repeat a request until it is acknowledged, and the plain account of what must then be stored.

A trace has an agent's span that repeats its calls' usage and several model calls. It comes in two requests, the agent's
span in the first or in the second, so that every trace is computed at least twice.
"""

import asyncio
import itertools
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import grpc
import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from support.running import Running
from tracestone.schema import clock

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
Send = Callable[[bytes], Awaitable[None]]


class Target(Protocol):
    """A running Tracestone: where it takes OTLP, and how to ask it."""

    @property
    def grpc(self) -> str:
        """Host and port of OTLP/gRPC."""

    @property
    def http(self) -> str:
        """URL of OTLP/HTTP."""

    @property
    def key(self) -> str:
        """The API key to send with, "" for none."""

    async def sql(self, statement: str) -> list[list[Any]]:
        """Rows of an answer."""

    def tail(self) -> str:
        """The end of its log, for messages."""


@dataclass(frozen=True)
class Here:
    """A collector in this process as a target."""

    running: Running
    key: str = ""

    @property
    def grpc(self) -> str:
        """Host and port of OTLP/gRPC."""
        return self.running.grpc_address

    @property
    def http(self) -> str:
        """URL of OTLP/HTTP."""
        return self.running.traces_url

    async def sql(self, statement: str) -> list[list[Any]]:
        """Rows of an answer, asked past the SQL endpoint."""
        return [list(row.values()) for row in await self.running.columnar.query(statement)]

    def tail(self) -> str:
        """Nothing: pytest shows the log of this process."""
        return ""


class NotTaken(Exception):
    """The request was not acknowledged; `retry_told` says whether the answer asked for another try."""

    def __init__(self, reason: str, *, retry_told: bool) -> None:
        super().__init__(reason)
        self.retry_told = retry_told


@dataclass
class Expected:
    """What must be stored of one trace."""

    spans: set[str] = field(default_factory=set)
    input_tokens: int = 0
    output_tokens: int = 0


@dataclass
class Account:
    """What was acknowledged, what was sent more than once, and what senders were told."""

    traces: dict[str, Expected] = field(default_factory=lambda: defaultdict(Expected))
    requests: int = 0
    failures: int = 0
    without_retry: list[str] = field(default_factory=list)

    @property
    def spans(self) -> int:
        """How many spans were acknowledged."""
        return sum(len(trace.spans) for trace in self.traces.values())

    def acknowledge(self, request: "Request") -> None:
        """Counts a request that was answered with success."""
        self.requests += 1
        for span in request.spans:
            trace = self.traces[span.trace_id.hex()]
            trace.spans.add(span.span_id.hex())
            if span.parent_span_id:
                usage = {item.key: item.value.int_value for item in span.attributes}
                trace.input_tokens += usage["gen_ai.usage.input_tokens"]
                trace.output_tokens += usage["gen_ai.usage.output_tokens"]


@dataclass(frozen=True)
class Request:
    """A request's bytes and the spans in it."""

    data: bytes
    spans: tuple[Span, ...]


def requests(seed: int, *, traces: int = 2, calls: int = 4, text_bytes: int = 200) -> Iterator[Request]:
    """Requests without end, the two halves of `traces` traces after one another."""
    dice = random.Random(seed)
    while True:
        halves: tuple[list[Span], list[Span]] = ([], [])
        for _ in range(traces):
            spans = _trace(dice, calls, text_bytes)
            dice.shuffle(spans)
            halves[0].extend(spans[: len(spans) // 2])
            halves[1].extend(spans[len(spans) // 2 :])
        for half in halves:
            yield request(half)


def request(spans: list[Span], service: str = "crash") -> Request:
    """One request of one service."""
    message = ExportTraceServiceRequest()
    resource = message.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = service
    resource.scope_spans.add().spans.extend(spans)
    return Request(message.SerializeToString(), tuple(spans))


def grpc_sender(program: Target) -> tuple[Send, Callable[[], Awaitable[None]]]:
    """Sends over one gRPC connection that comes back by itself; and how to close it."""
    options = [("grpc.max_reconnect_backoff_ms", 200), ("grpc.initial_reconnect_backoff_ms", 50)]
    channel = grpc.aio.insecure_channel(program.grpc, options=[*options, ("grpc.use_local_subchannel_pool", 1)])
    call = channel.unary_unary(EXPORT, response_deserializer=ExportTraceServiceResponse.FromString)

    async def send(data: bytes) -> None:
        try:
            answer = await call(data, timeout=20, metadata=tuple(_headers(program).items()))
        except grpc.aio.AioRpcError as error:
            metadata = error.trailing_metadata() or ()
            told = any(key == "google.rpc.retryinfo-bin" for key, _ in metadata)
            raise NotTaken(f"{error.code().name}: {error.details()}", retry_told=told) from error
        assert not answer.partial_success.rejected_spans, answer

    async def close() -> None:
        await channel.close()

    return send, close


def http_sender(program: Target) -> tuple[Send, Callable[[], Awaitable[None]]]:
    """Sends over HTTP; and how to close it."""
    client = httpx.AsyncClient(timeout=20, headers=_headers(program))

    async def send(data: bytes) -> None:
        try:
            answer = await client.post(program.http, content=data, headers={"content-type": "application/x-protobuf"})
        except httpx.HTTPError as error:
            raise NotTaken(type(error).__name__, retry_told=False) from error
        if answer.status_code != 200:
            raise NotTaken(f"{answer.status_code}: {answer.text}", retry_told="retry-after" in answer.headers)
        assert not ExportTraceServiceResponse.FromString(answer.content).partial_success.rejected_spans

    return send, client.aclose


def _headers(program: Target) -> dict[str, str]:
    return {"x-api-key": program.key} if program.key else {}


class Senders:
    """Several senders at once, gRPC and HTTP by turns, between `start` and `stop`."""

    def __init__(self, program: Target, *, count: int = 4, seed: int = 1, pause: float = 0.0, **shape: int) -> None:
        self.account = Account()
        self._program = program
        self._count = count
        self._seed = seed
        self._pause = pause
        self._shape = shape
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begins to send."""
        for number in range(self._count):
            make = (grpc_sender, http_sender)[number % 2]
            stream = requests(self._seed * 1000 + number, **self._shape)
            self._tasks.append(asyncio.create_task(self._run(*make(self._program), stream), name=f"sender {number}"))

    async def stop(self, within: float = 60.0) -> Account:
        """Sends nothing new, repeats what is not acknowledged until it is, and gives the account."""
        self._stopping.set()
        async with asyncio.timeout(within):
            await asyncio.gather(*self._tasks)
        return self.account

    def check(self) -> None:
        """Raises what a sender died of."""
        for task in self._tasks:
            if task.done():
                task.result()

    async def _run(self, send: Send, close: Callable[[], Awaitable[None]], stream: Iterator[Request]) -> None:
        try:
            for number in itertools.count():
                # Both halves of a trace are sent, whatever happens.
                if self._stopping.is_set() and number % 2 == 0:
                    return
                await self._until_taken(send, next(stream))
                if self._pause:
                    await asyncio.sleep(self._pause)
        finally:
            await close()

    async def _until_taken(self, send: Send, request: Request) -> None:
        while True:
            try:
                await send(request.data)
            except NotTaken as error:
                self.account.failures += 1
                if not error.retry_told:
                    self.account.without_retry.append(str(error))
                await asyncio.sleep(0.05)
            else:
                self.account.acknowledge(request)
                return


async def drained(program: Target, account: Account, within: float = 60.0) -> None:
    """Waits until as many spans as were acknowledged are counted in traces, or none more came for `within` seconds."""
    most = -1
    end = clock.monotonic() + within
    while clock.monotonic() < end:
        counted = int((await program.sql("SELECT sum(span_count) FROM traces"))[0][0])
        if counted >= account.spans:
            return
        if counted > most:
            most, end = counted, clock.monotonic() + within
        await asyncio.sleep(0.2)


async def check_exact(program: Target, account: Account) -> None:
    """Asserts that the store holds what was acknowledged, each span once, and that every trace adds up."""
    await drained(program, account)
    stored: dict[str, list[str]] = defaultdict(list)
    for trace_id, span_id in await program.sql("SELECT trace_id, span_id FROM spans"):
        stored[trace_id].append(span_id)
    doubled = {trace_id: spans for trace_id, spans in stored.items() if len(spans) != len(set(spans))}
    assert not doubled, f"{len(doubled)} traces have a span twice"
    lost = {trace_id for trace_id, trace in account.traces.items() if trace.spans - set(stored.get(trace_id, ()))}
    assert not lost, f"{len(lost)} traces of {len(account.traces)} lack acknowledged spans: {program.tail()}"
    assert sum(map(len, stored.values())) == account.spans
    rows = await program.sql("SELECT trace_id, span_count, input_tokens, output_tokens FROM traces")
    computed = {trace_id: tuple(int(value) for value in values) for trace_id, *values in rows}
    assert len(rows) == len(computed)
    assert computed == {
        trace_id: (len(trace.spans), trace.input_tokens, trace.output_tokens)
        for trace_id, trace in account.traces.items()
    }


def _trace(dice: random.Random, calls: int, text_bytes: int) -> list[Span]:
    trace_id, root_id, start = dice.randbytes(16), dice.randbytes(8), clock.now_ns()
    usages = [(dice.randrange(1, 5000), dice.randrange(1, 900)) for _ in range(calls)]
    agent = Span(trace_id=trace_id, span_id=root_id, name="invoke_agent support", start_time_unix_nano=start)
    agent.end_time_unix_nano = start + 10**9
    agent.attributes.add(key="gen_ai.operation.name").value.string_value = "invoke_agent"
    _use(agent, sum(usage[0] for usage in usages), sum(usage[1] for usage in usages))
    spans = [agent]
    for number, usage in enumerate(usages):
        call = Span(trace_id=trace_id, span_id=dice.randbytes(8), parent_span_id=root_id, name="chat model")
        call.start_time_unix_nano = start + number * 10**6
        call.end_time_unix_nano = call.start_time_unix_nano + 10**7
        call.attributes.add(key="gen_ai.operation.name").value.string_value = "chat"
        call.attributes.add(key="gen_ai.input.messages").value.string_value = dice.randbytes(text_bytes // 2).hex()
        _use(call, *usage)
        spans.append(call)
    return spans


def _use(span: Span, input_tokens: int, output_tokens: int) -> None:
    span.attributes.add(key="gen_ai.usage.input_tokens").value.int_value = input_tokens
    span.attributes.add(key="gen_ai.usage.output_tokens").value.int_value = output_tokens
