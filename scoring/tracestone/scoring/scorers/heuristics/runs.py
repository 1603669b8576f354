"""Heuristics that read how a target ran: time, tokens, cost, errors, tools, retrieval. Pure."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from tracestone.schema.scorers.runs import Cost, EmptyRetrieval, ErrorFree, Latency, Tokens, ToolLoop
from tracestone.schema.spans import Span
from tracestone.scoring.scorers.heuristics.reading import measured, nothing, shown
from tracestone.scoring.scorers.protocol import Finding, Subject


def latency(parameters: Latency, subject: Subject) -> Finding:
    """True when it took at most `max_ms`, or a percentile of its spans did."""
    if parameters.percentile is not None:
        return _span_latency(parameters, parameters.percentile, subject)
    took_ms = subject.duration_ns / 1e6
    return Finding(
        took_ms <= parameters.max_ms,
        f"The {subject.target_type} took {took_ms:.1f} ms; at most {parameters.max_ms:g} ms are allowed.",
    )


def tokens(parameters: Tokens, subject: Subject) -> Finding:
    """How many tokens were used, or whether that is within bounds."""
    name = f"{parameters.count}_tokens"
    known = [number for number in _told(subject, name) if number is not None]
    if not known:
        raise nothing("NO_USAGE", f"the {subject.target_type} has no recorded {parameters.count} tokens")
    used = int(sum(known))
    return measured(parameters, used, f"The {subject.target_type} used {used} {parameters.count} tokens")


def cost(parameters: Cost, subject: Subject) -> Finding:
    """What it cost in USD, or whether that is within bounds."""
    known = [number for number in _told(subject, "cost_total") if number is not None]
    if not known:
        raise nothing("NO_COST", f"the cost of the {subject.target_type} is not known")
    usd = math.fsum(known)
    return measured(parameters, usd, f"The {subject.target_type} cost {usd:.6g} USD")


def error(parameters: ErrorFree, subject: Subject) -> Finding:
    """True when the target, or any span of it, ended in an error."""
    del parameters
    infos = [turn.trace.info for turn in subject.turns]
    if subject.span is not None:
        spans, failures = 1, int(subject.span.status_code == "ERROR")
    else:
        spans, failures = sum(info.span_count for info in infos), sum(info.error_count for info in infos)
        failures = failures or int(any(info.state == "ERROR" for info in infos))
    if not failures:
        return Finding(False, "No span ended in an error.")
    failed = next((span for span in subject.spans if span.status_code == "ERROR"), None)
    if failed is None:
        return Finding(True, f"The {subject.target_type} ended in an error.")
    reason = failed.error_type or failed.status_message or "no reason given"
    return Finding(
        True,
        f"{failures} of {spans} spans ended in an error; the first was {failed.name}: {reason}"[:500],
    )


def tool_loop(parameters: ToolLoop, subject: Subject) -> Finding:
    """True when a tool was called with the same arguments too often."""
    calls = [_call(span) for span in _in_order(subject.spans) if span.span_type == "tool"]
    if not calls:
        return Finding(False, "No tool was called.")
    (name, arguments), times = max(_repeated(calls, parameters.consecutive), key=lambda item: item[1])
    looped = times > parameters.max_repeats
    row = " in a row" if parameters.consecutive else ""
    called = f"{shown(name)} was called {times} times{row} with {shown(arguments) if arguments else 'no arguments'}"
    return Finding(looped, f"{called}; at most {parameters.max_repeats} is wanted.")


def empty_retrieval(parameters: EmptyRetrieval, subject: Subject) -> Finding:
    """True when a retrieval found too few documents."""
    retrievals = [span for span in subject.spans if span.span_type == "retriever"]
    if not retrievals:
        raise nothing("NO_SPANS", f"the {subject.target_type} has no span of a retriever")
    counts = [_documents(span.retrieval_documents or span.output) for span in retrievals]
    known = [count for count in counts if count is not None]
    if not known:
        raise nothing("NO_DOCUMENTS", "no span of a retriever tells what was found")
    least = min(known)
    span = next(span for span, count in zip(retrievals, counts, strict=True) if count == least)
    found = f"{shown(span.name)} found {least} documents" if least else f"{shown(span.name)} found nothing"
    return Finding(least < parameters.min_documents, f"{found}; at least {parameters.min_documents} is wanted.")


def _span_latency(parameters: Latency, percentile: float, subject: Subject) -> Finding:
    took = sorted(
        span.duration_ns
        for span in subject.spans
        if not span.in_progress
        and parameters.span_type in ("", span.span_type)
        and parameters.span_name in ("", span.name)
    )
    if not took:
        raise nothing("NO_SPANS", f"the {subject.target_type} has no such span that has ended")
    # The nearest rank: a duration that occurred, also of few spans.
    took_ms = took[max(0, math.ceil(percentile / 100 * len(took)) - 1)] / 1e6
    return Finding(
        took_ms <= parameters.max_ms,
        f"The {percentile:g}th percentile of {len(took)} spans is {took_ms:.1f} ms; "
        f"at most {parameters.max_ms:g} ms are allowed.",
    )


def _told(subject: Subject, name: str) -> list[Any]:
    if subject.span is not None:
        return [getattr(subject.span, name)]
    return [getattr(turn.trace.info, name) for turn in subject.turns]


def _in_order(spans: Iterable[Span]) -> list[Span]:
    return sorted(spans, key=lambda span: (span.start_time_ns, span.span_id))


def _call(span: Span) -> tuple[str, str]:
    """The tool and its arguments, in one form however their JSON is written."""
    text = (span.tool_arguments or span.input).strip()
    try:
        text = json.dumps(json.loads(text), sort_keys=True, ensure_ascii=False)
    except (ValueError, RecursionError):
        pass
    return span.tool_name or span.name, text


def _repeated(calls: Sequence[tuple[str, str]], consecutive: bool) -> list[tuple[tuple[str, str], int]]:
    if consecutive:
        return [(call, len(list(group))) for call, group in groupby(calls)]
    return list(Counter(calls).items())


def _documents(text: str) -> int | None:
    """How many documents a text holds; None when there is no text."""
    if not text.strip():
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return 1
    if isinstance(found, dict):
        found = next(
            (found[key] for key in ("documents", "results", "matches") if key in found), [found] if found else []
        )
    if isinstance(found, list):
        return len([item for item in found if item])
    return int(bool(found))
