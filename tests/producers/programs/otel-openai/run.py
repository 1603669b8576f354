"""opentelemetry-instrumentation-openai-v2: spans and, in the older form, a log event per message."""

import openai
from export import logging, tracing
from openai_story import tell
from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor

OpenAIInstrumentor().instrument(tracer_provider=tracing(), logger_provider=logging())
tell(openai.OpenAI(max_retries=0))
