"""The facts that a recording must be read as: what the provider was asked and answered, less what was not sent.

`producer.toml` says what a producer does not send, and why:

    [[absent]]
    fields = ["cache_*_tokens"]   # of a call; or input_messages.system, output_messages.reasoning, …
    on = "call"                   # or tool, retriever, then `spans` may name which
    scenarios = ["cached"]        # all, unless given; so are `apis` and `variants`
    streamed = true               # either, unless given
    occurrences = [1]             # the first call of its scenario and API; all, unless given
    reason = "…"
    says = 48                     # in place of what is true, when the producer says something else

A call without a rule stands as the provider knows it. Where a rule fits, the field is null (or what `says` says),
`absent` has the reason, and `told` what the provider knows.

and which spans there are, `types = [["chat *", "llm"], …]`: the first pattern that fits a span's name tells its type; a
third entry, `KEY=VALUE`, asks for an attribute as well.
Where several libraries tell of the same call, `call_scope` is the scope of the one that was meant to.
`problems` compares both with the recording: a fact must occur in its span, a fact said to be absent must not.
"""

from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

from producers.evidence import Evidence, evidence, spans
from support.provider.script import STORY
from support.provider.server import Call

_MODEL_CALLS = ("llm", "embedding")
_ERRORS = {400: "BadRequestError", 429: "RateLimitError", 500: "InternalServerError"}
_SHORTLY_NS = 2_000_000_000
# How the dialects say that an answer was complete, and that it asks for a tool.
_FINISH = {
    "stop": {"stop", "end_turn", "completed"},
    "tool_calls": {"tool_calls", "tool_call", "tool-calls", "tool_use"},
}
_NO_FACTS = {
    "scenario",
    "api",
    "streamed",
    "trace_id",
    "span_id",
    "also",
    "absent",
    "told",
    "provider",
    "finish_reason",
}
Facts = dict[str, Any]


