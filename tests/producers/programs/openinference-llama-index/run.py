"""openinference-instrumentation-llama-index: chat, an agent with a tool, an index with a query engine."""

import asyncio

import openai
from export import tracing
from llama_index.core import Document, VectorStoreIndex
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import ChatMessage
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.openai import OpenAI
from openinference.instrumentation import using_attributes
from openinference.instrumentation.llama_index import LlamaIndexInstrumentor
from story import (
    CHAT,
    EMBEDDER,
    REASONER,
    SESSION,
    USER,
    documents,
    get_weather,
    provider_url,
    question,
    questions,
    system,
)

LlamaIndexInstrumentor().instrument(tracer_provider=tracing())
there = {"api_base": provider_url("/v1"), "max_retries": 0}
model = OpenAI(model=CHAT, **there)


def ask(scenario):
    """The first messages."""
    return [ChatMessage(role="system", content=system(scenario)), ChatMessage(content=question(scenario))]


async def agent():
    """The model asks for the tool, the tool runs, the model answers."""
    weather = FunctionAgent(
        name="weather_agent", tools=[get_weather], llm=model, system_prompt=system("tool"), streaming=False
    )
    await weather.run(question("tool"))


model.chat(ask("plain"))
for _ in OpenAI(model=CHAT, additional_kwargs={"stream_options": {"include_usage": True}}, **there).stream_chat(
    ask("stream")
):
    pass
asyncio.run(agent())
OpenAI(model=REASONER, **there).chat(ask("cached"))
with using_attributes(session_id=SESSION, user_id=USER):
    messages = [ChatMessage(role="system", content=system("conversation"))]
    for asked in questions("conversation"):
        messages.append(ChatMessage(content=asked))
        messages.append(model.chat(messages).message)
for scenario in ("rate_limited", "broken", "refused"):
    try:
        model.chat(ask(scenario))
    except openai.APIStatusError:
        pass
embedder = OpenAIEmbedding(model=EMBEDDER, **there)
index = VectorStoreIndex.from_documents([Document(text=text) for text in documents()], embed_model=embedder)
index.as_query_engine(llm=model, similarity_top_k=1).query(question("retrieval"))
