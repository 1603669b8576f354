"""Phoenix's evaluators."""

from typing import Any

from tracestone.schema.extras import optional
from tracestone.schema.scorers.third_party import ThirdParty
from tracestone.scoring.third_party.case import Case
from tracestone.scoring.third_party.meter import Meter

_metrics = optional("phoenix.evals.metrics", "arize-phoenix-evals", "phoenix")
_LLM: Any = optional("phoenix.evals.llm", "arize-phoenix-evals", "phoenix").LLM


class _Model(_LLM):  # type: ignore[misc]
    """Asks our provider."""

    def __init__(self, name: str, meter: Meter) -> None:
        # Not LLM's own, which makes clients of providers.
        self.provider = "tracestone"
        self.model = name
        self._meter = meter

    async def async_generate_text(self, prompt: Any, tracer: Any = None, **_options: Any) -> str:
        return await self._meter.text(_messages(prompt))

    async def async_generate_object(self, prompt: Any, schema: Any, tracer: Any = None, **_options: Any) -> Any:
        return await self._meter.document(_messages(prompt), schema)


async def score(parameters: ThirdParty, case: Case, meter: Meter) -> tuple[float, str, dict[str, str]]:
    """The score, its explanation, and the label."""
    evaluator = getattr(_metrics, f"{parameters.metric}Evaluator")(llm=_Model(parameters.model, meter))
    given = {
        "input": case.input,
        "output": case.output,
        "text": case.output,
        "context": "\n\n".join(case.contexts),
        "conversation": case.transcript,
        "user_message": case.turns[-1][0] if case.turns else "",
    }
    (found,) = await evaluator.async_evaluate(given)
    return float(found.score), found.explanation or "", {"label": str(found.label)}


def _messages(prompt: Any) -> list[dict[str, str]]:
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    return [{"role": str(getattr(m["role"], "value", m["role"])), "content": _content(m["content"])} for m in prompt]


def _content(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text", "")) for part in content)
