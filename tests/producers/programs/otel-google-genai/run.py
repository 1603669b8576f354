"""opentelemetry-instrumentation-google-genai on Google's own SDK."""

from export import logging, tracing
from google import genai
from google.genai import errors, types
from opentelemetry.instrumentation.google_genai import GoogleGenAiSdkInstrumentor
from story import GEMINI, TOOL, documents, get_weather, question, questions, system

GoogleGenAiSdkInstrumentor().instrument(tracer_provider=tracing(), logger_provider=logging())
client = genai.Client()


def config(scenario, **more):
    """The scenario's system instruction."""
    return types.GenerateContentConfig(system_instruction=system(scenario), **more)


def ask(scenario, **more):
    """One question."""
    return client.models.generate_content(model=GEMINI, contents=question(scenario), config=config(scenario, **more))


ask("plain")
for _ in client.models.generate_content_stream(model=GEMINI, contents=question("stream"), config=config("stream")):
    pass
ask("tool", tools=[get_weather])  # Google's SDK runs the tool itself, within one call of ours
declared = types.Tool(
    function_declarations=[
        types.FunctionDeclaration(
            name=TOOL["name"], description=TOOL["description"], parameters_json_schema=TOOL["parameters"]
        )
    ]
)
asked = [types.Content(role="user", parts=[types.Part(text=question("tool"))])]
answer = client.models.generate_content(model=GEMINI, contents=asked, config=config("tool", tools=[declared]))
call = answer.function_calls[0]
result = types.Part.from_function_response(name=call.name, response={"result": get_weather(**call.args)})
asked += [answer.candidates[0].content, types.Content(role="user", parts=[result])]
client.models.generate_content(model=GEMINI, contents=asked, config=config("tool", tools=[declared]))
ask("cached", thinking_config=types.ThinkingConfig(include_thoughts=True))
chat = client.chats.create(model=GEMINI, config=config("conversation"))
for asked in questions("conversation"):
    chat.send_message(asked)
for scenario in ("rate_limited", "broken", "refused"):
    try:
        ask(scenario)
    except errors.APIError:
        pass
client.models.embed_content(model="gemini-embedding-001", contents=documents())
