"""Pydantic AI with its own instrumentation, without Logfire, on OpenAI, Anthropic and Gemini."""

import asyncio
import os

from export import tracing
from pydantic_ai import Agent, Embedder, InstrumentationSettings
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models.anthropic import AnthropicModel, AnthropicModelSettings
from pydantic_ai.models.google import GoogleModel, GoogleModelSettings
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from story import CHAT, CLAUDE, EMBEDDER, GEMINI, REASONER, SESSION, documents, get_weather, question, questions, system

settings = InstrumentationSettings(tracer_provider=tracing(), version=int(os.environ["INSTRUMENTATION_VERSION"]))
Agent.instrument_all(settings)


def agent(scenario, model, **more):
    """An agent with the scenario's instructions."""
    return Agent(model, name=f"{scenario}_agent", instructions=system(scenario), **more)


async def tell(model, reasoner, model_settings=None):
    """The story with one provider's model."""
    await agent("plain", model).run(question("plain"))
    async with agent("stream", model).run_stream(question("stream")) as result:
        await result.get_output()
    await agent("tool", model, tools=[get_weather]).run(question("tool"))
    await agent("cached", reasoner, model_settings=model_settings).run(question("cached"))
    friend, before = agent("conversation", model), None
    for asked in questions("conversation"):
        before = (await friend.run(asked, conversation_id=SESSION, message_history=before)).all_messages()
    for scenario in ("rate_limited", "broken"):
        try:
            await agent(scenario, model).run(question(scenario))
        except ModelHTTPError:
            pass


async def main():
    """Every provider."""
    await tell(OpenAIChatModel(CHAT), OpenAIChatModel(REASONER))
    if settings.version != 5:  # the default tells of every provider, the others what differs
        return
    await tell(OpenAIResponsesModel(CHAT), OpenAIResponsesModel(REASONER))
    thinking = AnthropicModelSettings(anthropic_thinking={"type": "enabled", "budget_tokens": 1024})
    await tell(AnthropicModel(CLAUDE), AnthropicModel(CLAUDE), thinking)
    thoughts = GoogleModelSettings(google_thinking_config={"include_thoughts": True})
    await tell(GoogleModel(GEMINI), GoogleModel(GEMINI), thoughts)
    await Embedder(f"openai:{EMBEDDER}", instrument=settings).embed_documents(documents())


asyncio.run(main())
