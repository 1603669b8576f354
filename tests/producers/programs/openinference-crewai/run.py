"""openinference-instrumentation-crewai, with openinference-instrumentation-openai for the models' calls under it."""

from crewai import LLM, Agent, Crew, Task
from crewai.tools import tool
from export import tracing
from openinference.instrumentation import using_attributes
from openinference.instrumentation.crewai import CrewAIInstrumentor
from openinference.instrumentation.openai import OpenAIInstrumentor
from story import CHAT, REASONER, SESSION, USER, get_weather, provider_url, question, questions, system

provider = tracing()
CrewAIInstrumentor().instrument(tracer_provider=provider)
OpenAIInstrumentor().instrument(tracer_provider=provider)


def crew(scenario, asked, model=CHAT, tools=()):
    """One agent with one task."""
    llm = LLM(model=f"openai/{model}", base_url=provider_url("/v1"), max_retries=0)
    agent = Agent(
        role=f"{scenario} agent",
        goal=system(scenario),
        backstory=system(scenario),
        llm=llm,
        tools=list(tools),
        max_retry_limit=0,
    )
    task = Task(description=asked, expected_output="a sentence", agent=agent)
    return Crew(agents=[agent], tasks=[task], name=f"{scenario} crew", verbose=False)


crew("plain", question("plain")).kickoff()
crew("tool", question("tool"), tools=[tool("get_weather")(get_weather)]).kickoff()
crew("cached", question("cached"), REASONER).kickoff()
with using_attributes(session_id=SESSION, user_id=USER):
    for asked in questions("conversation"):
        crew("conversation", asked).kickoff()
for scenario in ("broken", "refused"):
    try:
        crew(scenario, question(scenario)).kickoff()
    except Exception as error:
        print(scenario, type(error))
