"""From a stored version of a scorer to something that scores."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tracestone.schema.scorers.comparisons import EmbeddingSimilarity
from tracestone.schema.scorers.definition import Scorer
from tracestone.schema.scorers.judges import Judge
from tracestone.schema.scorers.parameters import Parameters
from tracestone.scoring.judges.judge import JudgeScorer
from tracestone.scoring.llm import Provider
from tracestone.scoring.scorers.embedding import EmbeddingScorer
from tracestone.scoring.scorers.heuristics import comparisons, content, runs, text
from tracestone.scoring.scorers.protocol import Finding, Outcome, Subject, TargetScorer

HEURISTICS: Mapping[str, Callable[[Any, Subject], Finding]] = {
    "regex_match": text.regex_match,
    "response_length": text.response_length,
    "json_validity": text.json_validity,
    "json_schema": text.json_schema,
    "repetition": text.repetition,
    "readability": text.readability,
    "refusal": content.refusal,
    "pii_detection": content.pii_detection,
    "language": content.language,
    "latency": runs.latency,
    "tokens": runs.tokens,
    "cost": runs.cost,
    "error": runs.error,
    "tool_loop": runs.tool_loop,
    "empty_retrieval": runs.empty_retrieval,
    "exact_match": comparisons.exact_match,
    "fuzzy_match": comparisons.fuzzy_match,
    "contains": comparisons.contains,
    "bleu": comparisons.bleu,
    "rouge": comparisons.rouge,
    "chrf": comparisons.chrf,
}


@dataclass(frozen=True)
class HeuristicScorer:
    """A heuristic with its parameters. Runs on a thread: a long text must not hold up the event loop."""

    source_id: str
    parameters: Parameters
    function: Callable[[Any, Subject], Finding]
    source_type: str = "CODE"
    retries: int = 0

    async def score(self, subject: Subject) -> Outcome:
        """The finding as an outcome; it costs nothing."""
        finding = await asyncio.to_thread(self.function, self.parameters, subject)
        return Outcome(self.source_type, self.source_id, finding.value, finding.rationale)


def ready(scorer: Scorer, provider: Provider) -> TargetScorer:
    """The scorer, ready to use; judges call models through `provider`."""
    if isinstance(scorer.parameters, Judge):
        return JudgeScorer(scorer.parameters, provider)
    if isinstance(scorer.parameters, EmbeddingSimilarity):
        return EmbeddingScorer(scorer.parameters, provider)
    return HeuristicScorer(f"{scorer.kind}/{scorer.name}", scorer.parameters, HEURISTICS[scorer.kind])
