"""deepeval's metrics."""

from typing import Any

from tracestone.schema.extras import optional
from tracestone.schema.scorers.third_party import ThirdParty
from tracestone.scoring.third_party.case import Case, ToolCall
from tracestone.scoring.third_party.meter import Meter

_metrics = optional("deepeval.metrics", "deepeval", "deepeval")
_BaseLLM: Any = optional("deepeval.models", "deepeval", "deepeval").DeepEvalBaseLLM
_cases = optional("deepeval.test_case", "deepeval", "deepeval")


class _Model(_BaseLLM):  # type: ignore[misc]
    """Asks our provider."""

    def __init__(self, name: str, meter: Meter) -> None:
        self.name = name
        self._meter = meter

    def load_model(self, *_args: Any, **_options: Any) -> "_Model":
        return self

    def get_model_name(self, *_args: Any, **_options: Any) -> str:
        return self.name

    def generate(self, *_args: Any, **_options: Any) -> str:
        self._meter.refuse_to_block()

    async def a_generate(self, prompt: str, schema: Any = None, **_options: Any) -> Any:
        messages = [{"role": "user", "content": str(prompt)}]
        if schema is None:
            return await self._meter.text(messages)
        return schema.model_validate(await self._meter.document(messages, schema.model_json_schema()))


async def score(parameters: ThirdParty, case: Case, meter: Meter) -> tuple[float, str, dict[str, str]]:
    """The score and the reason."""
    given = {name: value for name, value in parameters.parameters.items() if name != "chatbot_role"}
    kind = getattr(_metrics, f"{parameters.metric}Metric")
    metric = kind(model=_Model(parameters.model, meter), async_mode=True, **given)
    await metric.a_measure(_test_case(parameters, case), _show_indicator=False)
    if metric.score is None:
        raise ValueError(str(metric.error or "the metric has no score"))
    return float(metric.score), metric.reason or "", {}


def _test_case(parameters: ThirdParty, case: Case) -> Any:
    if "conversation" in parameters.what.needs:
        turns = []
        for said, answered in case.turns:
            turns += [_cases.Turn(role="user", content=said), _cases.Turn(role="assistant", content=answered)]
        return _cases.ConversationalTestCase(turns=turns, chatbot_role=parameters.parameters.get("chatbot_role"))
    return _cases.LLMTestCase(
        input=case.input,
        actual_output=case.output,
        expected_output=case.reference or None,
        context=list(case.contexts) or None,
        retrieval_context=list(case.contexts) or None,
        tools_called=[_tool(call) for call in case.tools],
    )


def _tool(call: ToolCall) -> Any:
    return _cases.ToolCall(name=call.name, input_parameters=call.arguments)
