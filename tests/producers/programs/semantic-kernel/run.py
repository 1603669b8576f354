"""Semantic Kernel with its own diagnostics, on OpenAI; its messages are records of Python's logging."""

import asyncio
import logging

import export
from openai import AsyncOpenAI
from opentelemetry.sdk._logs import LoggingHandler
from semantic_kernel.agents import ChatCompletionAgent
from semantic_kernel.connectors.ai.open_ai import (
    OpenAIChatCompletion,
    OpenAIChatPromptExecutionSettings,
    OpenAITextEmbedding,
)
from semantic_kernel.contents import ChatHistory
from semantic_kernel.functions import kernel_function
from story import CHAT, EMBEDDER, REASONER, documents, get_weather, question, questions, system

export.tracing()
logging.getLogger().addHandler(LoggingHandler(logger_provider=export.logging()))
logging.getLogger("semantic_kernel").setLevel(logging.INFO)


class Weather:
    """The story's tool as a plugin."""

    @kernel_function(name="get_weather", description="The weather of the coming days in a city.")
    def get_weather(self, city: str, days: int) -> str:
        """The weather."""
        return get_weather(city, days)


def service(model=CHAT):
    """A chat model, without repeats."""
    return OpenAIChatCompletion(ai_model_id=model, async_client=AsyncOpenAI(max_retries=0))


def ask(scenario):
    """The first messages."""
    history = ChatHistory(system_message=system(scenario))
    history.add_user_message(question(scenario))
    return history


async def main():
    """Every scenario."""
    settings = OpenAIChatPromptExecutionSettings()
    await service().get_chat_message_content(ask("plain"), settings)
    async for _ in service().get_streaming_chat_message_content(ask("stream"), settings):
        pass
    agent = ChatCompletionAgent(
        service=service(), name="weather_agent", instructions=system("tool"), plugins=[Weather()]
    )
    await agent.get_response(question("tool"))
    await service(REASONER).get_chat_message_content(ask("cached"), settings)
    history = ChatHistory(system_message=system("conversation"))
    for asked in questions("conversation"):
        history.add_user_message(asked)
        history.add_message(await service().get_chat_message_content(history, settings))
    for scenario in ("rate_limited", "broken", "refused"):
        try:
            await service().get_chat_message_content(ask(scenario), settings)
        except Exception as error:
            print(scenario, type(error))
    await OpenAITextEmbedding(ai_model_id=EMBEDDER, async_client=AsyncOpenAI()).generate_embeddings(documents())


asyncio.run(main())
