"""Traceloop's SDK: its decorators and association properties around OpenLLMetry's instrumentation of OpenAI."""

from contextlib import contextmanager

import openai
from openai_story import tell
from story import SESSION, USER, get_weather, provider_url
from traceloop.sdk import Traceloop
from traceloop.sdk.decorators import tool, workflow
from traceloop.sdk.instruments import Instruments

Traceloop.init(
    app_name="story",
    api_endpoint=provider_url(),
    disable_batch=True,
    instruments={Instruments.OPENAI},
    telemetry_enabled=False,
)


@contextmanager
def session():
    """Association properties of what follows."""
    Traceloop.set_association_properties({"session_id": SESSION, "user_id": USER})
    yield
    Traceloop.set_association_properties({})


def agent(run):
    """The run with the tool as a workflow."""
    return lambda client, use: workflow(name="weather_workflow")(lambda: run(client, use))()


tell(openai.OpenAI(max_retries=0), agent=agent, tool=tool(name="get_weather")(get_weather), session=session)
