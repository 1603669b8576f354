"""Similarity by embeddings: one call of a model, whose vectors are compared."""

import math

from tracestone.schema.scorers.comparisons import EmbeddingSimilarity
from tracestone.schema.stores.jobs import Usage
from tracestone.scoring.llm import CallFailed, EmbeddingCall, Provider
from tracestone.scoring.scorers.heuristics.reading import comparable, expected_texts, measured, nothing, text_of
from tracestone.scoring.scorers.protocol import AttemptFailed, Outcome, Subject


class EmbeddingScorer:
    """The cosine of two embeddings; of several expected texts the most alike counts."""

    source_type = "CODE"

    def __init__(self, parameters: EmbeddingSimilarity, provider: Provider) -> None:
        self._parameters = parameters
        self._provider = provider
        self.source_id = parameters.model
        self.retries = parameters.retries

    async def score(self, subject: Subject) -> Outcome:
        """The similarity with the usage of the call. Raises AttemptFailed."""
        parameters = self._parameters
        output = text_of(subject)
        beside = [text_of(subject, "input")] if parameters.beside == "input" else expected_texts(parameters, subject)
        comparable(output, *beside)
        call = EmbeddingCall(parameters.model, [output, *beside], parameters.timeout, parameters.api_base)
        try:
            found = await self._provider.embed(call)
        except CallFailed as error:
            raise AttemptFailed(
                error.code,
                error.message,
                retryable=error.retryable,
                retry_after=error.retry_after,
                usage=Usage(calls=1),
            ) from error
        of_output, *others = found.vectors
        best = max(_cosine(of_output, other) for other in others)
        what = "the input" if parameters.beside == "input" else "what was expected"
        finding = measured(parameters, best, f"The cosine of the output's embedding and that of {what} is {best:.3f}")
        return Outcome(self.source_type, self.source_id, finding.value, finding.rationale, usage=found.usage)


def _cosine(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    lengths = math.hypot(*one) * math.hypot(*other)
    if lengths == 0:
        raise nothing("PROVIDER_ERROR", "an embedding has no length")
    return math.fsum(a * b for a, b in zip(one, other, strict=True)) / lengths
