"""MLflow's autologging of OpenAI and Anthropic, sent as OTLP in place of to a tracking server."""

from contextlib import contextmanager

import anthropic
import anthropic_story
import mlflow
import openai
import openai_story
from story import SESSION, USER, get_weather

mlflow.openai.autolog()
mlflow.anthropic.autolog()


@contextmanager
def session():
    """A span for the conversation, whose trace has a session and a user."""
    with mlflow.start_span("conversation"):
        mlflow.update_current_trace(session_id=SESSION, user=USER)
        yield


def agent(run):
    """The run with the tool as an agent's span."""
    return lambda client, tool: mlflow.trace(
        lambda question: run(client, tool), name="weather_agent", span_type="AGENT"
    )("What will the weather be like in Paris?")


around = {"agent": agent, "tool": mlflow.trace(get_weather, span_type="TOOL"), "session": session}
openai_story.tell(openai.OpenAI(max_retries=0), **around)
anthropic_story.tell(anthropic.Anthropic(max_retries=0), **around)
mlflow.flush_trace_async_logging()
