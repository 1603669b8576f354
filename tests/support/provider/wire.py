"""What the wire forms have in common: how one answers, streams, fails, and tells what it has said."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from starlette.responses import JSONResponse, Response, StreamingResponse

from support.provider.script import Fault, Message, Reply


@dataclass(frozen=True)
class Asked:
    """A request as read: `tools` are the names of those it offers."""

    body: dict[str, Any]
    model: str
    messages: list[Message]
    stream: bool
    tools: list[str]


@dataclass(frozen=True)
class Said:
    """An answer in its wire form, and the same as facts.

    A number of tokens is None when this answer does not carry it.
    """

    body: Any
    parts: list[dict[str, Any]]
    finish_reason: str
    usage: dict[str, int | None]
    response_id: str
    response_model: str
    events: list[bytes] = field(default_factory=list)

    def response(self) -> Response:
        """The HTTP answer; a stream when there are events."""
        if self.events:
            return StreamingResponse(_each(self.events), media_type="text/event-stream")
        return JSONResponse(self.body)


class Wire(Protocol):
    """A form of asking and answering; `api` and `provider` name it in the facts."""

    api: str
    provider: str

    def read(self, path: str, body: dict[str, Any]) -> Asked:
        """The request."""

    def say(self, asked: Asked, reply: Reply, number: int) -> Said:
        """The answer to it; `number` makes its ids."""

    def fail(self, fault: Fault) -> tuple[dict[str, Any], str]:
        """The error's body and its type in the provider's words."""


def usage(reply: Reply) -> dict[str, int | None]:
    """A reply's tokens: input with the cache's, output with the reasoning's."""
    return {
        "input_tokens": reply.input,
        "cache_read_tokens": reply.cache_read,
        "cache_write_tokens": reply.cache_write,
        "output_tokens": reply.output,
        "reasoning_tokens": reply.reasoning_tokens,
    }


def event(data: Any, name: str | None = None) -> bytes:
    """One server-sent event."""
    head = f"event: {name}\n".encode() if name else b""
    return head + b"data: " + json.dumps(data, ensure_ascii=False).encode() + b"\n\n"


def pieces(text: str) -> list[str]:
    """A text in the pieces in which it is streamed."""
    words = text.split(" ")
    return [word if index == 0 else " " + word for index, word in enumerate(words)]


async def _each(events: Iterable[bytes]) -> Any:
    for one in events:
        yield one
