"""Realistic OTLP requests, built once and re-stamped with fresh ids and times for every send.

A request holds whole agent traces of eight spans (agent, retrieval, two tools, four model calls) in the current
OpenTelemetry GenAI conventions. `span_bytes` sets the average size of a span; the text is made of words, so that it
compresses as prose does.
"""

import base64
import json
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

SPANS_PER_TRACE = 8
_IDS = {"traceId", "spanId", "parentSpanId"}
_WORDS = [
    "".join(random.Random(n).choices("etaoinshrdlucmfwypvbgkjqxz", weights=range(26, 0, -1), k=3 + n % 8))
    for n in range(4000)
]


def text(rng: random.Random, size: int) -> str:
    """About `size` bytes of words."""
    return " ".join(rng.choices(_WORDS, k=max(1, size // 7)))[:size]


def attribute(key: str, value: object) -> KeyValue:
    pair = KeyValue(key=key)
    if isinstance(value, list):
        for item in value:
            pair.value.array_value.values.add(string_value=item)
    elif isinstance(value, int):
        pair.value.int_value = value
    elif isinstance(value, float):
        pair.value.double_value = value
    else:
        pair.value.string_value = str(value)
    return pair


def _messages(rng: random.Random, role: str, size: int) -> str:
    return json.dumps([{"role": role, "parts": [{"type": "text", "content": text(rng, max(8, size - 70))}]}])


def _span(rng: random.Random, kind: str, trace_id: bytes, span_id: bytes, parent: bytes, size: int) -> Span:
    span = Span(trace_id=trace_id, span_id=span_id, parent_span_id=parent, kind=Span.SPAN_KIND_CLIENT, flags=257)
    span.start_time_unix_nano = rng.getrandbits(55) | 1 << 60
    span.end_time_unix_nano = span.start_time_unix_nano + rng.randrange(10**8, 10**10)
    put = span.attributes.append
    put(attribute("gen_ai.conversation.id", f"session-{trace_id.hex()[:6]}"))
    if kind == "chat":
        span.name = "chat gpt-4.1-mini"
        content = max(40, size - 420)
        put(attribute("gen_ai.operation.name", "chat"))
        put(attribute("gen_ai.provider.name", "openai"))
        put(attribute("gen_ai.request.model", "gpt-4.1-mini"))
        put(attribute("gen_ai.response.model", "gpt-4.1-mini-2025-04-14"))
        put(attribute("gen_ai.response.id", f"chatcmpl-{rng.getrandbits(96):024x}"))
        put(attribute("gen_ai.request.temperature", 0.2))
        put(attribute("gen_ai.response.finish_reasons", ["stop"]))
        put(attribute("gen_ai.usage.input_tokens", rng.randrange(50, 4000)))
        put(attribute("gen_ai.usage.output_tokens", rng.randrange(5, 900)))
        put(attribute("gen_ai.input.messages", _messages(rng, "user", content * 2 // 3)))
        put(attribute("gen_ai.output.messages", _messages(rng, "assistant", content // 3)))
    elif kind == "tool":
        span.name = "execute_tool lookup_order"
        put(attribute("gen_ai.operation.name", "execute_tool"))
        put(attribute("gen_ai.tool.name", "lookup_order"))
        put(attribute("gen_ai.tool.call.id", f"call_{rng.getrandbits(64):016x}"))
        put(attribute("gen_ai.tool.call.arguments", json.dumps({"order": rng.randrange(10**6)})))
        put(attribute("gen_ai.tool.call.result", text(rng, max(20, size - 330))))
    elif kind == "retrieval":
        span.name = "retrieval handbook"
        length = max(10, (size - 400) // 3)
        documents = [{"id": str(rng.randrange(1000)), "content": text(rng, length)} for _ in range(3)]
        put(attribute("gen_ai.operation.name", "retrieval"))
        put(attribute("gen_ai.data_source.id", "handbook"))
        put(attribute("gen_ai.retrieval.documents", json.dumps(documents)))
    else:
        span.name = "invoke_agent support"
        put(attribute("gen_ai.operation.name", "invoke_agent"))
        put(attribute("gen_ai.agent.name", "support"))
        put(attribute("user.id", f"user-{rng.randrange(5000)}"))
        put(attribute("gen_ai.input.messages", _messages(rng, "user", max(80, (size - 330) // 2))))
        put(attribute("gen_ai.output.messages", _messages(rng, "assistant", max(80, (size - 330) // 2))))
    return span


@dataclass
class Template:
    """A request's bytes and where its ids and times stand in them."""

    data: np.ndarray
    spans: int
    _ids: np.ndarray
    _id_group: np.ndarray
    _span_ids: np.ndarray
    _traces: int
    _times: np.ndarray
    _offsets: np.ndarray

    def stamp(self, rng: np.random.Generator, now_ns: int) -> bytes:
        """The request with fresh trace and span ids, ending at about `now_ns`."""
        fresh = rng.integers(0, 256, size=(self._traces, 16), dtype=np.uint8)
        fresh[:, 0] |= 1
        self.data[self._ids] = fresh[self._id_group]
        # All ids of spans begin with the same four bytes, so that parents are found.
        self.data[self._span_ids] = rng.integers(0, 256, size=4, dtype=np.uint8)
        stamps = (np.uint64(now_ns) - self._offsets).view(np.uint8).reshape(-1, 8)
        self.data[self._times] = stamps
        return self.data.tobytes()


def template(span_bytes: int, traces: int, seed: int = 0) -> Template:
    """A request of `traces` traces of eight spans, each of about `span_bytes` bytes."""
    rng = random.Random(seed)
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.extend(
        attribute(key, value)
        for key, value in {
            "service.name": "bench",
            "service.version": "1.4.2",
            "deployment.environment.name": "production",
            "telemetry.sdk.language": "python",
            "telemetry.sdk.name": "opentelemetry",
            "telemetry.sdk.version": "1.45.2",
        }.items()
    )
    scope = resource.scope_spans.add()
    scope.scope.name = "bench.agent"
    scope.scope.version = "1.0"
    ids: list[bytes] = []
    for _ in range(traces):
        trace_id = rng.randbytes(16)
        root = rng.randbytes(8)
        for kind in ("agent", "retrieval", "tool", "tool", "chat", "chat", "chat", "chat"):
            span_id = root if kind == "agent" else rng.randbytes(8)
            scope.spans.append(_span(rng, kind, trace_id, span_id, b"" if kind == "agent" else root, span_bytes))
            ids.append(trace_id)
    raw = request.SerializeToString()
    places, cursor = [], 0
    times, offsets, span_ids = [], [], []
    for span, trace_id in zip(scope.spans, ids, strict=True):
        cursor = raw.index(trace_id, cursor)
        places.append(range(cursor, cursor + 16))
        duration = span.end_time_unix_nano - span.start_time_unix_nano
        for value, offset in ((span.start_time_unix_nano, duration), (span.end_time_unix_nano, 0)):
            at = raw.index(value.to_bytes(8, "little"), cursor)
            times.append(range(at, at + 8))
            offsets.append(offset)
        cursor += 16
        for span_id in filter(None, (span.span_id, span.parent_span_id)):
            at = raw.index(span_id, cursor)
            span_ids.append(range(at, at + 4))
    return Template(
        data=np.frombuffer(bytearray(raw), dtype=np.uint8),
        spans=len(ids),
        _ids=np.array(places),
        _id_group=np.arange(len(ids)) // SPANS_PER_TRACE,
        _span_ids=np.array(span_ids),
        _traces=traces,
        _times=np.array(times),
        _offsets=np.array(offsets, dtype=np.uint64),
    )


def as_json(request: bytes) -> bytes:
    """A request in OTLP's JSON form."""
    message = json_format.MessageToDict(ExportTraceServiceRequest.FromString(request), use_integers_for_enums=True)
    return json.dumps(_with_hex(message), separators=(",", ":")).encode()


def _with_hex(value: Any) -> Any:
    """Ids in hex, where protobuf's own JSON has base64."""
    if isinstance(value, list):
        return [_with_hex(item) for item in value]
    if isinstance(value, dict):
        return {key: base64.b64decode(item).hex() if key in _IDS else _with_hex(item) for key, item in value.items()}
    return value
