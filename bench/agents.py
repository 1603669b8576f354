"""Traces of agents that work for a hundred turns and send their whole history with every model call.

The text is real: pieces of the Python library's source, of its reference and of the descriptions of installed
packages, none used twice, so that it compresses as such text does (ZSTD alone: a good three times) and repeats itself
only where an agent does. Calls and results have ids of their own. Several agents work at the same time; spans come in
the order in which they end, as a collector receives them.
"""

import heapq
import json
import random
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from opentelemetry.proto.trace.v1.trace_pb2 import Span
from payloads import attribute

SECOND = 10**9
_TURN_NS = 6_500_000_000  # about what a model call and its tool take
_TOOLS = ("read_file", "search_code", "run_tests", "fetch_page", "query_database")


class Corpus:
    """Pieces of text, each given once; when all are used it begins again."""

    def __init__(self, rng: random.Random, sources: list[str]) -> None:
        self._rng = rng
        self._text = "\n".join(sources)
        self._cuts: list[int] = []
        self._at = self._end = 0

    def piece(self, size: int) -> str:
        """The next `size` characters or fewer; pieces follow each other in a random order of stretches of 8,000."""
        found = ""
        while len(found) < size:
            if self._at >= self._end:
                if not self._cuts:
                    self._cuts = list(range(0, len(self._text), 8_000))
                    self._rng.shuffle(self._cuts)
                self._at = self._cuts.pop()
                self._end = min(self._at + 8_000, len(self._text))
            step = min(size - len(found), self._end - self._at)
            found += self._text[self._at : self._at + step]
            self._at += step
        return found


def corpora(rng: random.Random) -> tuple[Corpus, Corpus]:
    """What tools answer (source code and documents), and what agents and people say (prose)."""
    library = Path(sysconfig.get_path("stdlib"))
    installed = Path(sysconfig.get_path("purelib"))
    code = [
        path.read_text("utf-8", "ignore")
        for path in sorted(library.rglob("*.py"))
        if not {"site-packages", "test", "pydoc_data"} & set(path.parts)
    ]
    described = [path.read_text("utf-8", "ignore") for path in sorted(installed.glob("*.dist-info/METADATA"))]
    reference = [path.read_text("utf-8", "ignore") for path in sorted(library.glob("pydoc_data/*.py"))]
    half = len(described) // 2
    return Corpus(rng, code + described[:half]), Corpus(rng, reference + described[half:])


@dataclass
class Agent:
    """One trace under way: its history, its clock, and the spans it has still to send."""

    trace_id: bytes
    root: bytes
    session: str
    start_ns: int
    now_ns: int
    turns: int
    history: list[str]


def _size(rng: random.Random, median: float, low: int, high: int) -> int:
    return int(min(high, max(low, rng.lognormvariate(0, 0.8) * median)))


def _message(role: str, *parts: dict[str, object]) -> str:
    return json.dumps({"role": role, "parts": list(parts)})


