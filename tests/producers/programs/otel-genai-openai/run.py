"""opentelemetry-instrumentation-genai-openai: the successor of openai-v2, in OpenTelemetry's own GenAI repository."""

import openai
from export import logging, tracing
from openai_story import tell
from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor

OpenAIInstrumentor().instrument(tracer_provider=tracing(), logger_provider=logging())
tell(openai.OpenAI(max_retries=0))
