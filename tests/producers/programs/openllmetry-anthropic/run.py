"""OpenLLMetry's opentelemetry-instrumentation-anthropic, without Traceloop's SDK around it."""

import anthropic
from anthropic_story import tell
from export import tracing
from opentelemetry.instrumentation.anthropic import AnthropicInstrumentor

AnthropicInstrumentor().instrument(tracer_provider=tracing())
tell(anthropic.Anthropic(max_retries=0))
