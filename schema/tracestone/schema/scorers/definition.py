"""A scorer's definition, checked, and its stored versions."""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from tracestone.schema.errors import Invalid
from tracestone.schema.scorers import comparisons, content, runs, text
from tracestone.schema.scorers.builtin import BuiltinJudge
from tracestone.schema.scorers.code import Code
from tracestone.schema.scorers.ensembles import Ensemble
from tracestone.schema.scorers.judges import Judge
from tracestone.schema.scorers.parameters import Parameters, checked
from tracestone.schema.scorers.review import Review
from tracestone.schema.scorers.third_party import ThirdParty

NAME_PATTERN = r"^[A-Za-z][A-Za-z0-9_.-]{0,99}$"

MODELS: dict[str, type[Parameters]] = {
    "regex_match": text.RegexMatch,
    "response_length": text.ResponseLength,
    "json_validity": text.JsonValidity,
    "json_schema": text.JsonSchema,
    "repetition": text.Repetition,
    "readability": text.Readability,
    "refusal": content.Refusal,
    "pii_detection": content.PiiDetection,
    "language": content.Language,
    "latency": runs.Latency,
    "tokens": runs.Tokens,
    "cost": runs.Cost,
    "error": runs.ErrorFree,
    "tool_loop": runs.ToolLoop,
    "empty_retrieval": runs.EmptyRetrieval,
    "exact_match": comparisons.ExactMatch,
    "fuzzy_match": comparisons.FuzzyMatch,
    "contains": comparisons.Contains,
    "bleu": comparisons.Bleu,
    "rouge": comparisons.Rouge,
    "chrf": comparisons.Chrf,
    "embedding_similarity": comparisons.EmbeddingSimilarity,
    "code": Code,
    "ensemble": Ensemble,
    "judge": Judge,
    "third_party": ThirdParty,
    "builtin_judge": BuiltinJudge,
    "review": Review,
}


@dataclass(frozen=True)
class Definition:
    """A checked definition that has no version yet. `digest` tells whether two definitions are the same."""

    name: str
    kind: str
    parameters: Parameters

    @property
    def stored(self) -> dict[str, Any]:
        """The parameters as JSON, defaults written out so that a later default changes no old version."""
        return self.parameters.model_dump(mode="json")

    @property
    def digest(self) -> str:
        """SHA-256 of kind and parameters, in hex."""
        text = json.dumps([self.kind, self.stored], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Scorer:
    """One stored version of a scorer; immutable once stored."""

    name: str
    version: int
    kind: str
    parameters: Parameters
    created_at_ms: int


def define(name: str, kind: str, parameters: object) -> Definition:
    """A checked definition. Raises Invalid, naming the field and the reason."""
    if not isinstance(name, str) or re.match(NAME_PATTERN, name) is None:
        raise Invalid("name", "must be 1 to 100 of A-Z a-z 0-9 _ . - and begin with a letter")
    model = MODELS.get(kind) if isinstance(kind, str) else None
    if model is None:
        raise Invalid("kind", f"must be one of {', '.join(MODELS)}")
    return Definition(name, kind, checked(model, parameters if parameters is not None else {}, "parameters"))
