"""Whether an expectation and a recording agree: each fact must occur in its span, an absent one must not."""

from typing import Any

from producers.evidence import Evidence, evidence
from producers.facts import Facts, atoms

# How the dialects say that an answer was complete, and that it asks for a tool.
_FINISH = {
    "stop": {"stop", "end_turn", "completed"},
    "tool_calls": {"tool_calls", "tool_call", "tool-calls", "tool_use"},
}


def problems(requests: list[dict[str, Any]], facts: Facts) -> list[str]:
    """Where the expectation and the recording disagree."""
    found = [f"span {span['name']!r} has no type" for span in facts["spans"] if span["span_type"] is None]
    seen = [call["span_id"] for call in facts["calls"] if call["span_id"]]
    found += [f"two calls are linked to span {one}" for one in sorted(set(seen)) if seen.count(one) > 1]
    for call in facts["calls"]:
        name = f"{call['scenario']} ({call['api']})"
        if call["span_id"] is None:
            found += [] if "span_id" in call["absent"] else [f"{name}: no span"]
            continue
        here = evidence(requests, {call["span_id"]})
        trace = evidence(requests, {span["span_id"] for span in facts["spans"] if span["trace_id"] == call["trace_id"]})
        for field, fact in atoms({**call, **call["told"]}):
            where = trace if field in ("session_id", "user_id") else here
            found += _disagree(f"{name}: {field}", _present(where, field, fact, call), field in call["absent"])
        for field in call["told"]:
            if isinstance(call[field], int) and not here.has(call[field]):
                found.append(f"{name}: {field} does not say {call[field]}")
    for kind in ("tools", "retrievals"):
        for one in facts[kind]:
            here = evidence(requests, {one["span_id"]})
            for field, fact in atoms({**one, **one["told"]}):
                found += _disagree(f"{kind}: {field}", _present(here, field, fact, one), field in one["absent"])
    return found


def _disagree(name: str, present: bool, absent: bool) -> list[str]:
    if present == absent:
        return [f"{name} is {'there but said to be absent' if present else 'not in the recording'}"]
    return []


def _present(where: Evidence, field: str, fact: Any, one: Facts) -> bool:
    told = {**one, **one["told"]}
    if field == "finish":
        return where.names(_FINISH[fact] | {told["finish_reason"].lower()})
    if field in ("input_tokens", "output_tokens") and "cache_read_tokens" in told:
        # Some producers leave the parts out of the whole.
        parts = [told["cache_read_tokens"] + (told["cache_write_tokens"] or 0), told["cache_read_tokens"]]
        less = [0, *parts] if field == "input_tokens" else [0, told["reasoning_tokens"] or 0]
        return any(where.has(fact - one) for one in less)
    return where.has(fact)
