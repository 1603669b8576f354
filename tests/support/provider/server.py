"""A local model provider on a real port: OpenAI's, Anthropic's and Gemini's forms over one story, and a log of it.

What it answers follows from the request alone (`script.py`), so what a producer must tell is known: `calls` are the
facts of every request in the order of arrival. It runs on a thread with an event loop of its own.
"""

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from support.provider import embeddings
from support.provider.anthropic import Anthropic
from support.provider.gemini import Gemini
from support.provider.openai_chat import OpenAIChat
from support.provider.openai_responses import OpenAIResponses
from support.provider.script import Fault, next_reply
from support.provider.wire import Wire

_NO_RETRY = {"x-should-retry": "false"}


@dataclass
class Call:
    """One request and its answer; `facts` is what a trace of it must say, times are of this machine's clock."""

    began_ns: int
    facts: dict[str, Any]
    ended_ns: int = 0


@dataclass
class Provider:
    """The running server; `url` has no path."""

    url: str = ""
    calls: list[Call] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    _numbers: Counter[str] = field(default_factory=Counter)

    def routes(self) -> list[BaseRoute]:
        """Its paths, to be served on their own or beside others."""
        return [
            self._route("/v1/chat/completions", OpenAIChat()),
            self._route("/v1/responses", OpenAIResponses()),
            self._route("/v1/messages", Anthropic()),
            Route("/v1/embeddings", self._embeddings, methods=["POST"]),
            Route("/{version}/models/{model}:embedContent", self._gemini_embeddings, methods=["POST"]),
            Route("/{version}/models/{model}:batchEmbedContents", self._gemini_embeddings, methods=["POST"]),
            self._route("/{version}/models/{model:path}", Gemini()),
            Route("/{path:path}", self._nothing, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
        ]

    def _route(self, path: str, wire: Wire) -> Route:
        async def answer(request: Request) -> Response:
            began_ns = time.time_ns()
            asked = wire.read(request.url.path, await request.json())
            reply = next_reply(asked.messages)
            if reply is None:
                self.unexpected.append(f"{request.url.path}: {asked.messages}")
                return JSONResponse(wire.fail(Fault("unknown", 400, "The story has no such question."))[0], 400)
            self._numbers[reply.scenario] += 1
            facts: dict[str, Any] = {
                "scenario": reply.scenario,
                "api": wire.api,
                "provider": wire.provider,
                "stream": asked.stream,
                "request_model": asked.model,
                "input_messages": asked.messages,
                "tools": asked.tools,
            }
            call = Call(began_ns, facts)
            self.calls.append(call)
            if isinstance(reply, Fault):
                body, kind = wire.fail(reply)
                facts["error"] = {"status": reply.status, "type": kind, "message": reply.message}
                call.ended_ns = time.time_ns()
                return JSONResponse(body, reply.status, _NO_RETRY)
            said = wire.say(asked, reply, self._numbers[reply.scenario])
            facts["response_model"] = said.response_model
            facts["response_id"] = said.response_id
            facts["output_messages"] = [{"role": "assistant", "parts": said.parts}]
            facts["finish_reason"] = said.finish_reason
            facts |= said.usage
            call.ended_ns = time.time_ns()
            return said.response()

        return Route(path, answer, methods=["POST"])

    async def _embeddings(self, request: Request) -> Response:
        body = await request.json()
        return self._embedded("openai.embeddings", "openai", embeddings.openai(body))

    async def _gemini_embeddings(self, request: Request) -> Response:
        body = await request.json()
        return self._embedded("gemini.embed_content", "gcp.gemini", embeddings.gemini(request.url.path, body))

    def _embedded(self, api: str, provider: str, said: embeddings.Embedded) -> Response:
        facts = {
            "scenario": "embeddings",
            "api": api,
            "provider": provider,
            "request_model": said.model,
            "texts": said.texts,
            "input_tokens": said.tokens,
        }
        now = time.time_ns()
        self.calls.append(Call(now, facts, now))
        return JSONResponse(said.body)

    async def _nothing(self, request: Request) -> Response:
        self.unexpected.append(f"{request.method} {request.url.path}")
        return JSONResponse({"error": {"message": f"no such path: {request.url.path}"}}, 404)


@contextmanager
def serving(routes: list[BaseRoute]) -> Iterator[str]:
    """Serves routes on a free port of this machine; yields the URL without a path."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(
            Starlette(routes=routes), log_level="critical", lifespan="off", ws="none", timeout_graceful_shutdown=1
        )
    )
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=10)
        listening.close()


@contextmanager
def provider() -> Iterator[Provider]:
    """A provider for the block."""
    told = Provider()
    with serving(told.routes()) as url:
        told.url = url
        yield told
