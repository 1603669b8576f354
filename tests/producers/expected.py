"""The facts that a recording must be read as: what the provider was asked and answered, less what was not sent.

`producer.toml` says which spans there are, `types = [["chat *", "llm"], …]`: the first pattern that fits a span's name
tells its type; a third entry, `KEY=VALUE`, asks for an attribute as well. Where several libraries tell of one call,
`call_scope` is the scope of the one that was meant to. And it says what a producer does not send, and why:

    [[absent]]
    fields = ["cache_*_tokens"]   # of a call; or input_messages.system, output_messages.reasoning, …
    on = "call"                   # or tool, retriever, then `spans` may name which
    scenarios = ["cached"]        # all, unless given; so are `apis` and `variants`
    streamed = true               # either, unless given
    occurrences = [1]             # the first call of its scenario and API; all, unless given
    reason = "…"
    says = 48                     # in place of what is true, when the producer says something else

Where no rule fits, a fact stands as the provider knows it. Where one fits, the field is null (or what `says` says),
`absent` has the reason, and `told` what the provider knows. `checking.py` compares all of it with the recording.
"""

from collections import Counter
from fnmatch import fnmatchcase
from typing import Any

from producers.evidence import spans
from producers.facts import Facts, atoms, field_of
from producers.linking import around, described_span
from support.provider.script import STORY
from support.provider.server import Call

_ERRORS = {400: "BadRequestError", 429: "RateLimitError", 500: "InternalServerError"}


def expected(requests: list[dict[str, Any]], calls: list[Call], described: Facts, variant: str) -> Facts:
    """The whole expectation of a recording."""
    rules = [rule for rule in described.get("absent", []) if variant in rule.get("variants", [variant])]
    # A span may be sent more than once; the last time tells how it ended.
    known = {span["spanId"]: span for span in spans(requests)}
    tree = [described_span(span, described) for span in known.values()]
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
    found = around(call, known, described)
    scope = described.get("call_scope", "*")
    span = next((span for span in found if fnmatchcase(span["scope"], scope)), None)
    if any("span_id" in rule["fields"] for rule in mine):
        span, found = None, []
    where = {
        "trace_id": span["traceId"] if span else None,
        "span_id": span["spanId"] if span else None,
        "also": [_at(described_span(other, described)) for other in found if other is not span],
    }
    return {**head, "streamed": streamed, **where, **_less(facts, mine)}


def _less(facts: Facts, rules: list[Facts]) -> Facts:
    """The facts without those that a rule says are absent; `told` keeps them all."""
    reasons: dict[str, str] = {}
    for field, _ in atoms(facts):
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
            if (parts := [part for part in message["parts"] if field_of(field, message, part) not in reasons])
        ]
        return kept or None
    if field == "error" and "error.message" in reasons:
        return {**value, "message": None}
    return value


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
