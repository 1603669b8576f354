"""The judges that come with Tracestone, from their prompt files to something that scores."""

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from tracestone.schema.scorers.builtin import YES_NO, BuiltinJudge
from tracestone.schema.scorers.verdicts import CategoryVerdict
from tracestone.scoring.judges.contents import documents_of, tool_spans
from tracestone.scoring.judges.judge import JudgeScorer
from tracestone.scoring.judges.prompts import Brief, Shown
from tracestone.scoring.judges.verdict import Answer, Asked, Form
from tracestone.scoring.llm import Provider
from tracestone.scoring.scorers.protocol import AttemptFailed, Outcome, Subject, TargetScorer

MAX_DOCUMENTS = 20

_SECTION = re.compile(r"^## (.+)$", re.MULTILINE)
_FENCE = re.compile(r"```yaml\n(.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Prompt:
    """One version of what a built-in judge is told; `example` has the contents by variable, and the right answer."""

    title: str
    measures: str
    instructions: str
    example: Mapping[str, Any]
    limits: str


@cache
def prompt(name: str, version: int) -> Prompt:
    """Reads a prompt file."""
    text = (files(__package__) / "prompt_files" / f"{name}.{version}.md").read_text(encoding="utf-8")
    head, *rest = _SECTION.split(text)
    sections = dict(zip(rest[::2], (body.strip() for body in rest[1::2]), strict=True))
    title, _, measures = head.strip().partition("\n")
    fence = _FENCE.search(sections["Worked example"])
    if fence is None:
        raise ValueError(f"{name}.{version}.md has no worked example")
    example = yaml.safe_load(fence[1])
    return Prompt(
        title.removeprefix("# "), measures.strip(), sections["Instructions"], example, sections["What it cannot judge"]
    )


def of_definition(parameters: BuiltinJudge, provider: Provider) -> TargetScorer:
    """The scorer that a stored definition names."""
    if parameters.judge == "RetrievalRelevance":
        return RetrievalRelevance(parameters, provider)
    if parameters.judge == "ToolCallCorrectness":
        return ToolCallCorrectness(parameters, provider)
    return _judge(parameters, brief_of(parameters), provider)


def brief_of(parameters: BuiltinJudge) -> Brief:
    """What a built-in judge is told."""
    told = prompt(parameters.builtin.prompt, parameters.prompt_version)
    verdict = CategoryVerdict(type="category", categories=parameters.builtin.labels or YES_NO)
    form = Form((Asked("", "", verdict),))
    texts = {"guidelines": "\n".join(f"- {rule}" for rule in parameters.guidelines)} if parameters.guidelines else {}
    return Brief(told.instructions, form, parameters.max_content_characters, texts, _shown(told, form))


class RetrievalRelevance:
    """Asks of each document whether it is relevant; the value is the share of those that are."""

    source_type = "LLM_JUDGE"

    def __init__(self, parameters: BuiltinJudge, provider: Provider) -> None:
        self._parameters = parameters
        self._provider = provider
        self.source_id = parameters.model
        self.retries = parameters.retries

    async def score(self, subject: Subject) -> Outcome:
        """The share from 0 to 1, with each document's verdict in the metadata. Raises AttemptFailed."""
        documents = await asyncio.to_thread(documents_of, subject)
        count = min(len(documents), MAX_DOCUMENTS)
        told = prompt(self._parameters.builtin.prompt, self._parameters.prompt_version)
        brief = replace(brief_of(self._parameters), form=_documents_form(count), examples=_documents_shown(told))
        outcome = await _judge(self._parameters, brief, self._provider).score(subject)
        verdicts = {one.name: one.value for one in outcome.named}
        relevant = sum(value == "yes" for value in verdicts.values())
        reasons = "\n".join(f"{one.name}: {one.value}. {one.rationale}" for one in outcome.named)
        return replace(
            outcome,
            value=relevant / count,
            rationale=f"{relevant} of {count} documents are relevant.\n{reasons}",
            metadata=outcome.metadata | {"documents": json.dumps(verdicts), "retrieved": str(len(documents))},
            named=(),
        )


class ToolCallCorrectness:
    """Compares the calls with the expected ones in code, or asks a model."""

    def __init__(self, parameters: BuiltinJudge, provider: Provider) -> None:
        self._parameters = parameters
        self._provider = provider
        exact = parameters.should_exact_match
        self.source_type = "CODE" if exact else "LLM_JUDGE"
        self.source_id = f"builtin_judge/{parameters.judge}" if exact else parameters.model
        self.retries = 0 if exact else parameters.retries

    async def score(self, subject: Subject) -> Outcome:
        """yes or no. Raises AttemptFailed."""
        expected = subject.expectations.get("expected_tool_calls")
        if self._parameters.should_exact_match:
            return self._compared(subject, expected)
        told = "" if expected is None else "The calls that are expected: {{ expected_tool_calls }}"
        brief = brief_of(self._parameters)
        # The operator's sentence stands around recorded content, which stays between its marks.
        brief = replace(brief, instructions=brief.instructions.replace("{{ expected }}", told))
        return await _judge(self._parameters, brief, self._provider).score(subject)

    def _compared(self, subject: Subject, expected: Any) -> Outcome:
        if not isinstance(expected, list):
            raise AttemptFailed("NO_EXPECTATION", "expected_tool_calls must be a list of calls", retryable=False)
        wanted = [_call(item) for item in expected]
        made = [(one.tool_name or one.name, _parsed(one.tool_arguments or one.input)) for one in tool_spans(subject)]
        right = len(wanted) == len(made) and self._match(wanted, made)
        rationale = f"Expected: {_written(wanted)}\nCalled: {_written(made)}"
        return Outcome(self.source_type, self.source_id, "yes" if right else "no", rationale)

    def _match(self, wanted: list[tuple[str, Any]], made: list[tuple[str, Any]]) -> bool:
        if self._parameters.should_consider_ordering:
            return all(map(_agree, wanted, made))
        left = list(made)
        # Those that say which arguments go first: a mere name would take their call away.
        for call in sorted(wanted, key=lambda call: call[1] is None):
            found = next((other for other in left if _agree(call, other)), None)
            if found is None:
                return False
            left.remove(found)
        return True


def _judge(parameters: BuiltinJudge, brief: Brief, provider: Provider) -> JudgeScorer:
    metadata = {"judge": parameters.judge, "prompt_version": str(parameters.prompt_version)}
    return JudgeScorer(brief, parameters, provider, metadata=metadata)


def _shown(told: Prompt, form: Form) -> tuple[Shown, ...]:
    if "value" not in told.example:
        return ()
    answer = Answer(rationale=told.example["rationale"], value=told.example["value"])
    return (Shown(_contents(told), form.write({"": answer})),)


def _documents_form(count: int) -> Form:
    verdict = CategoryVerdict(type="category", categories=YES_NO)
    return Form(tuple(Asked(f"document_{n}", f"Is document {n} relevant?", verdict) for n in range(1, count + 1)))


def _documents_shown(told: Prompt) -> tuple[Shown, ...]:
    names = [name for name in told.example if name.startswith("document_")]
    answers = {name: Answer(rationale=told.example["rationale"], value=told.example[name]) for name in names}
    return (Shown(_contents(told), _documents_form(len(names)).write(answers)),)


def _contents(told: Prompt) -> dict[str, str]:
    return {name: str(text) for name, text in told.example.items() if name not in ("rationale", "value")}


def _call(item: Any) -> tuple[str, Any]:
    if isinstance(item, str):
        return item, None
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        raise AttemptFailed("NO_EXPECTATION", "each of expected_tool_calls must be a name or have one", retryable=False)
    return item["name"], item.get("arguments", item.get("args"))


def _agree(wanted: tuple[str, Any], made: tuple[str, Any]) -> bool:
    return wanted[0] == made[0] and (wanted[1] is None or wanted[1] == made[1])


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _written(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
