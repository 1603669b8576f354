"""OpenLLMetry's opentelemetry-instrumentation-openai of 2025, whose messages are flattened attributes."""

import openai
from export import tracing
from openai_story import tell
from opentelemetry.instrumentation.openai import OpenAIInstrumentor

OpenAIInstrumentor().instrument(tracer_provider=tracing())
tell(openai.OpenAI(max_retries=0), responses=False)
