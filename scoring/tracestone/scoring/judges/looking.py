"""How a judge looks at a trace that is too long to be told whole: tools that list, read and search its spans. Pure.

Everything a tool returns is bounded. The spans are those that were loaded; nothing else can
be reached.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tracestone.schema.errors import Invalid
from tracestone.schema.patterns import compile_pattern
from tracestone.schema.spans import Span
from tracestone.scoring.judges.contents import contents_of, headline, shorten
from tracestone.scoring.judges.prompts import Message
from tracestone.scoring.llm import Reply
from tracestone.scoring.scorers.protocol import Subject

_PAGE = 50
_MOST_HITS = 30
_AROUND = 150
_OUTLINE_LINES = 60


class Looking:
    """The tools over the spans of one trace; a result has about `limit` characters at most."""

    def __init__(self, subject: Subject, limit: int) -> None:
        self._spans = subject.spans
        self._by_id = {span.span_id: span for span in subject.spans}
        self._limit = max(1000, min(limit, 20_000))
        self.tools: Sequence[Mapping[str, Any]] = _TOOLS

    @property
    def outline(self) -> str:
        """What stands in the prompt for the trace: how many spans there are, and the first of them in a line each."""
        lines = [f"{len(self._spans)} spans; the first of them:"]
        lines += [f"{span.span_id} {headline(span)}" for span in self._spans[:_OUTLINE_LINES]]
        return shorten("\n".join(lines), self._limit)

    def answers(self, reply: Reply) -> list[Message]:
        """The messages that carry a reply's calls of tools and what they returned."""
        calls = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in reply.tool_calls
        ]
        told: list[Message] = [{"role": "assistant", "content": reply.text or None, "tool_calls": calls}]
        told += [
            {"role": "tool", "tool_call_id": call.id, "content": self.run(call.name, call.arguments)}
            for call in reply.tool_calls
        ]
        return told

    def run(self, name: str, arguments: str) -> str:
        """What a tool returns; of a call that makes no sense, why."""
        try:
            given = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            return "The arguments are not valid JSON."
        if not isinstance(given, dict):
            return "The arguments must be an object."
        run = {"list_spans": self._list, "get_span": self._get, "search_spans": self._search}.get(name)
        return "There is no such tool." if run is None else shorten(run(given), self._limit)

    def _list(self, given: dict[str, Any]) -> str:
        offset = given.get("offset", 0)
        if not isinstance(offset, int) or offset < 0:
            return "offset must be an integer from 0."
        page = self._spans[offset : offset + _PAGE]
        lines = [
            f"{span.span_id} parent {span.parent_span_id or 'none'} {headline(span)}"
            + "".join(f" {label}:{len(text)}" for label, text in contents_of(span))
            for span in page
        ]
        left = len(self._spans) - offset - len(page)
        return "\n".join([*lines, f"{max(0, left)} more spans follow."])

    def _get(self, given: dict[str, Any]) -> str:
        span = self._by_id.get(str(given.get("span_id", "")).lower())
        if span is None:
            return "There is no span with that span_id."
        offset = given.get("offset", 0)
        if not isinstance(offset, int) or offset < 0:
            return "offset must be an integer from 0."
        text = self._whole(span)[offset:]
        rest = len(text) - self._limit
        return text if rest <= 0 else f"{text[: self._limit - 100]}\n[{rest + 100} characters follow; use offset]"

    def _search(self, given: dict[str, Any]) -> str:
        try:
            pattern = compile_pattern(str(given.get("pattern", "")), ignore_case=True)
        except Invalid as error:
            return f"The pattern cannot be used: {error.reason}."
        hits = []
        for span in self._spans:
            for label, text in [("name", span.name), *contents_of(span)]:
                found = pattern.search(text)
                if found is None:
                    continue
                start, end = found.span()
                around = " ".join(text[max(0, start - _AROUND) : end + _AROUND].split())
                hits.append(f"{span.span_id} {label} at {start}: {shorten(around, 3 * _AROUND)}")
                if len(hits) == _MOST_HITS:
                    return "\n".join([*hits, "There may be more; make the pattern narrower."])
        return "\n".join(hits) or "Nothing was found."

    def _whole(self, span: Span) -> str:
        lines = [headline(span)]
        lines += [f"{label}: {text}" for label, text in contents_of(span)]
        lines.append("attributes: " + json.dumps(span.attributes, ensure_ascii=False, default=str, sort_keys=True))
        return "\n".join(lines)


def _tool(name: str, description: str, **properties: dict[str, str]) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


_TOOLS = (
    _tool(
        "list_spans",
        f"Lists {_PAGE} spans in order of start: id, parent, name, kind, duration, error, lengths of the contents.",
        offset={"type": "integer", "description": "How many spans to leave out at the beginning."},
    ),
    _tool(
        "get_span",
        "Reads one span: its input, output, what it retrieved, its attributes.",
        span_id={"type": "string"},
        offset={"type": "integer", "description": "How many characters to leave out at the beginning."},
    ),
    _tool(
        "search_spans",
        "Finds a regular expression (RE2, any case) in names and contents, with what stands around it.",
        pattern={"type": "string"},
    ),
)
