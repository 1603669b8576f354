"""The story told with the `openai` package."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import openai
from story import CHAT, EMBEDDER, REASONER, TOOL, documents, get_weather, question, questions, system

Around = Callable[[], AbstractContextManager[Any]]
FUNCTION = {name: TOOL[name] for name in ("name", "description", "parameters")}


def tell(
    client: openai.OpenAI, *, agent: Callable[..., Any] | None = None, tool: Callable[..., str] = get_weather,
    session: Around = nullcontext, responses: bool = True,
) -> None:  # fmt: skip
    """All of the story: `agent` wraps the run with the tool, `session` sets session and user for the conversation."""
    chat(client, "plain")
    stream(client)
    run = tool_run if agent is None else agent(tool_run)
    run(client, tool)
    chat(client, "cached", REASONER)
    with session():
        conversation(client)
    for scenario in ("rate_limited", "broken", "refused"):
        try:
            chat(client, scenario)
        except openai.APIStatusError:
            pass
    embed(client)
    if responses:
        tell_responses(client)


def chat(client: openai.OpenAI, scenario: str, model: str = CHAT) -> None:
    """One question."""
    client.chat.completions.create(model=model, messages=_ask(scenario), max_completion_tokens=500)


def stream(client: openai.OpenAI) -> None:
    """A streamed answer, with its usage and without."""
    for options in ({"include_usage": True}, None):
        extra: dict[str, Any] = {"stream_options": options} if options else {}
        for _ in client.chat.completions.create(model=CHAT, messages=_ask("stream"), stream=True, **extra):
            pass


def tool_run(client: openai.OpenAI, tool: Callable[..., str] = get_weather) -> str:
    """The model asks for the tool, the tool runs, the model answers."""
    messages, tools = _ask("tool"), [{"type": "function", "function": FUNCTION}]
    while True:
        answer = client.chat.completions.create(model=CHAT, messages=messages, tools=tools).choices[0].message
        if not answer.tool_calls:
            return str(answer.content)
        messages.append(answer.model_dump(exclude_none=True))
        for call in answer.tool_calls:
            result = tool(**json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})


def conversation(client: openai.OpenAI) -> None:
    """Two turns; the second repeats the first."""
    messages: list[Any] = [{"role": "system", "content": system("conversation")}]
    for asked in questions("conversation"):
        messages.append({"role": "user", "content": asked})
        answer = client.chat.completions.create(model=CHAT, messages=messages).choices[0].message
        messages.append({"role": "assistant", "content": answer.content})


def embed(client: openai.OpenAI) -> None:
    """The documents' vectors."""
    client.embeddings.create(model=EMBEDDER, input=documents())


def tell_responses(client: openai.OpenAI) -> None:
    """The story with the API of responses."""
    client.responses.create(model=CHAT, instructions=system("plain"), input=question("plain"))
    with client.responses.create(model=CHAT, input=_ask("stream"), stream=True) as events:
        for _ in events:
            pass
    tool, items = {"type": "function", "strict": False, **FUNCTION}, _ask("tool")
    first = client.responses.create(model=CHAT, input=items, tools=[tool])
    items += [item.model_dump(exclude_none=True) for item in first.output]
    for call in first.output:
        result = get_weather(**json.loads(call.arguments))
        items.append({"type": "function_call_output", "call_id": call.call_id, "output": result})
    client.responses.create(model=CHAT, input=items, tools=[tool])
    client.responses.create(model=REASONER, input=_ask("cached"), reasoning={"summary": "auto"})
    try:
        client.responses.create(model=CHAT, input=_ask("rate_limited"))
    except openai.APIStatusError:
        pass


def _ask(scenario: str) -> list[Any]:
    return [{"role": "system", "content": system(scenario)}, {"role": "user", "content": question(scenario)}]
