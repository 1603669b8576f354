"""From a stored version of a scorer to something that scores."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tracestone.schema.scorers.builtin import BuiltinJudge
from tracestone.schema.scorers.code import Code
from tracestone.schema.scorers.comparisons import EmbeddingSimilarity
from tracestone.schema.scorers.definition import Scorer
from tracestone.schema.scorers.ensembles import Ensemble
from tracestone.schema.scorers.judges import Judge
from tracestone.schema.scorers.parameters import Parameters
from tracestone.schema.scorers.third_party import ThirdParty
from tracestone.scoring.code.sandbox import Sandbox
from tracestone.scoring.code.scorer import InstalledScorer, UploadedScorer
from tracestone.scoring.judges import builtin, judge
from tracestone.scoring.llm import Provider
from tracestone.scoring.scorers.embedding import EmbeddingScorer
from tracestone.scoring.scorers.ensemble import EnsembleScorer
from tracestone.scoring.scorers.heuristics import comparisons, content, runs, text
from tracestone.scoring.scorers.protocol import Finding, Outcome, Subject, TargetScorer
from tracestone.scoring.third_party.scorer import ThirdPartyScorer

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


@dataclass(frozen=True)
class Tools:
    """What scorers work with.

    Models are called through `provider`; uploaded functions run in `sandbox`, or not at all when there is none;
    `member` finds the scorers that an ensemble names and raises NotFound.
    """

    provider: Provider
    member: Callable[[str, int], Awaitable[TargetScorer]]
    sandbox: Sandbox | None = None


def ready(scorer: Scorer, tools: Tools) -> TargetScorer:
    """The scorer, ready to use."""
    parameters = scorer.parameters
    if isinstance(parameters, Judge):
        return judge.of_definition(parameters, tools.provider)
    if isinstance(parameters, BuiltinJudge):
        return builtin.of_definition(parameters, tools.provider)
    if isinstance(parameters, EmbeddingSimilarity):
        return EmbeddingScorer(parameters, tools.provider)
    if isinstance(parameters, ThirdParty):
        return ThirdPartyScorer(parameters, tools.provider)
    if isinstance(parameters, Ensemble):
        return EnsembleScorer(parameters, tools.member)
    if isinstance(parameters, Code):
        if parameters.entry_point is not None:
            return InstalledScorer(parameters)
        return UploadedScorer(f"{scorer.name} v{scorer.version}", parameters, tools.sandbox)
    return HeuristicScorer(f"{scorer.kind}/{scorer.name}", parameters, HEURISTICS[scorer.kind])
