"""The judges that come with Tracestone: their names, what they judge, and their labels.

Names, inputs, labels and levels are those of MLflow's built-in scorers. What each tells the model is a versioned file
of `scoring/judges/prompt_files`, which also says what it cannot judge.
"""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from tracestone.schema.assessments import TargetType
from tracestone.schema.scorers.judges import ModelCalls
from tracestone.schema.scorers.parameters import SPAN_OR_TRACE

YES_NO = ("yes", "no")
_TRACE: frozenset[TargetType] = frozenset({"trace"})
_SESSION: frozenset[TargetType] = frozenset({"session"})


@dataclass(frozen=True)
class Builtin:
    """One of them. `labels` is empty where the value is a number; `guidelines` says that they must be given."""

    targets: frozenset[TargetType]
    prompt: str
    labels: tuple[str, ...] = YES_NO
    guidelines: bool = False
    prompt_version: int = 1


BUILTINS: dict[str, Builtin] = {
    "RelevanceToQuery": Builtin(SPAN_OR_TRACE, "relevance_to_query"),
    "Correctness": Builtin(SPAN_OR_TRACE, "correctness"),
    "Equivalence": Builtin(SPAN_OR_TRACE, "equivalence"),
    "Completeness": Builtin(SPAN_OR_TRACE, "completeness"),
    "Fluency": Builtin(SPAN_OR_TRACE, "fluency"),
    "Summarization": Builtin(SPAN_OR_TRACE, "summarization"),
    "Safety": Builtin(SPAN_OR_TRACE, "safety"),
    "Guidelines": Builtin(SPAN_OR_TRACE, "guidelines", guidelines=True),
    "ExpectationsGuidelines": Builtin(SPAN_OR_TRACE, "expectations_guidelines"),
    "RetrievalRelevance": Builtin(SPAN_OR_TRACE, "retrieval_relevance", ()),
    "RetrievalGroundedness": Builtin(_TRACE, "retrieval_groundedness"),
    "RetrievalSufficiency": Builtin(_TRACE, "retrieval_sufficiency"),
    "ToolCallCorrectness": Builtin(_TRACE, "tool_call_correctness"),
    "ToolCallEfficiency": Builtin(_TRACE, "tool_call_efficiency"),
    "ConversationCompleteness": Builtin(_SESSION, "conversation_completeness"),
    "UserFrustration": Builtin(_SESSION, "user_frustration", ("none", "resolved", "unresolved")),
    "KnowledgeRetention": Builtin(_SESSION, "knowledge_retention"),
    "ConversationalSafety": Builtin(_SESSION, "conversational_safety"),
    "ConversationalGuidelines": Builtin(_SESSION, "conversational_guidelines", guidelines=True),
    "ConversationalRoleAdherence": Builtin(_SESSION, "conversational_role_adherence"),
    "ConversationalToolCallEfficiency": Builtin(_SESSION, "conversational_tool_call_efficiency"),
}


class BuiltinJudge(ModelCalls):
    """A judge by its name.

    `guidelines` are for the two judges of guidelines. Of ToolCallCorrectness, `should_exact_match` compares the calls
    with the expectation `expected_tool_calls` in code, without a model, in any order unless `should_consider_ordering`.
    """

    judge: str
    guidelines: tuple[Annotated[str, Field(min_length=1, max_length=5000)], ...] = Field((), max_length=100)
    should_exact_match: bool = False
    should_consider_ordering: bool = False
    prompt_version: int = Field(0, ge=0)

    @property
    def builtin(self) -> Builtin:
        """What is fixed about it."""
        return BUILTINS[self.judge]

    @property
    def targets(self) -> frozenset[TargetType]:
        """What it is made for."""
        return self.builtin.targets

    @model_validator(mode="before")
    @classmethod
    def _newest(cls, value: Any) -> Any:
        """A definition that names no version of the prompt stays with the newest of today."""
        if isinstance(value, dict) and not value.get("prompt_version") and value.get("judge") in BUILTINS:
            return value | {"prompt_version": BUILTINS[value["judge"]].prompt_version}
        return value

    @field_validator("judge")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in BUILTINS:
            raise ValueError(f"must be one of {', '.join(BUILTINS)}")
        return value

    @field_validator("guidelines", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _fitting(self) -> "BuiltinJudge":
        if self.builtin.guidelines != bool(self.guidelines):
            raise ValueError(f"guidelines {'are needed by' if not self.guidelines else 'are not for'} {self.judge}")
        if not 1 <= self.prompt_version <= self.builtin.prompt_version:
            raise ValueError(f"prompt_version must be from 1 to {self.builtin.prompt_version}")
        if (self.should_exact_match or self.should_consider_ordering) and self.judge != "ToolCallCorrectness":
            raise ValueError("should_exact_match and should_consider_ordering are for ToolCallCorrectness")
        return self
