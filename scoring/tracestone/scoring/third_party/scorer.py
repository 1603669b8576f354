"""A metric of another library as a scorer."""

import asyncio
import importlib
import math
from typing import Any

from tracestone.schema.scorers.third_party import ThirdParty
from tracestone.schema.settings import prepare_third_party
from tracestone.schema.stores.jobs import Usage
from tracestone.scoring.llm import CallFailed, Provider, redact
from tracestone.scoring.scorers.heuristics.reading import measured
from tracestone.scoring.scorers.protocol import AttemptFailed, Outcome, Subject
from tracestone.scoring.third_party.case import case_of
from tracestone.scoring.third_party.meter import Meter

_MODULES = {"ragas": "ragas_metrics", "deepeval": "deepeval_metrics", "phoenix": "phoenix_evaluators"}


class ThirdPartyScorer:
    """Calls the library in this process; its models through `provider`."""

    source_type = "LLM_JUDGE"

    def __init__(self, parameters: ThirdParty, provider: Provider) -> None:
        self._parameters = parameters
        self._provider = provider
        self.source_id = f"{parameters.library}/{parameters.metric}"
        self.retries = parameters.retries

    async def score(self, subject: Subject) -> Outcome:
        """The metric's score with the usage of every call. Raises AttemptFailed, MissingExtra."""
        parameters = self._parameters
        case = case_of(subject, parameters.what.needs)
        library = await asyncio.to_thread(_library, parameters.library)
        meter = Meter(self._provider, parameters)
        try:
            score, reason, metadata = await library.score(parameters, case, meter)
        except Exception as error:
            raise _failed(meter, error) from error
        if meter.failure is not None:  # the library went on without an answer
            raise _failed(meter, meter.failure) from meter.failure
        if not math.isfinite(score):
            reason = "the metric has no finite score for this target"
            raise AttemptFailed("METRIC_FAILED", reason, retryable=False, usage=meter.usage)
        finding = measured(parameters, score, f"{parameters.library}'s {parameters.metric} is {score:.3f}")
        return Outcome(
            self.source_type,
            self.source_id,
            finding.value,
            f"{finding.rationale} {reason}".strip(),
            usage=meter.usage,
            metadata={"model": parameters.model, **metadata},
        )


def _library(name: str) -> Any:
    prepare_third_party()
    return importlib.import_module(f"tracestone.scoring.third_party.{_MODULES[name]}")


def _failed(meter: Meter, error: Exception) -> Exception:
    """What the provider said, if it was that; else that the metric failed."""
    failure = meter.failure
    if isinstance(failure, CallFailed):
        usage = meter.usage.plus(Usage(calls=1))
        return AttemptFailed(
            failure.code, failure.message, retryable=failure.retryable, retry_after=failure.retry_after, usage=usage
        )
    if isinstance(failure, AttemptFailed):
        return AttemptFailed(failure.code, failure.message, retryable=failure.retryable, usage=meter.usage)
    if failure is not None:
        return failure  # a budget, a store: the job waits
    return AttemptFailed("METRIC_FAILED", redact(f"{type(error).__name__}: {error}"), retryable=True, usage=meter.usage)
