"""What is shown of one span, and what is left out of it."""

import json

from support.samples import MS, START_NS, span
from tracestone.collector.ui.detail import PANE, WHOLE, SpanDetail, describe
from tracestone.schema.spans import SpanEvent


def characters(detail: SpanDetail) -> int:
    sections = [section.text for section in detail.sections]
    messages = [part.body for s in detail.sections for message in s.messages for part in message.parts]
    fields = [field.value for field in (*detail.attributes.fields, *detail.resource.fields)]
    documents = [document.content for document in detail.documents]
    return sum(len(clipped.text) for clipped in (*sections, *messages, *fields, *documents))


def test_messages_are_a_chat() -> None:
    detail = describe(span(), START_NS, ())
    assert [section.title for section in detail.sections] == ["Input", "Output"]
    assert detail.sections[1].messages[0].role == "assistant"
    assert detail.sections[1].messages[0].parts[0].body.text == "In Ghent."
    assert not detail.cut


def test_what_is_recorded_twice_is_shown_once() -> None:
    call = span(
        input_messages="",
        output_messages="",
        tool_arguments='{"a": 1}',
        input='{"a": 1}',
        tool_result="ok",
        output="ok",
    )
    assert [section.title for section in describe(call, START_NS, ()).sections] == ["Arguments", "Result"]


def test_documents_of_both_conventions() -> None:
    found = [
        {"id": "help/1", "score": 0.91, "content": "thirty days"},
        {"document": {"document.id": 7, "document.content": "ten days"}},
        {"id": "x", "metadata": {"page": 3}},
    ]
    detail = describe(span(retrieval_documents=json.dumps(found)), START_NS, ())
    assert [(d.id, d.score, d.content.text) for d in detail.documents[:2]] == [
        ("help/1", "0.91", "thirty days"),
        ("7", "", "ten days"),
    ]
    assert "page" in detail.documents[2].content.text


def test_documents_that_are_no_list_are_shown_as_text() -> None:
    detail = describe(span(retrieval_documents="three passages"), START_NS, ())
    assert detail.sections[-1].title == "Documents" and detail.sections[-1].text.text == "three passages"


def test_a_pane_is_bounded_however_big_the_span() -> None:
    history = [{"role": "user", "content": "y" * 10_000} for _ in range(500)]
    attributes = {f"key.{number}": "z" * 10_000 for number in range(1_000)}
    big = span(input_messages=json.dumps(history), output_messages="x" * 5_000_000, attributes=attributes)
    detail = describe(big, START_NS, ())
    assert detail.cut
    assert len(detail.sections[0].messages) == PANE.messages
    assert detail.sections[0].left_out == 500 - PANE.messages
    assert len(detail.attributes.fields) == PANE.rows and detail.attributes.left_out == 1_000 - PANE.rows
    assert characters(detail) < 2 * PANE.total
    whole = describe(big, START_NS, (), whole=True)
    assert characters(whole) < 2 * WHOLE.total and len(whole.sections[0].messages) == 500


def test_the_newest_messages_are_kept() -> None:
    history = [{"role": "user", "content": f"question {number}"} for number in range(100)]
    section = describe(span(input_messages=json.dumps(history)), START_NS, ()).sections[0]
    assert section.messages[-1].parts[0].body.text == "question 99"


def test_events_are_placed_after_the_start() -> None:
    event = SpanEvent(START_NS + 12 * MS, "exception", {"exception.type": "TimeoutError"})
    detail = describe(span(events=(event,)), START_NS - 3 * MS, ())
    assert detail.offset_ns == 3 * MS
    assert detail.events[0].offset_ns == 12 * MS
    assert detail.events[0].table.fields[0].value.text == "TimeoutError"
