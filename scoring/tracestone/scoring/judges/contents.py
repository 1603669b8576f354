"""What a judge is shown of a subject, by the name of the variable that stands for it. Pure.

What a judge needs and the target does not have is an error with a code, never a verdict on nothing: `NO_EXPECTATION`,
`NO_RETRIEVAL`, `NO_TOOL_CALLS`.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

from tracestone.schema.spans import Span
from tracestone.scoring.scorers.protocol import AttemptFailed, Subject

_SPAN_CHARACTERS = 4000
_NAME_CHARACTERS = 200
_TEXTS = ("inputs", "outputs")


def content(subject: Subject, name: str, limit: int) -> str:
    """The text that a variable stands for, in about `limit` characters; "" when nothing was recorded.

    Raises AttemptFailed when the judge cannot judge without it.
    """
    if name in _TEXTS:
        return shorten(subject.inputs if name == "inputs" else subject.outputs, limit)
    return shorten(_RENDERERS[name](subject, limit), limit)


def shorten(text: str, limit: int) -> str:
    """At most about `limit` characters: the head and the tail, with a mark that says how much is left out."""
    if len(text) <= limit:
        return text
    head = limit * 2 // 3
    tail = limit - head
    return f"{text[:head]}\n[... {len(text) - limit} characters left out ...]\n{text[-tail:]}"


def trace(subject: Subject, limit: int) -> str:
    """The spans as an indented list with their content, in about `limit` characters."""
    spans = subject.spans
    depth = _depths(spans)
    each = max(200, min(_SPAN_CHARACTERS, limit // max(1, len(spans))))
    return shorten("\n".join(_told(span, depth[span.span_id], each) for span in spans), limit)


def length_of_trace(subject: Subject) -> int:
    """How many characters its spans' contents have, none left out."""
    return sum(_NAME_CHARACTERS + sum(len(text) for _, text in contents_of(span)) for span in subject.spans)


def span(subject: Subject, limit: int) -> str:
    """One span with its content and its attributes."""
    if subject.span is None:
        raise AttemptFailed("NO_SPAN", f"a {subject.target_type} is no span", retryable=False)
    told = _told(subject.span, 0, limit)
    attributes = json.dumps(subject.span.attributes, ensure_ascii=False, default=str, sort_keys=True)
    return f"{told}\n    attributes: {shorten(attributes, max(200, limit // 4))}"