def expected(requests: list[dict[str, Any]], calls: list[Call], described: Facts, variant: str) -> Facts:
    """The whole expectation of a recording."""
    rules = [rule for rule in described.get("absent", []) if variant in rule.get("variants", [variant])]
    # A span may be sent more than once; the last time tells how it ended.
    known = {span["spanId"]: span for span in spans(requests)}
    tree = [_span(span, described) for span in known.values()]
    seen: Counter[tuple[str, str]] = Counter()
    said = []
    for call in calls:
        kind = (call.facts["scenario"], call.facts["api"])
        seen[kind] += 1
        said.append(
            _call(call, known, described, [r for r in rules if seen[kind] in r.get("occurrences", [seen[kind]])])
        )
    return {
        "calls": said,
        "tools": [_tool(span, rules) for span in tree if span["span_type"] == "tool"],
        "retrievals": [_retrieval(span, rules) for span in tree if span["span_type"] == "retriever"],
        "traces": _traces(tree, said),
        "spans": tree,
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
        for field, fact in _atoms({**call, **call["told"]}):
            where = trace if field in ("session_id", "user_id") else here
            found += _disagree(f"{name}: {field}", _present(where, field, fact, call), field in call["absent"])
        for field in call["told"]:
            if isinstance(call[field], int) and not here.has(call[field]):
                found.append(f"{name}: {field} does not say {call[field]}")
    for kind in ("tools", "retrievals"):
        for one in facts[kind]:
            here = evidence(requests, {one["span_id"]})
            for field, fact in _atoms({**one, **one["told"]}):
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


def _atoms(told: Facts) -> Iterator[tuple[str, Any]]:
    """The single facts that must be found, with the field that an `absent` rule names."""
    for field, value in told.items():
        if field in _NO_FACTS:
            continue
        match field:
            case "input_messages" | "output_messages":
                for message in value or []:
                    for part in message["parts"]:
                        yield _field(field, message, part), _fact(part)
            case "texts" | "documents":
                yield from ((field, text) for text in value)
            case "tool_definitions":
                yield from ((field, name) for name in value)
            case "error":
                yield "error.message", value["message"]
            case _ if value in (None, 0):
                pass  # a provider's 0 may be left out
            case _:
                yield field, value


def _field(field: str, message: Facts, part: Facts) -> str:
    is_system = message["role"] in ("system", "developer")
    return f"{field}.{'system' if is_system else part['type']}"


def _fact(part: Facts) -> Any:
    return {"tool_call": part.get("arguments"), "tool_result": part.get("result")}.get(part["type"], part.get("text"))


def _call(call: Call, known: dict[str, Facts], described: Facts, rules: list[Facts]) -> Facts:
    facts = dict(call.facts)
    head = {field: facts.pop(field) for field in ("scenario", "api")}
    streamed = facts.pop("stream", False)
    if "output_messages" in facts:
        parts = facts["output_messages"][0]["parts"]
        facts["finish"] = "tool_calls" if any(part["type"] == "tool_call" for part in parts) else "stop"
    if "tools" in facts:
        facts["tool_definitions"] = facts.pop("tools")
    if "error" in facts:
        facts["error_type"] = described.get("error_types", {}).get(
            str(facts["error"]["status"]), _ERRORS[facts["error"]["status"]]
        )
    if head["scenario"] in described.get("session_scenarios", ["conversation"]):
        facts |= {"session_id": STORY["session"], "user_id": STORY["user"]}
    mine = [
        rule
        for rule in rules
        if rule.get("on", "call") == "call"
        and head["scenario"] in rule.get("scenarios", [head["scenario"]])
        and head["api"] in rule.get("apis", [head["api"]])
        and streamed == rule.get("streamed", streamed)
    ]
    around = _around(call, known, described)
    scope = described.get("call_scope", "*")
    span = next((span for span in around if fnmatchcase(span["scope"], scope)), None)
    if any("span_id" in rule["fields"] for rule in mine):
        span = None
    where = {
        "trace_id": span["traceId"] if span else None,
        "span_id": span["spanId"] if span else None,
        "also": [_at(_span(other, described)) for other in around if other is not span],
    }
    return {**head, "streamed": streamed, **where, **_less(facts, mine)}


def _around(call: Call, known: dict[str, Facts], described: Facts) -> list[Facts]:
    """The spans of a model call that were open when the request came in, the innermost first."""
    around = [
        span
        for span in known.values()
        if _span(span, described)["span_type"] in _MODEL_CALLS
        and int(span["startTimeUnixNano"]) <= call.began_ns <= int(span.get("endTimeUnixNano", 0))
    ]
    # Where a producer ends a stream's span before it is read, the request comes shortly after.
    around = around or [
        span
        for span in known.values()
        if span["name"] in described.get("ends_early", [])
        and 0 <= call.began_ns - int(span["endTimeUnixNano"]) <= _SHORTLY_NS
    ]
    return sorted(around, key=lambda span: int(span["startTimeUnixNano"]), reverse=True)


def _less(facts: Facts, rules: list[Facts]) -> Facts:
    """The facts without those that a rule says are absent; `told` keeps them all."""
    reasons: dict[str, str] = {}
    for field, _ in _atoms(facts):
        rule = next((rule for rule in rules if any(fnmatchcase(field, one) for one in rule["fields"])), None)
        if rule is not None:
            reasons[field] = rule["reason"]
    for rule in rules:
        if "span_id" in rule["fields"]:
            reasons["span_id"] = rule["reason"]
    if "finish" in reasons:
        reasons["finish_reason"] = reasons["finish"]
    left = {field: _left(field, value, reasons) for field, value in facts.items()}
    for rule in rules:
        if "says" in rule:
            left |= dict.fromkeys(set(rule["fields"]) & set(left), rule["says"])
    return {**left, "absent": reasons, "told": {field: value for field, value in facts.items() if left[field] != value}}


def _left(field: str, value: Any, reasons: dict[str, str]) -> Any:
    if field in reasons:
        return None
    if field in ("input_messages", "output_messages"):
        kept = [
            {**message, "parts": parts}
            for message in value or []
            if (parts := [part for part in message["parts"] if _field(field, message, part) not in reasons])
        ]
        return kept or None
    if field == "error" and "error.message" in reasons:
        return {**value, "message": None}
    return value


def _span(span: Facts, described: Facts) -> Facts:
    types = (kind for pattern, kind, *sign in described["types"] if _fits(span, pattern, sign))
    return {
        "trace_id": span["traceId"],
        "span_id": span["spanId"],
        "parent_span_id": span.get("parentSpanId", ""),
        "name": span["name"],
        "span_type": next(types, None),
    }


def _fits(span: Facts, pattern: str, sign: list[str]) -> bool:
    """Whether a name fits; `sign` may hold one KEY=VALUE of a text attribute that the span must have too."""
    said = {f"{pair['key']}={pair['value'].get('stringValue')}" for pair in span.get("attributes", [])}
    return fnmatchcase(span["name"], pattern) and said.issuperset(sign)


def _tool(span: Facts, rules: list[Facts]) -> Facts:
    tool = STORY["tool"]
    call = STORY["scenarios"]["tool"]["turns"][0]["replies"][0]["call"]
    facts = {"tool_name": tool["name"], "tool_arguments": call, "tool_result": tool["result"]}
    return {**_at(span), **_less(facts, _of(rules, "tool", span))}


def _retrieval(span: Facts, rules: list[Facts]) -> Facts:
    told = STORY["scenarios"]["retrieval"]
    facts = {"query": told["turns"][0]["question"], "documents": told["documents"][:1]}
    return {**_at(span), **_less(facts, _of(rules, "retriever", span))}


def _of(rules: list[Facts], kind: str, span: Facts) -> list[Facts]:
    return [one for one in rules if one.get("on") == kind and span["name"] in one.get("spans", [span["name"]])]


def _at(span: Facts) -> Facts:
    return {"trace_id": span["trace_id"], "span_id": span["span_id"]}


def _traces(tree: list[Facts], calls: list[Facts]) -> list[Facts]:
    """Each trace's tokens, every call counted once."""
    out = []
    for trace_id in dict.fromkeys(span["trace_id"] for span in tree):
        mine = [call for call in calls if trace_id in {call["trace_id"], *(one["trace_id"] for one in call["also"])}]
        out.append(
            {
                "trace_id": trace_id,
                "scenarios": list(dict.fromkeys(call["scenario"] for call in mine)),
                "input_tokens": sum(call.get("input_tokens") or 0 for call in mine),
                "output_tokens": sum(call.get("output_tokens") or 0 for call in mine),
                "session_id": next((call["session_id"] for call in mine if call.get("session_id")), None),
                "user_id": next((call["user_id"] for call in mine if call.get("user_id")), None),
                "failed": any("error" in call for call in mine),
            }
        )
    return out
