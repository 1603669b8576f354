"""What the metrics of other libraries read of a target. Pure."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from tracestone.schema.scorers.third_party import Need
from tracestone.schema.spans import Span
from tracestone.scoring.scorers.heuristics.reading import nothing, text_of
from tracestone.scoring.scorers.protocol import Subject

EXPECTED_RESPONSE = "expected_response"
_CONTENT_KEYS = ("content", "page_content", "text", "document")


@dataclass(frozen=True)
class ToolCall:
    """A call of a tool."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Case:
    """The texts, what retrievers found, calls of tools, and (user, assistant) turns of a session."""

    input: str = ""
    output: str = ""
    reference: str = ""
    contexts: tuple[str, ...] = ()
    tools: tuple[ToolCall, ...] = ()
    turns: tuple[tuple[str, str], ...] = ()

    @property
    def transcript(self) -> str:
        """The turns as lines."""
        return "\n".join(f"User: {said}\nAssistant: {answered}" for said, answered in self.turns)


def case_of(subject: Subject, needs: Collection[Need]) -> Case:
    """The case, with what is needed. Raises AttemptFailed when something of it is not there."""
    return Case(
        input=text_of(subject, "input") if "input" in needs else subject.inputs,
        output=text_of(subject) if "output" in needs else subject.outputs,
        reference=_reference(subject) if "reference" in needs else "",
        contexts=_contexts(subject) if "contexts" in needs else (),
        tools=_tools(subject) if "tools" in needs else (),
        turns=_turns(subject) if "conversation" in needs else (),
    )


def _reference(subject: Subject) -> str:
    found = subject.expectations.get(EXPECTED_RESPONSE)
    text = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)
    if found is None or not text.strip():
        raise nothing("NO_EXPECTATION", f"the {subject.target_type} has no expectation {EXPECTED_RESPONSE}")
    return text


def _tools(subject: Subject) -> tuple[ToolCall, ...]:
    spans = sorted(subject.spans, key=lambda span: (span.start_time_ns, span.span_id))
    found = tuple(
        ToolCall(span.tool_name or span.name, _arguments(span.tool_arguments or span.input))
        for span in spans
        if span.span_type == "tool"
    )
    if not found:
        raise nothing("NO_SPANS", f"the {subject.target_type} has no span of a tool")
    return found


def _contexts(subject: Subject) -> tuple[str, ...]:
    retrievals = [span for span in subject.spans if span.span_type == "retriever"]
    if not retrievals:
        raise nothing("NO_SPANS", f"the {subject.target_type} has no span of a retriever")
    found = tuple(text for span in retrievals for text in _documents(span))
    if not found:
        raise nothing("NO_DOCUMENTS", "no span of a retriever tells what was found")
    return found


def _documents(span: Span) -> list[str]:
    text = span.retrieval_documents or span.output
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return [text] if text.strip() else []
    if isinstance(found, dict):
        found = found.get("documents", [found])
    items = found if isinstance(found, list) else [found]
    return [content for item in items if (content := _content(item))]


def _content(item: Any) -> str:
    if isinstance(item, dict):
        item = next((item[key] for key in _CONTENT_KEYS if isinstance(item.get(key), str)), item)
    return item if isinstance(item, str) else json.dumps(item, ensure_ascii=False) if item else ""


def _arguments(text: str) -> dict[str, Any]:
    if not text.strip():
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {"input": text}
    return found if isinstance(found, dict) else {"input": found}


def _turns(subject: Subject) -> tuple[tuple[str, str], ...]:
    turns = tuple((turn.inputs, turn.outputs) for turn in subject.turns if turn.inputs or turn.outputs)
    if not turns:
        raise nothing("NO_OUTPUT", "the session has no recorded input or output")
    return turns