def conversation(subject: Subject, limit: int) -> str:
    """The turns in order, each with what the user said and what was answered; the earliest give way to the limit."""
    each = max(200, limit // max(1, len(subject.turns)))
    turns = []
    for number, turn in enumerate(subject.turns, subject.omitted + 1):
        said = shorten(turn.inputs, each // 2) or "(nothing recorded)"
        answered = shorten(turn.outputs, each // 2) or "(nothing recorded)"
        turns.append(f"Turn {number}\nUser: {said}\nAssistant: {answered}")
    if subject.omitted:
        turns.insert(0, f"[... the first {subject.omitted} turns are left out ...]")
    return "\n\n".join(turns)


def expectations(subject: Subject, limit: int) -> str:
    """What people expect, as JSON."""
    del limit
    if not subject.expectations:
        raise _missing("NO_EXPECTATION", subject, "expectations")
    return json.dumps(dict(subject.expectations), ensure_ascii=False, indent=1, default=str)


def retrieved(subject: Subject, limit: int) -> str:
    """The documents that were retrieved, numbered through."""
    documents = documents_of(subject)
    each = max(200, limit // len(documents))
    return "\n\n".join(f"Document {number}\n{shorten(text, each)}" for number, text in enumerate(documents, 1))


def tool_calls(subject: Subject, limit: int) -> str:
    """The calls of tools in order of time, each with its arguments and its result."""
    spans = tool_spans(subject)
    if not spans:
        raise _missing("NO_TOOL_CALLS", subject, "calls of tools")
    each = max(200, limit // len(spans))
    lines = []
    for number, one in enumerate(spans, 1):
        result = one.tool_result or one.output
        if one.status_code == "ERROR":
            result = f"ERROR {one.error_type or one.status_message} {result}".strip()
        arguments = one.tool_arguments or one.input
        lines.append(
            f"{number}. {shorten(one.tool_name or one.name, _NAME_CHARACTERS)}({shorten(arguments, each // 2)})"
            f"\n   returned: {shorten(result, each // 2) or '(nothing recorded)'}"
        )
    return "\n".join(lines)


def tool_spans(subject: Subject) -> list[Span]:
    """The spans that are calls of tools, in order of time."""
    found = [span for span in subject.spans if span.span_type == "tool" or span.operation == "execute_tool"]
    return sorted(found, key=lambda span: span.start_time_ns)


def system_instructions(subject: Subject, limit: int) -> str:
    """What the application told its models to be, each text once; "" when it told nothing."""
    del limit
    return "\n\n".join(dict.fromkeys(span.system_instructions for span in subject.spans if span.system_instructions))


def available_tools(subject: Subject, limit: int) -> str:
    """The tools that the models were offered, as the application told them; "" when it told none."""
    del limit
    told = [
        str(text)
        for span in subject.spans
        for key in _TOOL_DEFINITIONS
        if (text := span.attributes.get(key)) not in (None, "")
    ]
    return "\n".join(dict.fromkeys(told))


def expectation(*names: str) -> Callable[[Subject, int], str]:
    """Renders the first of these expectations that there is."""

    def render(subject: Subject, limit: int) -> str:
        del limit
        for name in names:
            found = subject.expectations.get(name)
            if found not in (None, "", [], {}):
                return _listed(found)
        raise _missing("NO_EXPECTATION", subject, f"expectation {' or '.join(names)}")

    return render


def documents_of(subject: Subject) -> list[str]:
    """The texts of all documents that retrievers returned. Raises AttemptFailed when there are none."""
    found: list[str] = []
    for one in subject.spans:
        if one.retrieval_documents or one.span_type == "retriever":
            found += _documents(one.retrieval_documents or one.output)
    if not found:
        raise _missing("NO_RETRIEVAL", subject, "retrieved documents")
    return found


def contents_of(span: Span) -> list[tuple[str, str]]:
    """The texts of a span, each with what it is."""
    found = [
        ("input", span.input or span.input_messages or span.tool_arguments),
        ("retrieved", span.retrieval_documents),
        ("output", span.output or span.output_messages or span.tool_result),
    ]
    return [(label, text) for label, text in found if text]


def headline(span: Span) -> str:
    """A span in a line: its name, its kind, its duration, its error."""
    state = f" ERROR {span.error_type or span.status_message}".rstrip() if span.status_code == "ERROR" else ""
    kind = span.span_type or span.operation or span.kind
    return f"{shorten(span.name, _NAME_CHARACTERS)} [{kind}] {span.duration_ns / 1e6:.0f} ms{shorten(state, 300)}"


def _told(span: Span, depth: int, each: int) -> str:
    indent = "  " * min(depth, 20)
    lines = [f"{indent}- {headline(span)}"]
    lines += [f"{indent}    {label}: {shorten(text, each)}" for label, text in contents_of(span)]
    return "\n".join(lines)


def _documents(text: str) -> list[str]:
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        return [text] if text else []
    items = parsed if isinstance(parsed, list) else [parsed]
    return [written for item in items if (written := _document(item))]


def _document(item: Any) -> str:
    if isinstance(item, dict):
        for key in ("content", "page_content", "text", "document"):
            if isinstance(item.get(key), str):
                return str(item[key])
            if isinstance(item.get(key), dict):
                return _document(item[key])
    return item if isinstance(item, str) else json.dumps(item, ensure_ascii=False)


def _listed(value: Any) -> str:
    if isinstance(value, str):
        return value
    items = value if isinstance(value, list) else [value]
    return "\n".join(
        f"- {item if isinstance(item, str) else json.dumps(item, ensure_ascii=False, default=str)}" for item in items
    )


def _missing(code: str, subject: Subject, what: str) -> AttemptFailed:
    return AttemptFailed(code, f"the {subject.target_type} has no {what}", retryable=False)


def _depths(spans: Sequence[Span]) -> dict[str, int]:
    parents = {span.span_id: span.parent_span_id for span in spans}
    depths: dict[str, int] = {}
    for span_id in parents:
        path: list[str] = []
        at = span_id
        while at in parents and at not in depths and at not in path:
            path.append(at)
            at = parents[at]
        above = depths.get(at, -1)
        for step in reversed(path):
            above += 1
            depths[step] = above
    return depths


_TOOL_DEFINITIONS = ("gen_ai.tool.definitions", "llm.tools", "gen_ai.request.tools", "mlflow.chat.tools")
_RENDERERS: dict[str, Callable[[Subject, int], str]] = {
    "trace": trace,
    "span": span,
    "conversation": conversation,
    "expectations": expectations,
    "retrieved": retrieved,
    "tool_calls": tool_calls,
    "available_tools": available_tools,
    "system_instructions": system_instructions,
    "expected_response": expectation("expected_response", "expected_facts"),
    "expected_guidelines": expectation("guidelines"),
    "expected_tool_calls": expectation("expected_tool_calls"),
}
