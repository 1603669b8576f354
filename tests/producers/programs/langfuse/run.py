"""Langfuse's SDK: its `openai` in place of OpenAI's, and `observe` around the run with a tool."""

from langfuse import get_client, observe, propagate_attributes
from langfuse.openai import openai
from openai_story import tell
from story import SESSION, USER, get_weather


def agent(run):
    """The run with the tool as an observation."""
    return observe(run, name="weather_agent", as_type="agent", capture_input=False)


tell(
    openai.OpenAI(max_retries=0),
    agent=agent,
    tool=observe(get_weather, as_type="tool"),
    session=lambda: propagate_attributes(session_id=SESSION, user_id=USER),
)
get_client().flush()
