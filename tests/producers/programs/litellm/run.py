"""LiteLLM's `otel` callback, over its OpenAI and Anthropic providers; version 2 tells of asynchronous calls only."""

import asyncio
import json

import litellm
import openai
from story import (
    CHAT,
    CLAUDE,
    EMBEDDER,
    REASONER,
    SESSION,
    TOOL,
    USER,
    documents,
    get_weather,
    question,
    questions,
    system,
)

litellm.callbacks = ["otel"]
FUNCTION = {name: TOOL[name] for name in ("name", "description", "parameters")}


def ask(scenario):
    """The first messages of a scenario."""
    return [{"role": "system", "content": system(scenario)}, {"role": "user", "content": question(scenario)}]


async def complete(model, messages, **more):
    """One call, without repeats."""
    return await litellm.acompletion(model=model, messages=messages, max_retries=0, num_retries=0, **more)


async def tell(model, reasoner, **reasoning):
    """The story with one provider's models."""
    await complete(model, ask("plain"))
    async for _ in await complete(model, ask("stream"), stream=True, stream_options={"include_usage": True}):
        pass
    messages, tools = ask("tool"), [{"type": "function", "function": FUNCTION}]
    answer = (await complete(model, messages, tools=tools)).choices[0].message
    messages.append(answer.model_dump(exclude_none=True))
    for call in answer.tool_calls:
        result = get_weather(**json.loads(call.function.arguments))
        messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    await complete(model, messages, tools=tools)
    await complete(reasoner, ask("cached"), **reasoning)
    messages = [{"role": "system", "content": system("conversation")}]
    for asked in questions("conversation"):
        messages.append({"role": "user", "content": asked})
        answer = await complete(model, messages, user=USER, litellm_session_id=SESSION)
        messages.append({"role": "assistant", "content": answer.choices[0].message.content})
    for scenario in ("rate_limited", "broken", "refused"):
        try:
            await complete(model, ask(scenario))
        except (litellm.exceptions.APIError, openai.APIStatusError):
            pass


async def main():
    """Both providers."""
    await tell(f"openai/{CHAT}", f"openai/{REASONER}")
    claude = f"anthropic/{CLAUDE}"
    await tell(claude, claude, thinking={"type": "enabled", "budget_tokens": 1024}, max_tokens=2048)
    await litellm.aembedding(model=f"openai/{EMBEDDER}", input=documents())
    await asyncio.sleep(8)  # the callbacks run in tasks that nobody can wait for


asyncio.run(main())
