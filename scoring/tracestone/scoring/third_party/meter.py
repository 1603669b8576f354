"""The one way in which other libraries reach models: through our provider, counted, and with its failures kept.

So a metric's calls are under the budgets, the limits and the redaction of judges' calls, and what goes wrong keeps its
code however the library wraps it.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from tracestone.schema.scorers.third_party import ThirdParty
from tracestone.schema.stores.jobs import Usage
from tracestone.scoring.llm import Call, EmbeddingCall, Provider
from tracestone.scoring.scorers.protocol import AttemptFailed

# A metric asks once or more for each statement of a text, and a text may be long.
MOST_CALLS = 200


class Meter:
    """One verdict's calls."""

    def __init__(self, provider: Provider, parameters: ThirdParty) -> None:
        self._provider = provider
        self._parameters = parameters
        self.usage = Usage()
        self.failure: Exception | None = None

    async def text(self, messages: Sequence[Mapping[str, str]], schema: Mapping[str, Any] | None = None) -> str:
        """What the model answers: a JSON document of the schema when one is given. Raises what the provider raises."""
        format: dict[str, Any] = {"type": "text"}
        if schema is not None:
            named = {"name": "answer", "schema": dict(schema)}
            format = {"type": "json_schema", "json_schema": named}
        asked = self._parameters
        call = Call(asked.model, messages, format, {}, asked.timeout, asked.api_base)
        self._admit()
        try:
            reply = await self._provider.complete(call)
        except Exception as error:
            self.failure = error
            raise
        self.usage = self.usage.plus(reply.usage)
        return reply.text

    async def document(self, messages: Sequence[Mapping[str, str]], schema: Mapping[str, Any]) -> Any:
        """The JSON document the model answers with. Raises ValueError when it is none."""
        text = await self.text(messages, schema)
        start, end = text.find("{"), text.rfind("}")
        return json.loads(text[start : end + 1])

    async def vectors(self, texts: Sequence[str]) -> list[list[float]]:
        """The embeddings of the texts. Raises what the provider raises."""
        asked = self._parameters
        self._admit()
        try:
            found = await self._provider.embed(
                EmbeddingCall(asked.embedding_model or "", texts, asked.timeout, asked.api_base)
            )
        except Exception as error:
            self.failure = error
            raise
        self.usage = self.usage.plus(found.usage)
        return [list(vector) for vector in found.vectors]

    def refuse_to_block(self) -> NoReturn:
        """A metric that waits for its model's answer would hold up every other job. Raises AttemptFailed."""
        self.failure = AttemptFailed(
            "METRIC_BLOCKS", "the metric waits for its model in a way that would hold up the worker", retryable=False
        )
        raise self.failure

    def _admit(self) -> None:
        if self.failure is not None:
            raise self.failure
        if self.usage.calls >= MOST_CALLS:
            reason = f"the metric wants to make more than {MOST_CALLS} calls"
            self.failure = AttemptFailed("TOO_MANY_CALLS", reason, retryable=False)
            raise self.failure
