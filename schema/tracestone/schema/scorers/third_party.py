"""Parameters of the scorers that other libraries bring: ragas, deepeval, Phoenix's evaluators.

Only what is listed can be asked for, so that a definition says what it needs, and no definition names a class or an
argument that its author chose. Metrics that ask no model are left out; the heuristics cover them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, model_validator

from tracestone.schema.assessments import TargetType
from tracestone.schema.scorers.judges import API_BASE_PATTERN
from tracestone.schema.scorers.measures import Measured
from tracestone.schema.scorers.parameters import SPAN_OR_TRACE

Library = Literal["ragas", "deepeval", "phoenix"]
Need = Literal["input", "output", "reference", "contexts", "tools", "conversation"]

_MODEL_PATTERN = r"^[\w.@+-]+([/:][\w.@+-]+)*$"
_SESSION: frozenset[TargetType] = frozenset({"session"})


@dataclass(frozen=True)
class Metric:
    """What a metric reads of a target, the arguments it takes (with those it cannot do without), and whether it embeds.

    A metric that needs a `conversation` is for sessions.
    """

    needs: tuple[Need, ...]
    takes: frozenset[str] = frozenset()
    requires: frozenset[str] = frozenset()
    embeds: bool = False


def _metric(needs: str, takes: str = "", requires: str = "", *, embeds: bool = False) -> Metric:
    names: Any = tuple(needs.split())
    return Metric(names, frozenset(f"{takes} {requires}".split()), frozenset(requires.split()), embeds)


_DEEPEVAL = "include_reason strict_mode"
METRICS: Mapping[Library, Mapping[str, Metric]] = {
    "ragas": {
        "AnswerAccuracy": _metric("input output reference"),
        "AnswerCorrectness": _metric("input output reference", "weights beta", embeds=True),
        "AnswerRelevancy": _metric("input output", "strictness", embeds=True),
        "ContextEntityRecall": _metric("reference contexts"),
        "ContextPrecision": _metric("input reference contexts"),
        "ContextRecall": _metric("input reference contexts"),
        "ContextRelevance": _metric("input contexts"),
        "ContextUtilization": _metric("input output contexts"),
        "FactualCorrectness": _metric("output reference", "mode beta atomicity coverage"),
        "Faithfulness": _metric("input output contexts"),
        "NoiseSensitivity": _metric("input output reference contexts", "mode"),
        "ResponseGroundedness": _metric("output contexts"),
        "SummaryScore": _metric("output contexts"),
    },
    "deepeval": {
        "AnswerRelevancy": _metric("input output", _DEEPEVAL),
        "ArgumentCorrectness": _metric("input tools", _DEEPEVAL),
        "Bias": _metric("input output", _DEEPEVAL),
        "ContextualPrecision": _metric("input output reference contexts", _DEEPEVAL),
        "ContextualRecall": _metric("input output reference contexts", _DEEPEVAL),
        "ContextualRelevancy": _metric("input output contexts", _DEEPEVAL),
        "Faithfulness": _metric("input output contexts", f"{_DEEPEVAL} truths_extraction_limit"),
        "Hallucination": _metric("input output contexts", _DEEPEVAL),
        "Misuse": _metric("input output", _DEEPEVAL, "domain"),
        "NonAdvice": _metric("input output", _DEEPEVAL, "advice_types"),
        "PIILeakage": _metric("input output", _DEEPEVAL),
        "PromptAlignment": _metric("input output", _DEEPEVAL, "prompt_instructions"),
        "RoleViolation": _metric("input output", _DEEPEVAL, "role"),
        "Summarization": _metric("input output", f"{_DEEPEVAL} assessment_questions n truths_extraction_limit"),
        "Toxicity": _metric("input output", _DEEPEVAL),
        "ConversationCompleteness": _metric("conversation", f"{_DEEPEVAL} window_size"),
        "KnowledgeRetention": _metric("conversation", _DEEPEVAL),
        "RoleAdherence": _metric("conversation", _DEEPEVAL, "chatbot_role"),
        "TurnRelevancy": _metric("conversation", f"{_DEEPEVAL} window_size"),
    },
    "phoenix": {
        "Completeness": _metric("conversation"),
        "Conciseness": _metric("input output"),
        "Correctness": _metric("input output"),
        "Faithfulness": _metric("input output contexts"),
        "Hallucination": _metric("input output"),
        "PiiDetection": _metric("conversation"),
        "Refusal": _metric("input output"),
        "RetrievalRelevance": _metric("input contexts"),
        "Toxicity": _metric("output"),
        "UserFriction": _metric("conversation"),
    },
}


class ThirdParty(Measured):
    """A metric of another library; the value is its score, or with bounds whether that lies within.

    Its models are called as a judge's are. `timeout` is in seconds, per call; `retries` come after the first attempt.
    """

    library: Library
    metric: str = Field(min_length=1, max_length=100)
    model: str = Field(min_length=1, max_length=200, pattern=_MODEL_PATTERN)
    embedding_model: str | None = Field(None, max_length=200, pattern=_MODEL_PATTERN)
    parameters: dict[str, Any] = Field(default_factory=dict)
    api_base: str | None = Field(None, pattern=API_BASE_PATTERN)
    timeout: float = Field(60, gt=0, le=600)
    retries: int = Field(3, ge=0, le=10)

    @model_validator(mode="after")
    def _known(self) -> "ThirdParty":
        metrics = METRICS[self.library]
        metric = metrics.get(self.metric)
        if metric is None:
            raise ValueError(f"metric: {self.library} has none of that name here; known: {', '.join(metrics)}")
        unknown = sorted(set(self.parameters) - metric.takes)
        if unknown:
            known = ", ".join(sorted(metric.takes)) or "none"
            raise ValueError(f"parameters: {unknown[0][:100]} cannot be set; what can: {known}")
        missing = sorted(metric.requires - set(self.parameters))
        if missing:
            raise ValueError(f"parameters: {missing[0]} is needed")
        if metric.embeds and self.embedding_model is None:
            raise ValueError("embedding_model: the metric needs one")
        return self

    @property
    def what(self) -> Metric:
        """What is known of the metric."""
        return METRICS[self.library][self.metric]

    @property
    def targets(self) -> frozenset[TargetType]:
        """Sessions for a metric of conversations, else spans and traces."""
        return _SESSION if "conversation" in self.what.needs else SPAN_OR_TRACE
