"""openinference-instrumentation-langchain: chat models, an agent, a retriever."""

import openai
from export import tracing
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from openinference.instrumentation import using_attributes
from openinference.instrumentation.langchain import LangChainInstrumentor
from story import CHAT, EMBEDDER, REASONER, SESSION, USER, documents, get_weather, question, questions, system

LangChainInstrumentor().instrument(tracer_provider=tracing())
model = ChatOpenAI(model=CHAT, max_retries=0)


def ask(scenario):
    """The first messages."""
    return [SystemMessage(system(scenario)), HumanMessage(question(scenario))]


model.invoke(ask("plain"))
for _ in ChatOpenAI(model=CHAT, max_retries=0, stream_usage=True).stream(ask("stream")):
    pass
agent = create_agent(model, [tool(get_weather)], system_prompt=system("tool"), name="weather_agent")
agent.invoke({"messages": [HumanMessage(question("tool"))]})
ChatOpenAI(model=REASONER, max_retries=0).invoke(ask("cached"))
with using_attributes(session_id=SESSION, user_id=USER):
    messages = [SystemMessage(system("conversation"))]
    for asked in questions("conversation"):
        messages.append(HumanMessage(asked))
        messages.append(model.invoke(messages))
for scenario in ("rate_limited", "broken", "refused"):
    try:
        model.invoke(ask(scenario))
    except openai.APIStatusError:
        pass
store = InMemoryVectorStore.from_texts(documents(), OpenAIEmbeddings(model=EMBEDDER, check_embedding_ctx_length=False))
retriever = store.as_retriever(search_kwargs={"k": 1})
prompt = ChatPromptTemplate.from_messages([("system", system("retrieval")), ("human", "{context}\n\n{question}")])
chain = prompt | model | StrOutputParser()
found = retriever.invoke(question("retrieval"))
chain.invoke({"context": found[0].page_content, "question": question("retrieval")})
