"""A local server that speaks OpenAI's chat completions and embeddings: the one remote party that tests may fake.

It runs on a thread with an event loop of its own, so that clients of any kind and other processes can call
it. What it answers is a script of behaviours, used up one request at a time; after the script, or without
one, it answers every request with something that fits the request's `response_format`.
"""

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route


@dataclass(frozen=True)
class Answer:
    """A completion. Token counts of None are estimated at four characters a token.

    `tool_calls` are the tools that the model wants to be run, by name with their arguments.
    """

    text: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    model: str | None = None
    tool_calls: tuple[tuple[str, dict[str, Any]], ...] = ()


@dataclass(frozen=True)
class Failure:
    """An error in OpenAI's shape."""

    status: int
    message: str = "the server had an error"
    headers: dict[str, str] = field(default_factory=dict)
    code: str | None = None


@dataclass(frozen=True)
class Raw:
    """A body that is not what the protocol asks for, with status 200."""

    body: bytes


@dataclass(frozen=True)
class Slow:
    """Another behaviour, after a while."""

    seconds: float
    then: "Behaviour"


@dataclass(frozen=True)
class Held:
    """Another behaviour, once somebody sets the event."""

    until: threading.Event
    then: "Behaviour"


Behaviour = Answer | Failure | Raw | Slow | Held


@dataclass
class Received:
    """One request as it came in."""

    body: dict[str, Any]
    headers: dict[str, str]


class OpenAIServer:
    """The running server; `url` ends in /v1. Thread-safe enough for tests: appends and pops are atomic."""

    def __init__(self, *, require_key: str | None = None) -> None:
        self.received: list[Received] = []
        self.script: list[Behaviour] = []
        self.answer: Callable[[dict[str, Any]], Behaviour] = fitting
        self.require_key = require_key
        self.most_at_once = 0
        self._at_once = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"
        app = Starlette(
            routes=[
                Route("/v1/chat/completions", self._completions, methods=["POST"]),
                Route("/v1/embeddings", self._completions, methods=["POST"]),
            ]
        )
        self._server = uvicorn.Server(
            uvicorn.Config(app, log_level="critical", lifespan="off", ws="none", timeout_graceful_shutdown=1)
        )
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)

    def start(self) -> None:
        """Serves until `stop`."""
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)

    def stop(self) -> None:
        """Ends the server, requests in flight included."""
        self._server.should_exit = True
        self._thread.join(timeout=10)
        self._socket.close()

    @property
    def at_once(self) -> int:
        """Requests being answered now."""
        return self._at_once

    async def _completions(self, request: Request) -> Response:
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            body = await request.json()
            self.received.append(Received(body, dict(request.headers)))
            key = request.headers.get("authorization", "").removeprefix("Bearer ")
            if self.require_key is not None and key != self.require_key:
                return _failure(Failure(401, f"Incorrect API key provided: {key}.", code="invalid_api_key"))
            behaviour = self.script.pop(0) if self.script else self.answer(body)
            while isinstance(behaviour, Slow | Held):
                if isinstance(behaviour, Slow):
                    await asyncio.sleep(behaviour.seconds)
                else:
                    while not behaviour.until.is_set():
                        await asyncio.sleep(0.02)
                behaviour = behaviour.then
            if isinstance(behaviour, Failure):
                return _failure(behaviour)
            if isinstance(behaviour, Raw):
                return Response(behaviour.body, media_type="application/json")
            if "input" in body:
                return JSONResponse(_embeddings(body))
            if body.get("stream"):
                return StreamingResponse(_stream(body, behaviour), media_type="text/event-stream")
            return JSONResponse(_completion(body, behaviour))
        finally:
            self._at_once -= 1


@contextmanager
def openai_server(*, require_key: str | None = None) -> Iterator[OpenAIServer]:
    """A server for the block."""
    server = OpenAIServer(require_key=require_key)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def fitting(body: dict[str, Any]) -> Answer:
    """An answer that fits the schema the request asks for, or a sentence when it asks for none."""
    schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
    if schema is None:
        return Answer("This is a fine day for a walk.")
    return Answer(json.dumps(_example(schema)))


def _example(schema: dict[str, Any]) -> Any:
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            return {name: _example(part) for name, part in schema.get("properties", {}).items()}
        case "array":
            return []
        case "boolean":
            return True
        case "number" | "integer":
            return schema.get("minimum", 1)
        case _:
            return "It reads well."


def _usage(body: dict[str, Any], answer: Answer) -> dict[str, int]:
    prompt = answer.prompt_tokens
    completion = answer.completion_tokens
    prompt = max(1, len(json.dumps(body["messages"])) // 4) if prompt is None else prompt
    completion = max(1, len(answer.text) // 4) if completion is None else completion
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _completion(body: dict[str, Any], answer: Answer) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": answer.text}
    if answer.tool_calls:
        message["tool_calls"] = [
            {
                "id": f"call_{len(body['messages'])}_{number}",
                "type": "function",
                "function": {"name": name, "arguments": json.dumps(arguments)},
            }
            for number, (name, arguments) in enumerate(answer.tool_calls)
        ]
    return {
        "id": "chatcmpl-local",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": answer.model or body["model"],
        "choices": [
            {
                "index": 0,
                "message": message,
                "finish_reason": "tool_calls" if answer.tool_calls else "stop",
            }
        ],
        "usage": _usage(body, answer),
    }


def embedding(text: str) -> list[float]:
    """How often each letter occurs: texts of the same letters are alike."""
    return [float(text.lower().count(letter)) for letter in "abcdefghijklmnopqrstuvwxyz"]


def _embeddings(body: dict[str, Any]) -> dict[str, Any]:
    texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
    tokens = max(1, sum(map(len, texts)) // 4)
    return {
        "object": "list",
        "model": body["model"],
        "data": [{"object": "embedding", "index": i, "embedding": embedding(text)} for i, text in enumerate(texts)],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


async def _stream(body: dict[str, Any], answer: Answer) -> AsyncIterator[bytes]:
    head = {
        "id": "chatcmpl-local",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": answer.model or body["model"],
    }
    words = answer.text.split(" ")
    for index, word in enumerate(words):
        text = word if index == 0 else " " + word
        delta = {"role": "assistant", "content": text} if index == 0 else {"content": text}
        yield _event(head | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    yield _event(head | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    if body.get("stream_options", {}).get("include_usage"):
        yield _event(head | {"choices": [], "usage": _usage(body, answer)})
    yield b"data: [DONE]\n\n"


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def _failure(failure: Failure) -> JSONResponse:
    kinds = {401: "authentication_error", 429: "rate_limit_error", 400: "invalid_request_error"}
    error = {
        "message": failure.message,
        "type": kinds.get(failure.status, "server_error"),
        "param": None,
        "code": failure.code,
    }
    return JSONResponse({"error": error}, failure.status, headers=failure.headers)
