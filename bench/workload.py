"""A week of a company's agents: many applications of very different size, users who come back, texts of every length.

Requests are built once, one for each of a number of shapes, and stamped for every send: ids, times, users, sessions and
all text are new each time, so that nothing compresses better than it would in life.

- applications: 24, their traffic after Zipf (exponent 1.1): the largest has a quarter
- traces: 1 to 120 spans (lognormal, median 7), one in forty with an error
- texts: lognormal, median 180 bytes, one in a hundred above 4.5 KB; words after Zipf from 4,096
- users: 100,000, after Zipf (exponent 1.05), each with one session a day
- models: eight of four providers, after Zipf; time: evenly over the window, in order
"""

import json
import random
import re
from dataclasses import dataclass

import numpy as np
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from payloads import attribute

APPLICATIONS = 24
USERS = 100_000
DAY_NS = 86_400_000_000_000
MODELS = [
    ("openai", "gpt-4.1-mini"),
    ("anthropic", "claude-sonnet-4-5"),
    ("openai", "gpt-4.1"),
    ("gcp.gemini", "gemini-2.5-flash"),
    ("openai", "gpt-4o-mini"),
    ("anthropic", "claude-haiku-4-5"),
    ("aws.bedrock", "anthropic.claude-3-5-sonnet-20240620-v1:0"),
    ("gcp.gemini", "gemini-2.5-pro"),
]
_USER, _DAY, _TEXT, _WORD = "@@@@@@", "##", "~", 8
_WORDS = np.array(
    [
        list(("".join(random.Random(n).choices("etaoinshrdlucmfwyp", weights=range(18, 0, -1), k=7)) + " ").encode())
        for n in range(4096)
    ],
    dtype=np.uint8,
)
_RANKED = np.random.default_rng(7).zipf(1.2, 1 << 20)
_COMMON = (_RANKED[_RANKED <= 4096] - 1).astype(np.uint16)


def application(number: int) -> str:
    """The service.name of one."""
    return f"app-{number:02d}"


def zipf(rng: np.random.Generator, count: int, exponent: float, size: int) -> np.ndarray:
    """Numbers below `count`, the first the most frequent."""
    weights = 1 / np.arange(1, count + 1) ** exponent
    return np.searchsorted(np.cumsum(weights / weights.sum()), rng.random(size))


@dataclass
class Shape:
    """A request's bytes and what is stamped into them."""

    data: np.ndarray
    spans: int
    traces: int
    _trace_ids: np.ndarray
    _trace_of_id: np.ndarray
    _span_ids: np.ndarray
    _starts: np.ndarray
    _start_offsets: np.ndarray
    _users: np.ndarray
    _trace_of_user: np.ndarray
    _days: np.ndarray
    _texts: np.ndarray

    def stamp(self, rng: np.random.Generator, end_ns: int) -> tuple[bytes, np.ndarray, np.ndarray]:
        """The request ending at a time; with it its trace ids, shape (traces, 16), and users, shape (traces,)."""
        ids = rng.integers(0, 256, size=(self.traces, 16), dtype=np.uint8)
        ids[:, 0] |= 1
        self.data[self._trace_ids] = ids[self._trace_of_id]
        self.data[self._span_ids] = rng.integers(0, 256, size=4, dtype=np.uint8)
        times = (np.uint64(end_ns) - self._start_offsets).view(np.uint8).reshape(-1, 8)
        self.data[self._starts] = times
        users = zipf(rng, USERS, 1.05, self.traces)
        digits = users[:, None] // 10 ** np.arange(5, -1, -1) % 10 + ord("0")
        self.data[self._users] = digits[self._trace_of_user].astype(np.uint8)
        self.data[self._days] = np.frombuffer(f"{end_ns // DAY_NS % 100:02d}".encode(), dtype=np.uint8)
        words = _COMMON[rng.integers(0, len(_COMMON), size=len(self._texts))]
        self.data[self._texts] = _WORDS[words]
        return self.data.tobytes(), ids, users


