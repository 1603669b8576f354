"""Everything about one span, cut to a size that a browser shows at once."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tracestone.collector.ui import format as fmt
from tracestone.collector.ui import messages as chat
from tracestone.collector.ui.format import Clipped
from tracestone.schema.assessments import Assessment
from tracestone.schema.logs import LogEvent
from tracestone.schema.spans import Span


@dataclass(frozen=True)
class Limits:
    """How much is shown: characters of one text and of all together, messages, and rows of each table."""

    text: int
    total: int
    messages: int
    rows: int


PANE = Limits(text=4_000, total=60_000, messages=24, rows=80)
WHOLE = Limits(text=2_000_000, total=6_000_000, messages=2_000, rows=2_000)


@dataclass(frozen=True)
class ChatPart:
    """A piece of a message, cut."""

    kind: str
    label: str
    body: Clipped


@dataclass(frozen=True)
class ChatMessage:
    """One side's words."""

    role: str
    parts: tuple[ChatPart, ...]


@dataclass(frozen=True)
class Section:
    """A named content of the span: a chat when it could be read as one, else a text.

    `left_out` counts earlier messages that are not shown.
    """

    title: str
    messages: tuple[ChatMessage, ...]
    left_out: int
    text: Clipped


@dataclass(frozen=True)
class Document:
    """A passage a retriever found; `score` is "" when it gave none."""

    id: str
    score: str
    content: Clipped


@dataclass(frozen=True)
class Field:
    """An attribute with its type and value."""

    key: str
    type: str
    value: Clipped


@dataclass(frozen=True)
class Table:
    """Attributes by key, and how many more there are."""

    fields: tuple[Field, ...]
    left_out: int


@dataclass(frozen=True)
class Event:
    """Something that happened, `offset_ns` after the span's start."""

    name: str
    offset_ns: int
    table: Table


@dataclass(frozen=True)
class LogRecord:
    """A log record of the span; `name` is its event's, else its severity. `offset_ns` is negative before its start."""

    name: str
    offset_ns: int
    body: Clipped
    table: Table


@dataclass(frozen=True)
class SpanDetail:
    """One span, ready for its template. `cut` says that something was left out."""

    span: Span
    offset_ns: int
    sections: tuple[Section, ...]
    documents: tuple[Document, ...]
    attributes: Table
    events: tuple[Event, ...]
    events_left_out: int
    logs: tuple[LogRecord, ...]
    more_logs: bool
    resource: Table
    assessments: tuple[Assessment, ...]
    whole: bool
    cut: bool


def describe(
    span: Span,
    trace_start_ns: int,
    assessments: Sequence[Assessment],
    logs: Sequence[LogEvent] = (),
    *,
    whole: bool = False,
) -> SpanDetail:
    """A span for its pane, or `whole` for its own page."""
    knife = _Knife(WHOLE if whole else PANE)
    sections, documents = _contents(span, knife)
    attributes = knife.table(span.attributes)
    events = tuple(
        Event(event.name, event.time_ns - span.start_time_ns, knife.table(event.attributes))
        for event in span.events[: knife.limits.rows]
    )
    records = tuple(
        LogRecord(
            record.event_name or record.severity_text or "log record",
            record.time_ns - span.start_time_ns,
            knife.clip(fmt.pretty(record.body)),
            knife.table(record.attributes),
        )
        for record in logs[: knife.limits.rows]
    )
    resource = knife.table(span.resource_attributes)
    left_out = len(span.events) - len(events)
    return SpanDetail(
        span=span,
        offset_ns=span.start_time_ns - trace_start_ns,
        sections=sections,
        documents=documents,
        attributes=attributes,
        events=events,
        events_left_out=left_out,
        logs=records,
        more_logs=len(logs) > len(records),
        resource=resource,
        assessments=tuple(assessments),
        whole=whole,
        cut=knife.cut or left_out > 0 or len(logs) > len(records),
    )


def _contents(span: Span, knife: "_Knife") -> tuple[tuple[Section, ...], tuple[Document, ...]]:
    documents = _documents(span.retrieval_documents, knife)
    candidates = (
        ("Instructions", span.system_instructions, "", "system"),
        ("Arguments", span.tool_arguments, "", ""),
        ("Input", span.input_messages, span.input, "user"),
        ("Result", span.tool_result, "", ""),
        ("Output", span.output_messages, span.output, "assistant"),
        ("Documents", "" if documents else span.retrieval_documents, "", ""),
    )
    sections: list[Section] = []
    seen: set[str] = set()
    for title, first, second, role in candidates:
        text = first or second
        # A tool's arguments are often recorded as the span's input too.
        if not text or text in seen or (documents and text == span.retrieval_documents):
            continue
        seen.add(text)
        sections.append(knife.section(title, text, role))
    return tuple(sections), documents


def _documents(text: str, knife: "_Knife") -> tuple[Document, ...]:
    try:
        found = json.loads(text) if text and len(text) <= chat.MAX_TEXT else []
    except (ValueError, RecursionError):
        return ()
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        return ()
    return tuple(_document(item, knife) for item in knife.first(found))


def _document(item: dict[str, Any], knife: "_Knife") -> Document:
    # OpenInference nests what OpenTelemetry writes flat.
    inner = item.get("document", item)
    fields = inner if isinstance(inner, dict) else item
    plain = {key.removeprefix("document."): value for key, value in fields.items()}
    score = plain.get("score")
    content = plain.get("content", plain.get("text", ""))
    if not content:
        content = {key: value for key, value in plain.items() if key not in ("id", "score")} or ""
    return Document(
        str(plain.get("id", "")),
        fmt.number(score) if isinstance(score, int | float) else str(score or ""),
        knife.clip(fmt.shown(content)),
    )


class _Knife:
    """Cuts what it is given to the limits, and remembers whether it had to."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.cut = False
        self._left = limits.total

    def clip(self, text: str) -> Clipped:
        clipped = fmt.clip(text, max(min(self.limits.text, self._left), 200))
        self._left -= len(clipped.text)
        self.cut = self.cut or clipped.hidden > 0
        return clipped

    def first(self, items: Sequence[Any]) -> Sequence[Any]:
        self.cut = self.cut or len(items) > self.limits.rows
        return items[: self.limits.rows]

    def table(self, values: Mapping[str, Any]) -> Table:
        shown = self.first(sorted(values.items()))
        fields = tuple(Field(key, fmt.type_name(value), self.clip(fmt.shown(value))) for key, value in shown)
        return Table(fields, len(values) - len(fields))

    def section(self, title: str, text: str, role: str) -> Section:
        said = chat.parse(text, default_role=role) if role else ()
        if not said:
            return Section(title, (), 0, self.clip(fmt.pretty(text)))
        # The newest messages matter most, and get their share of the total first.
        kept = said[-self.limits.messages :]
        shown = [self._message(message) for message in reversed(kept)][::-1]
        self.cut = self.cut or len(said) > len(kept)
        return Section(title, tuple(shown), len(said) - len(kept), Clipped("", 0))

    def _message(self, message: chat.Message) -> ChatMessage:
        parts = self.first(message.parts)
        return ChatMessage(
            message.role,
            tuple(ChatPart(part.kind, part.label, self.clip(fmt.pretty(part.text))) for part in parts),
        )
