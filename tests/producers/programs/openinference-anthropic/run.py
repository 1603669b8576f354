"""openinference-instrumentation-anthropic."""

import anthropic
from anthropic_story import tell
from export import tracing
from openinference.instrumentation import using_attributes
from openinference.instrumentation.anthropic import AnthropicInstrumentor
from story import SESSION, USER

AnthropicInstrumentor().instrument(tracer_provider=tracing())
tell(anthropic.Anthropic(max_retries=0), session=lambda: using_attributes(session_id=SESSION, user_id=USER))
