"""openinference-instrumentation-openai, with OpenInference's own decorators around the run with a tool."""

import openai
from export import tracing
from openai_story import tell
from openinference.instrumentation import OITracer, TraceConfig, using_attributes
from openinference.instrumentation.openai import OpenAIInstrumentor
from story import SESSION, USER, get_weather

provider = tracing()
OpenAIInstrumentor().instrument(tracer_provider=provider)
tracer = OITracer(provider.get_tracer("story"), TraceConfig())
client = openai.OpenAI(max_retries=0)


@tracer.agent(name="weather_agent")
def agent(question: str) -> str:
    """The run with the tool."""
    return told(client, tracer.tool(get_weather))


def wrapped(run):
    """Puts the run into the agent's span."""
    global told
    told = run
    return lambda *_: agent("What will the weather be like in Paris?")


tell(client, agent=wrapped, session=lambda: using_attributes(session_id=SESSION, user_id=USER))
