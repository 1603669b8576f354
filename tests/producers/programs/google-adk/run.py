"""Google's Agent Development Kit with its own telemetry, on Gemini."""

import asyncio

from export import logging, tracing
from google.adk.agents import Agent
from google.adk.agents.run_config import RunConfig, StreamingMode
from google.adk.runners import InMemoryRunner
from google.genai import errors, types
from opentelemetry import _logs
from story import GEMINI, SESSION, USER, get_weather, questions, system

tracing()
_logs.set_logger_provider(logging())


async def tell(scenario, config=None, **more):
    """A session of an agent with the scenario's instructions."""
    agent = Agent(name=f"{scenario}_agent", model=GEMINI, instruction=system(scenario), **more)
    runner = InMemoryRunner(agent, app_name="story")
    session_id = SESSION if scenario == "conversation" else f"session-{scenario}"
    await runner.session_service.create_session(app_name="story", user_id=USER, session_id=session_id)
    for asked in questions(scenario):
        message = types.Content(role="user", parts=[types.Part(text=asked)])
        async for _ in runner.run_async(user_id=USER, session_id=session_id, new_message=message, run_config=config):
            pass


async def main():
    """Every scenario."""
    await tell("plain")
    await tell("stream", RunConfig(streaming_mode=StreamingMode.SSE))
    await tell("tool", tools=[get_weather])
    thoughts = types.ThinkingConfig(include_thoughts=True)
    await tell("cached", generate_content_config=types.GenerateContentConfig(thinking_config=thoughts))
    await tell("conversation")
    for scenario in ("rate_limited", "broken", "refused"):
        try:
            await tell(scenario)
        except errors.APIError:
            pass


asyncio.run(main())
