"""opentelemetry-instrumentation-genai-anthropic, in OpenTelemetry's own GenAI repository."""

import anthropic
from anthropic_story import tell
from export import logging, tracing
from opentelemetry.instrumentation.genai.anthropic import AnthropicInstrumentor

AnthropicInstrumentor().instrument(tracer_provider=tracing(), logger_provider=logging())
tell(anthropic.Anthropic(max_retries=0))
