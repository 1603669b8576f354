"""Strands Agents with its own telemetry, on OpenAI and Anthropic."""

from export import tracing
from story import CHAT, CLAUDE, REASONER, SESSION, USER, get_weather, question, questions, system
from strands import Agent, tool
from strands.models.anthropic import AnthropicModel
from strands.models.openai import OpenAIModel

tracing()
weather = tool(get_weather)


def agent(scenario, model, **more):
    """An agent with the scenario's instructions."""
    return Agent(model=model, name=f"{scenario}_agent", system_prompt=system(scenario), callback_handler=None, **more)


def tell(model, reasoner):
    """The story with one provider's models; Strands always streams."""
    agent("plain", model())(question("plain"))
    agent("tool", model(), tools=[weather])(question("tool"))
    agent("cached", reasoner())(question("cached"))
    # A client lives in one event loop, and each call of an agent has one of its own.
    friend = agent("conversation", model(), trace_attributes={"session.id": SESSION, "user.id": USER})
    for asked in questions("conversation"):
        friend.model = model()
        friend(asked)
    for scenario in ("broken", "refused"):
        try:
            agent(scenario, model(), retry_strategy=None)(question(scenario))
        except Exception as error:
            print(scenario, type(error))


once = {"client_args": {"max_retries": 0}}
tell(lambda: OpenAIModel(model_id=CHAT, **once), lambda: OpenAIModel(model_id=REASONER, **once))
thinking = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
tell(
    lambda: AnthropicModel(model_id=CLAUDE, max_tokens=500, **once),
    lambda: AnthropicModel(model_id=CLAUDE, max_tokens=2048, params=thinking, **once),
)
