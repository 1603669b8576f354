"""The recordings of real producers are whole, agree with their expectation, and tell nothing of who made them."""

import json
import re
from datetime import date

import pytest

from producers.checking import problems
from producers.scrub import RESOURCE_KEYS
from support.otlp_json import otlp_json
from support.producers import RECORDED, Recording, names, recording

ONES_OWN = re.compile(r"/root\b|/home/|/Users/|/[w]ork/|/tmp/|site-packages.{0,20}/root|\.pyenv|\.cache/")


@pytest.fixture(params=names())
def recorded(request: pytest.FixtureRequest) -> Recording:
    """Each recording."""
    return recording(request.param)


def test_there_are_enough() -> None:
    assert len({recording(name).meta["producer"] for name in names()}) >= 24


def test_it_is_otlp(recorded: Recording) -> None:
    for request in recorded.requests:
        message = request.message()
        assert message.ByteSize() > 0
        again = type(message).FromString(message.SerializeToString())
        assert otlp_json(again) == otlp_json(message)
        for resource in getattr(message, "resource_spans", []):
            for scope in resource.scope_spans:
                assert all(len(span.trace_id) == 16 and len(span.span_id) == 8 for span in scope.spans)


def test_it_says_what_made_it(recorded: Recording) -> None:
    meta = recorded.meta
    date.fromisoformat(meta["recorded"])
    assert meta["producer"] and meta["dialect"] and meta["packages"] and meta["scenarios"]
    assert (RECORDED.parent / "programs" / meta["program"] / "producer.toml").exists()


def test_it_agrees_with_its_expectation(recorded: Recording) -> None:
    requests = [{"body": request.body} for request in recorded.requests]
    assert problems(requests, recorded.expected) == []
    assert recorded.expected["calls"]
    assert {call["scenario"] for call in recorded.expected["calls"]} == set(recorded.meta["scenarios"])


def test_a_wrong_expectation_is_noticed() -> None:
    recorded = recording("openinference-openai")
    requests = [{"body": request.body} for request in recorded.requests]
    wrong = json.loads(json.dumps(recorded.expected))
    wrong["calls"][0]["output_tokens"] = 39
    wrong["calls"][1]["absent"]["input_tokens"] = "never sent"
    wrong["calls"][2]["input_messages"][1]["parts"][0]["text"] = "What is this?"
    wrong["spans"][3]["span_type"] = None
    found = problems(requests, wrong)
    assert len(found) == 4 and all(word in " ".join(found) for word in ("output", "input_tokens", "text", "type"))


def test_it_tells_nothing_of_its_maker(recorded: Recording) -> None:
    for part in ("requests", "meta", "expected"):
        text = (RECORDED / recorded.name / f"{part}.json").read_text(encoding="utf-8")
        assert ONES_OWN.search(text) is None, ONES_OWN.search(text)
    for request in recorded.requests:
        for group in (*request.body.get("resourceSpans", []), *request.body.get("resourceLogs", [])):
            keys = {pair["key"] for pair in group["resource"].get("attributes", [])}
            assert not keys & set(RESOURCE_KEYS)
