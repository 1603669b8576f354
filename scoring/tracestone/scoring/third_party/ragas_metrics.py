"""ragas's metrics."""

from typing import Any

from tracestone.schema.extras import optional
from tracestone.schema.scorers.third_party import ThirdParty
from tracestone.scoring.third_party.case import Case
from tracestone.scoring.third_party.meter import Meter

_metrics = optional("ragas.metrics.collections", "ragas", "ragas")
_BaseLLM: Any = optional("ragas.llms.base", "ragas", "ragas").InstructorBaseRagasLLM
_BaseEmbedding: Any = optional("ragas.embeddings.base", "ragas", "ragas").BaseRagasEmbedding


class _Model(_BaseLLM):  # type: ignore[misc]
    """Asks our provider."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def generate(self, prompt: str, response_model: Any) -> Any:
        self._meter.refuse_to_block()

    async def agenerate(self, prompt: str, response_model: Any) -> Any:
        messages = [{"role": "user", "content": prompt}]
        return response_model.model_validate(await self._meter.document(messages, response_model.model_json_schema()))


class _Embedding(_BaseEmbedding):  # type: ignore[misc]
    """Asks our provider."""

    def __init__(self, meter: Meter) -> None:
        super().__init__()
        self._meter = meter

    def embed_text(self, text: str, **_options: Any) -> list[float]:
        self._meter.refuse_to_block()

    async def aembed_text(self, text: str, **_options: Any) -> list[float]:
        (vector,) = await self._meter.vectors([text])
        return vector

    async def aembed_texts(self, texts: list[str], **_options: Any) -> list[list[float]]:
        return await self._meter.vectors(texts)


# The arguments of each metric, by what is needed of a case.
_ARGUMENTS = {"input": "user_input", "output": "response", "reference": "reference", "contexts": "retrieved_contexts"}


async def score(parameters: ThirdParty, case: Case, meter: Meter) -> tuple[float, str, dict[str, str]]:
    """The score and the reason."""
    given = {**parameters.parameters, "llm": _Model(meter)}
    if parameters.what.embeds:
        given["embeddings"] = _Embedding(meter)
    metric = getattr(_metrics, parameters.metric)(**given)
    read = {"input": case.input, "output": case.output, "reference": case.reference, "contexts": list(case.contexts)}
    arguments = {_ARGUMENTS[need]: read[need] for need in parameters.what.needs}
    if parameters.metric == "SummaryScore":
        arguments["reference_contexts"] = arguments.pop("retrieved_contexts")
    found = await metric.ascore(**arguments)
    return float(found.value), found.reason or "", {}