def _text(rng: random.Random) -> str:
    return _TEXT * _WORD * max(2, min(8000, int(rng.lognormvariate(5.2, 1.4)) // _WORD))


def _messages(role: str, text: str) -> str:
    return json.dumps([{"role": role, "parts": [{"type": "text", "content": text}]}])


def _spans(rng: random.Random, app: int, count: int) -> list[Span]:
    """One trace: an agent, and under it model calls, tools and retrievals."""
    trace, root = rng.randbytes(16), rng.randbytes(8)
    failed = rng.random() < 0.025
    spans, at = [], 0
    for number in range(count):
        span = Span(trace_id=trace, span_id=rng.randbytes(8) if number else root, flags=257)
        length = int(rng.lognormvariate(20.5, 1.0))
        span.start_time_unix_nano = at
        span.end_time_unix_nano = at + length
        put = span.attributes.append
        put(attribute("gen_ai.conversation.id", f"session-{_USER}-{_DAY}"))
        if number == 0:
            span.name, kind = f"invoke_agent {application(app)}", "invoke_agent"
            put(attribute("user.id", f"user-{_USER}"))
            put(attribute("gen_ai.agent.name", f"agent-{app % 7}"))
            put(attribute("app.tenant", f"tenant-{rng.randrange(40):02d}"))
            put(attribute("gen_ai.input.messages", _messages("user", _text(rng))))
            put(attribute("gen_ai.output.messages", _messages("assistant", _text(rng))))
        else:
            span.parent_span_id = root
            at += length
            kind = rng.choices(["chat", "execute_tool", "retrieval"], [6, 3, 1])[0]
            if kind == "chat":
                weights = [1 / rank for rank in range(1, len(MODELS) + 1)]
                provider, model = rng.choices(MODELS, weights)[0]
                span.name = f"chat {model}"
                put(attribute("gen_ai.provider.name", provider))
                put(attribute("gen_ai.request.model", model))
                put(attribute("gen_ai.response.finish_reasons", ["stop"]))
                put(attribute("gen_ai.usage.input_tokens", int(rng.lognormvariate(6.5, 1.0))))
                put(attribute("gen_ai.usage.output_tokens", int(rng.lognormvariate(4.5, 1.0))))
                put(attribute("gen_ai.input.messages", _messages("user", _text(rng))))
                put(attribute("gen_ai.output.messages", _messages("assistant", _text(rng))))
            elif kind == "execute_tool":
                tool = f"tool-{int(rng.paretovariate(0.8)) % 30}"
                span.name = f"execute_tool {tool}"
                put(attribute("gen_ai.tool.name", tool))
                put(attribute("gen_ai.tool.call.arguments", json.dumps({"order": rng.randrange(10**6)})))
                put(attribute("gen_ai.tool.call.result", _text(rng)))
            else:
                span.name = "retrieval handbook"
                documents = [{"id": str(rng.randrange(1000)), "content": _text(rng)} for _ in range(3)]
                put(attribute("gen_ai.retrieval.documents", json.dumps(documents)))
        put(attribute("gen_ai.operation.name", kind))
        if failed and number == count - 1:
            span.status.code, span.status.message = 2, "the tool did not answer"
            put(attribute("error.type", rng.choice(["timeout", "rate_limit_exceeded", "ToolError"])))
        spans.append(span)
    spans[0].end_time_unix_nano = max(span.end_time_unix_nano for span in spans)
    return spans


def shape(app: int, seed: int, spans: int = 400) -> Shape:
    """One request of an application, of about so many spans."""
    rng = random.Random(seed)
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    for key, value in {
        "service.name": application(app),
        "service.version": f"1.{seed % 5}.0",
        "deployment.environment.name": "staging" if app % 8 == 7 else "production",
        "telemetry.sdk.language": "python",
    }.items():
        resource.resource.attributes.append(attribute(key, value))
    scope = resource.scope_spans.add()
    scope.scope.name = "workload.agent"
    traces: list[list[Span]] = []
    while sum(map(len, traces)) < spans:
        traces.append(_spans(rng, app, max(1, min(120, int(rng.lognormvariate(1.95, 0.8))))))
    # Times are written as marks first, which are found again in the bytes: eight that no text has.
    offsets, marks = [], []
    last = max(span.end_time_unix_nano for trace in traces for span in trace)
    for trace in traces:
        for span in trace:
            for name in ("start_time_unix_nano", "end_time_unix_nano"):
                offsets.append(last - getattr(span, name))
                marks.append((0xF1F2 << 48) | len(marks))
                setattr(span, name, marks[-1])
        scope.spans.extend(trace)
    raw = request.SerializeToString()
    places = [raw.index(mark.to_bytes(8, "little")) for mark in marks]
    trace_ids, trace_of_id, span_ids, users, trace_of_user, days = [], [], [], [], [], []
    cursor = 0
    for number, trace in enumerate(traces):
        for span in trace:
            cursor = raw.index(span.trace_id, cursor)
            trace_ids.append(cursor)
            trace_of_id.append(number)
            cursor += 16
            for span_id in filter(None, (span.span_id, span.parent_span_id)):
                cursor = raw.index(span_id, cursor)
                span_ids.append(cursor)
                cursor += 8
            for _ in range(2 if span is trace[0] else 1):
                cursor = raw.index(_USER.encode(), cursor)
                users.append(cursor)
                trace_of_user.append(number)
                cursor += len(_USER)
                if raw[cursor : cursor + 3] == b"-" + _DAY.encode():
                    days.append(cursor + 1)
    data = np.frombuffer(bytearray(raw), dtype=np.uint8)
    runs = [match.span() for match in re.finditer(rb"(?:%s){2,}" % (_TEXT.encode() * _WORD), raw)]
    return Shape(
        data=data, spans=len(scope.spans), traces=len(traces),
        _trace_ids=_ranges(trace_ids, 16), _trace_of_id=np.array(trace_of_id),
        _span_ids=_ranges(span_ids, 4), _starts=_ranges(places, 8), _start_offsets=np.array(offsets, dtype=np.uint64),
        _users=_ranges(users, 6), _trace_of_user=np.array(trace_of_user), _days=_ranges(days, 2),
        _texts=np.concatenate([np.arange(*run) for run in runs]).reshape(-1, _WORD),
    )  # fmt: skip


def shapes(count: int, seed: int = 1) -> list[Shape]:
    """Requests of applications as frequent as their traffic."""
    rng = np.random.default_rng(seed)
    return [shape(int(app), seed + number) for number, app in enumerate(zipf(rng, APPLICATIONS, 1.1, count))]


def _ranges(starts: list[int], length: int) -> np.ndarray:
    return np.array(starts)[:, None] + np.arange(length)