class Agents:
    """Makes the spans of `traces` agents, about `at_once` at work at any time, each for `turns` turns."""

    def __init__(self, traces: int, at_once: int, turns: int, start_ns: int, seed: int = 1) -> None:
        self.rng = random.Random(seed)
        self.raw_bytes = 0
        self.by_trace: dict[bytes, list[bytes]] = {}
        self._traces, self._at_once, self._turns, self._start_ns = traces, at_once, turns, start_ns
        self._results, self._prose = corpora(self.rng)
        self._system = json.dumps([{"type": "text", "content": self._prose.piece(3_000)}])
        self._tools = json.dumps(
            [
                {"type": "function", "name": name, "description": self._prose.piece(500), "parameters": {
                    "type": "object", "properties": {"path": {"type": "string"}, "query": {"type": "string"}}}}
                for name in _TOOLS
            ]
        )  # fmt: skip

    def spans(self) -> Iterator[Span]:
        """All spans, in order of their ends. A new agent begins whenever one of those at work should have ended."""
        every = self._turns * _TURN_NS // self._at_once
        starts = [self._start_ns + number * every for number in range(self._traces)][::-1]
        working: list[tuple[int, bytes, Agent]] = []
        ended: list[tuple[int, bytes, Span]] = []
        while starts or working:
            if starts and (not working or starts[-1] <= working[0][0]):
                agent = self._agent(starts.pop())
            else:
                agent = heapq.heappop(working)[2]
            while ended and ended[0][0] <= agent.now_ns:
                yield heapq.heappop(ended)[2]
            for span in self._turn(agent):
                heapq.heappush(ended, (span.end_time_unix_nano, span.span_id, span))
            if agent.turns:
                heapq.heappush(working, (agent.now_ns, agent.trace_id, agent))
        while ended:
            yield heapq.heappop(ended)[2]

    def _agent(self, now_ns: int) -> Agent:
        rng = self.rng
        trace_id = rng.randbytes(16)
        root = rng.randbytes(8)
        self.by_trace[trace_id] = [root]
        task = _message("user", {"type": "text", "content": self._prose.piece(_size(rng, 800, 200, 3_000))})
        return Agent(trace_id, root, f"session-{rng.getrandbits(48):x}", now_ns, now_ns, self._turns, [task])

    def _turn(self, agent: Agent) -> list[Span]:
        """A model call and the tool it asked for; with the last turn the agent's own span."""
        rng = self.rng
        call_id, tool = f"call_{rng.getrandbits(96):024x}", rng.choice(_TOOLS)
        arguments = {
            "path": f"/srv/{rng.getrandbits(32):08x}/{tool}.py",
            "query": self._prose.piece(_size(rng, 80, 20, 400)),
        }
        answer = _message(
            "assistant",
            {"type": "text", "content": self._prose.piece(_size(rng, 300, 40, 2_000))},
            {"type": "tool_call", "id": call_id, "name": tool, "arguments": arguments},
        )
        model = self._span(agent, "chat claude-sonnet", _size(rng, 4_000, 800, 30_000))
        self._put(model, {
            "gen_ai.operation.name": "chat", "gen_ai.provider.name": "anthropic",
            "gen_ai.request.model": "claude-sonnet", "gen_ai.conversation.id": agent.session,
            "gen_ai.response.id": f"msg_{rng.getrandbits(96):024x}",
            "gen_ai.usage.input_tokens": sum(map(len, agent.history)) // 4,
            "gen_ai.usage.output_tokens": len(answer) // 4,
            "gen_ai.system_instructions": self._system, "gen_ai.tool.definitions": self._tools,
            "gen_ai.input.messages": f"[{', '.join(agent.history)}]", "gen_ai.output.messages": f"[{answer}]",
        })  # fmt: skip
        result = self._results.piece(_size(rng, 1_800, 500, 5_000))
        agent.history += [
            answer,
            _message("tool", {"type": "tool_call_response", "id": call_id, "response": result}),
        ]
        done = self._span(agent, f"execute_tool {tool}", _size(rng, 600, 20, 20_000))
        self._put(done, {
            "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": tool, "gen_ai.tool.call.id": call_id,
            "gen_ai.conversation.id": agent.session,
            "gen_ai.tool.call.arguments": json.dumps(arguments), "gen_ai.tool.call.result": result,
        })  # fmt: skip
        agent.turns -= 1
        found = [model, done]
        if not agent.turns:
            whole = Span(
                trace_id=agent.trace_id, span_id=agent.root, name="invoke_agent engineer", kind=Span.SPAN_KIND_INTERNAL,
                start_time_unix_nano=agent.start_ns, end_time_unix_nano=agent.now_ns,
            )  # fmt: skip
            self._put(whole, {
                "gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "engineer",
                "gen_ai.conversation.id": agent.session, "gen_ai.input.messages": f"[{agent.history[0]}]",
                "gen_ai.output.messages": f"[{answer}]",
            })  # fmt: skip
            found.append(whole)
        return found

    def _span(self, agent: Agent, name: str, milliseconds: int) -> Span:
        span_id = self.rng.randbytes(8)
        self.by_trace[agent.trace_id].append(span_id)
        began = agent.now_ns
        agent.now_ns += milliseconds * 1_000_000
        return Span(
            trace_id=agent.trace_id, span_id=span_id, parent_span_id=agent.root, name=name, kind=Span.SPAN_KIND_CLIENT,
            start_time_unix_nano=began, end_time_unix_nano=agent.now_ns,
        )  # fmt: skip

    def _put(self, span: Span, attributes: dict[str, object]) -> None:
        for key, value in attributes.items():
            span.attributes.append(attribute(key, value))
            if isinstance(value, str) and len(value) > 256:
                self.raw_bytes += len(value.encode())
