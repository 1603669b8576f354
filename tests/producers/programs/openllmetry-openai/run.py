"""OpenLLMetry's opentelemetry-instrumentation-openai, without Traceloop's SDK around it."""

import openai
from export import tracing
from openai_story import tell
from opentelemetry.instrumentation.openai import OpenAIInstrumentor

OpenAIInstrumentor().instrument(tracer_provider=tracing())
tell(openai.OpenAI(max_retries=0))
