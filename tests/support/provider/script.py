"""What the local provider answers: the replies of `tests/producers/kit/story.json`, found by what the user asked.

A conversation, whatever its wire form, is read into messages `{"role", "parts"}`; a part is a text
(`{"type": "text", "text"}`), a `reasoning` with a text, a `tool_call` (`id`, `name`, `arguments`), or a `tool_result`
(`id`, `result`). The last message of the user that holds a question of the story says which turn it is, since
frameworks wrap questions in words of their own; tool results after it say which of the turn's replies is next.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STORY: dict[str, Any] = json.loads((Path(__file__).parents[2] / "producers/kit/story.json").read_text(encoding="utf-8"))
Message = dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """An answer; `input` holds the cached tokens, `output` those of reasoning."""

    scenario: str
    text: str | None
    call: dict[str, Any] | None
    reasoning: str | None
    input: int
    output: int
    cache_read: int
    cache_write: int
    reasoning_tokens: int


@dataclass(frozen=True)
class Fault:
    """An error, to be said in the provider's own form."""

    scenario: str
    status: int
    message: str


def text(content: str) -> dict[str, Any]:
    """A part that is a text."""
    return {"type": "text", "text": content}


def next_reply(messages: list[Message]) -> Reply | Fault | None:
    """The answer to a conversation; None when no message asks what the story knows."""
    for position in reversed(range(len(messages))):
        if messages[position]["role"] != "user":
            continue
        asked = " ".join(part["text"] for part in messages[position]["parts"] if part["type"] == "text")
        found = _turn(asked)
        if found is not None:
            results = sum(part["type"] == "tool_result" for later in messages[position:] for part in later["parts"])
            return _answer(*found, results)
    return None


def response_model(requested: str) -> str:
    """The full name of a model, as an answer gives it."""
    return str(STORY["models"].get(requested, requested))


def tool_name(offered: list[str]) -> str:
    """The story's tool under the name that the request has for it."""
    name = str(STORY["tool"]["name"])
    return next((one for one in offered if name in one or "weather" in one.lower()), name)


def _turn(asked: str) -> tuple[str, dict[str, Any]] | None:
    for scenario, told in STORY["scenarios"].items():
        for turn in told["turns"]:
            if turn["question"] in asked:
                return scenario, turn
    return None


def _answer(scenario: str, turn: dict[str, Any], results: int) -> Reply | Fault:
    if "fault" in turn:
        return Fault(scenario, turn["fault"]["status"], turn["fault"]["message"])
    reply = turn["replies"][min(results, len(turn["replies"]) - 1)]
    return Reply(
        scenario,
        reply.get("text"),
        reply.get("call"),
        reply.get("reasoning"),
        reply["input"],
        reply["output"],
        reply.get("cache_read", 0),
        reply.get("cache_write", 0),
        reply.get("reasoning_tokens", 0),
    )
