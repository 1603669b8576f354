"""Haystack with its own tracing, content switched on."""

import os

os.environ["HAYSTACK_CONTENT_TRACING_ENABLED"] = "true"  # read when Haystack is imported

from export import tracing
from haystack import Document, Pipeline
from haystack import tracing as haystack_tracing
from haystack.components.agents import Agent
from haystack.components.builders import ChatPromptBuilder
from haystack.components.embedders import OpenAIDocumentEmbedder, OpenAITextEmbedder
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
from haystack.dataclasses import ChatMessage
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.tools import create_tool_from_function
from haystack_integrations.tracing.opentelemetry import OpenTelemetryTracer
from story import CHAT, EMBEDDER, REASONER, documents, get_weather, question, questions, system

haystack_tracing.enable_tracing(OpenTelemetryTracer(tracing().get_tracer("haystack")))
haystack_tracing.tracer.is_content_tracing_enabled = True


def pipeline(model=CHAT, **more):
    """A pipeline with nothing but a chat generator."""
    line = Pipeline()
    line.add_component("llm", OpenAIChatGenerator(model=model, max_retries=0, **more))
    return line


def ask(scenario):
    """The first messages."""
    return [ChatMessage.from_system(system(scenario)), ChatMessage.from_user(question(scenario))]


pipeline().run({"llm": {"messages": ask("plain")}})
streamed = {"streaming_callback": lambda chunk: None, "generation_kwargs": {"stream_options": {"include_usage": True}}}
pipeline(**streamed).run({"llm": {"messages": ask("stream")}})
weather = Agent(
    chat_generator=OpenAIChatGenerator(model=CHAT, max_retries=0),
    tools=[create_tool_from_function(get_weather)],
    system_prompt=system("tool"),
)
line = Pipeline()
line.add_component("weather_agent", weather)
line.run({"weather_agent": {"messages": [ChatMessage.from_user(question("tool"))]}})
pipeline(REASONER).run({"llm": {"messages": ask("cached")}})
messages = [ChatMessage.from_system(system("conversation"))]
for asked in questions("conversation"):
    messages.append(ChatMessage.from_user(asked))
    messages += pipeline().run({"llm": {"messages": messages}})["llm"]["replies"]
for scenario in ("rate_limited", "broken", "refused"):
    try:
        pipeline().run({"llm": {"messages": ask(scenario)}})
    except Exception as error:
        print(scenario, type(error))
store = InMemoryDocumentStore()
embedded = OpenAIDocumentEmbedder(model=EMBEDDER, progress_bar=False).run(
    [Document(content=one) for one in documents()]
)
store.write_documents(embedded["documents"])
line = Pipeline()
line.add_component("embedder", OpenAITextEmbedder(model=EMBEDDER))
line.add_component("retriever", InMemoryEmbeddingRetriever(store, top_k=1))
template = [
    ChatMessage.from_system(system("retrieval")),
    ChatMessage.from_user("{{ documents[0].content }}\n\n" + question("retrieval")),
]
line.add_component("prompt", ChatPromptBuilder(template=template, required_variables=["documents"]))
line.add_component("llm", OpenAIChatGenerator(model=CHAT, max_retries=0))
line.connect("embedder.embedding", "retriever.query_embedding")
line.connect("retriever.documents", "prompt.documents")
line.connect("prompt.prompt", "llm.messages")
line.run({"embedder": {"text": question("retrieval")}})
