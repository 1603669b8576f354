"""The story told with the `anthropic` package."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import anthropic
from story import CLAUDE, TOOL, get_weather, question, questions, system

_TOOL = {"name": TOOL["name"], "description": TOOL["description"], "input_schema": TOOL["parameters"]}


def tell(
    client: anthropic.Anthropic, *, agent: Callable[..., Any] | None = None, tool: Callable[..., str] = get_weather,
    session: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> None:  # fmt: skip
    """All of the story: `agent` wraps the run with the tool, `session` sets session and user for the conversation."""
    ask(client, "plain")
    with client.messages.stream(**_request("stream")) as events:
        for _ in events:
            pass
    for _ in client.messages.create(stream=True, **_request("stream")):
        pass
    run = tool_run if agent is None else agent(tool_run)
    run(client, tool)
    cached(client)
    with session():
        conversation(client)
    for scenario in ("rate_limited", "broken", "refused"):
        try:
            ask(client, scenario)
        except anthropic.APIStatusError:
            pass


def ask(client: anthropic.Anthropic, scenario: str) -> None:
    """One question."""
    client.messages.create(**_request(scenario))


def cached(client: anthropic.Anthropic) -> None:
    """A system message to be cached, and thinking."""
    kept = [{"type": "text", "text": system("cached"), "cache_control": {"type": "ephemeral"}}]
    asked = {**_request("cached"), "system": kept, "max_tokens": 2048}
    client.messages.create(thinking={"type": "enabled", "budget_tokens": 1024}, **asked)


def tool_run(client: anthropic.Anthropic, tool: Callable[..., str] = get_weather) -> str:
    """The model asks for the tool, the tool runs, the model answers."""
    request = _request("tool")
    while True:
        answer = client.messages.create(tools=[_TOOL], **request)
        calls = [block for block in answer.content if block.type == "tool_use"]
        if not calls:
            return answer.content[0].text
        request["messages"].append(
            {"role": "assistant", "content": [one.model_dump(exclude_none=True) for one in calls]}
        )
        results = [{"type": "tool_result", "tool_use_id": one.id, "content": tool(**one.input)} for one in calls]
        request["messages"].append({"role": "user", "content": results})


def conversation(client: anthropic.Anthropic) -> None:
    """Two turns; the second repeats the first."""
    request: dict[str, Any] = {**_request("conversation"), "messages": []}
    for asked in questions("conversation"):
        request["messages"].append({"role": "user", "content": asked})
        answer = client.messages.create(**request)
        request["messages"].append({"role": "assistant", "content": answer.content[0].text})


def _request(scenario: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": question(scenario)}]
    return {"model": CLAUDE, "max_tokens": 500, "system": system(scenario), "messages": messages}
