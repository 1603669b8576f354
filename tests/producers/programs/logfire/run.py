"""Logfire's SDK and its instrumentation of OpenAI, sent as OTLP and not to Logfire."""

import logfire
import openai
from openai_story import tell
from story import get_weather

logfire.configure(send_to_logfire=False, console=False)
client = openai.OpenAI(max_retries=0)
logfire.instrument_openai(client)


def agent(run):
    """The run with the tool in a span."""

    def inside(*given):
        with logfire.span("weather agent"):
            return run(*given)

    return inside


tell(client, agent=agent, tool=logfire.instrument("get_weather", record_return=True)(get_weather))
logfire.force_flush()
