"""Heuristics that read how a target ran: percentiles, tokens, cost, tools, retrieval."""

from typing import Any

import pytest

from support.heuristics import as_json, failure, find, talk
from support.traces import span, trace
from tracestone.schema.spans import Span
from tracestone.schema.traces import Trace
from tracestone.scoring.scorers.subject import subject_of, subject_of_session, subject_of_span

TEN = trace(
    *(span(n, span_type="llm" if n % 2 else "tool", name=f"s{n % 3}", duration_ns=n * 1_000_000) for n in range(1, 11)),
    span(11, span_type="llm", duration_ns=0, in_progress=True),
)


@pytest.mark.parametrize(
    ("parameters", "value"),
    [
        ({"percentile": 50, "max_ms": 5}, True),
        ({"percentile": 50, "max_ms": 4.9}, False),
        ({"percentile": 90, "max_ms": 9}, True),
        ({"percentile": 90, "max_ms": 8.9}, False),
        ({"percentile": 100, "max_ms": 9.9}, False),
        ({"percentile": 100, "max_ms": 9, "span_type": "llm"}, True),
        ({"percentile": 100, "max_ms": 6, "span_type": "tool", "span_name": "s0"}, True),
        ({"percentile": 1, "max_ms": 1}, True),
    ],
)
def test_latency_of_a_percentile_of_spans(parameters: dict[str, Any], value: bool) -> None:
    assert find("latency", parameters, TEN).value is value


def test_latency_of_spans_that_are_not_there() -> None:
    assert failure("latency", {"percentile": 50, "max_ms": 1, "span_type": "agent"}, TEN) == "NO_SPANS"
    assert failure("latency", {"percentile": 50, "max_ms": 1}, trace(span(1, in_progress=True))) == "NO_SPANS"


def test_latency_of_a_span_and_of_a_session() -> None:
    one = span(1, duration_ns=3_000_000)
    assert find("latency", {"max_ms": 3}, subject_of_span(trace(one), one)).value is True
    assert find("latency", {"max_ms": 2}, subject_of_span(trace(one), one)).value is False
    assert find("latency", {"max_ms": 1000}, talk("a", "b")).value is True
    assert find("latency", {"max_ms": 999}, talk("a", "b")).value is False


USED = trace(span(1), total_tokens=120, input_tokens=100, output_tokens=20, cost_total=0.0125)
UNKNOWN = trace(span(1))


@pytest.mark.parametrize(
    ("kind", "parameters", "value"),
    [
        ("tokens", {}, 120),
        ("tokens", {"count": "input"}, 100),
        ("tokens", {"maximum": 120}, True),
        ("tokens", {"maximum": 119}, False),
        ("tokens", {"count": "output", "minimum": 21}, False),
        ("cost", {}, 0.0125),
        ("cost", {"maximum": 0.0125}, True),
        ("cost", {"maximum": 0.01}, False),
    ],
)
def test_tokens_and_cost(kind: str, parameters: dict[str, Any], value: float | bool) -> None:
    finding = find(kind, parameters, USED)
    assert finding.value == value
    assert isinstance(finding.value, bool) is isinstance(value, bool)


def test_unknown_tokens_and_cost_are_errors_and_not_zero() -> None:
    assert failure("tokens", {"maximum": 10}, UNKNOWN) == "NO_USAGE"
    assert failure("cost", {"maximum": 10}, UNKNOWN) == "NO_COST"
    part = subject_of_session("s", [USED, UNKNOWN, USED])
    assert find("tokens", {}, part).value == 240
    assert find("cost", {}, part).value == pytest.approx(0.025)
    one = span(1, total_tokens=7)
    assert find("tokens", {}, subject_of_span(USED, one)).value == 7
    assert failure("cost", {}, subject_of_span(USED, one)) == "NO_COST"


def call(number: int, name: str, arguments: Any, **fields: Any) -> Span:
    text = arguments if isinstance(arguments, str) else as_json(arguments)
    return span(number, 99, span_type="tool", tool_name=name, tool_arguments=text, **fields)


LOOP = trace(
    call(1, "search", {"q": "shoes", "n": 1}),
    call(2, "search", '{"n": 1,  "q": "shoes"}'),
    call(3, "read", {"id": 4}),
    call(4, "search", {"q": "shoes", "n": 1}),
    span(5, span_type="llm"),
)
NO_LOOP = trace(*(call(n, "search", {"q": n}) for n in range(1, 30)), *(call(n, "read", "") for n in (30, 31)))


@pytest.mark.parametrize(
    ("of", "parameters", "value"),
    [
        (LOOP, {}, True),
        (LOOP, {"max_repeats": 3}, False),
        (LOOP, {"consecutive": True}, False),
        (LOOP, {"consecutive": True, "max_repeats": 1}, True),
        (NO_LOOP, {}, False),
        (trace(span(1)), {}, False),
        (trace(call(1, "", "[" * 100_000), call(2, "", "[" * 100_000)), {"max_repeats": 1}, False),
        (trace(call(1, "t", "[" * 100_000), call(2, "t", "[" * 100_000)), {"max_repeats": 1}, True),
        (trace(call(1, "建議", "靴"), call(2, "建議", "靴")), {"max_repeats": 1}, True),
    ],
)
def test_tool_loop(of: Trace, parameters: dict[str, Any], value: bool) -> None:
    finding = find("tool_loop", parameters, of)
    assert finding.value is value
    assert len(finding.rationale) < 500


def test_a_tool_loop_over_the_turns_of_a_session() -> None:
    turns = [trace(call(1, "search", {"q": "shoes"})) for _ in range(3)]
    assert find("tool_loop", {}, subject_of_session("s", turns)).value is True
    assert find("tool_loop", {}, subject_of(turns[0])).value is False


def retrieved(*texts: str, **fields: Any) -> Trace:
    return trace(
        *(span(n, span_type="retriever", retrieval_documents=text, **fields) for n, text in enumerate(texts, 1))
    )


DOCUMENTS = as_json([{"content": "a"}, {"content": "b"}])


@pytest.mark.parametrize(
    ("of", "parameters", "value"),
    [
        (retrieved(DOCUMENTS), {}, False),
        (retrieved(DOCUMENTS), {"min_documents": 3}, True),
        (retrieved(DOCUMENTS, "[]"), {}, True),
        (retrieved("[{}, null]"), {}, True),
        (retrieved("null"), {}, True),
        (retrieved('{"documents": []}'), {}, True),
        (retrieved('{"documents": [{"content": "靴"}]}'), {}, False),
        (retrieved("plain text, no JSON"), {}, False),
        (retrieved("", output=DOCUMENTS), {}, False),
        (retrieved("", DOCUMENTS), {}, False),
        (retrieved("[" * 100_000), {}, False),
    ],
)
def test_empty_retrieval(of: Trace, parameters: dict[str, Any], value: bool) -> None:
    assert find("empty_retrieval", parameters, of).value is value


def test_a_retrieval_that_tells_nothing_is_no_empty_one() -> None:
    assert failure("empty_retrieval", {}, retrieved("", " ")) == "NO_DOCUMENTS"
    assert failure("empty_retrieval", {}, trace(span(1, output=DOCUMENTS))) == "NO_SPANS"
