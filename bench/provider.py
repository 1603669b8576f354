"""A model provider for benchmarks: OpenAI's chat completions over HTTP/1.1, at next to no cost of its own.

    python bench/provider.py PORT LATENCY_MS                     one verdict after LATENCY_MS, whatever is asked
    python bench/provider.py PORT LATENCY_MS failing=0.05 refused=0.02 silent=0.01 garbled=0.05 broken=0.01
                                                                 shares of requests that go wrong
    python bench/provider.py PORT LATENCY_MS limit=100           more requests than that in a second are refused

What goes wrong: `failing` gets a 500, `refused` a 429 with a Retry-After of one second, `silent` no answer at all,
`garbled` a completion whose text is no verdict, `broken` a body that is no JSON.

`GET /stats` tells how many answers there were, how many of each kind (`good` those with a verdict), how
many requests at most at once, and the seconds between the first and the last answer; asking resets them.
"""

import asyncio
import json
import random
import sys
import time
from typing import cast

ANSWER = {
    "id": "chatcmpl-bench",
    "object": "chat.completion",
    "created": 0,
    "model": "gpt-4o-mini",
    "usage": {"prompt_tokens": 400, "completion_tokens": 20, "total_tokens": 420},
}
KINDS = ("failing", "refused", "silent", "garbled", "broken")


def _response(status: str, body: object) -> bytes:
    data = json.dumps(body).encode()
    return _raw(status, data)


def _raw(status: str, data: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
    return head.encode() + data


def _error(status: str, message: str) -> bytes:
    return _response(status, {"error": {"message": message, "type": "server_error", "param": None, "code": None}})


def _completion(text: str) -> dict[str, object]:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    return {**ANSWER, "choices": [choice]}


class Stats:
    """What came since the last question."""

    def __init__(self) -> None:
        self.running = 0
        self.second, self.in_second = 0, 0
        self.reset()

    def reset(self) -> None:
        """Begins to count anew."""
        self.count = self.most = 0
        self.kinds = dict.fromkeys(("good", *KINDS), 0)
        self.first = self.last = 0.0


class Connection(asyncio.Protocol):
    """One connection; requests on it come one after the other."""

    def __init__(self, stats: Stats, seconds: float, shares: dict[str, float]) -> None:
        self._stats, self._seconds, self._shares = stats, seconds, shares
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclasses

    def data_received(self, data: bytes) -> None:
        """Answers each request that is complete."""
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._received[:end]).lower()
        place = head.find(b"content-length:")
        length = int(head[place + 15 :].split(b"\r\n", 1)[0]) if place >= 0 else 0
        if len(self._received) < end + 4 + length:
            return
        del self._received[: end + 4 + length]
        stats = self._stats
        if head.startswith(b"get /stats"):
            told = {"count": stats.count, "most": stats.most, "seconds": stats.last - stats.first, **stats.kinds}
            stats.reset()
            self._transport.write(_response("200 OK", told))
            return
        stats.running += 1
        stats.most = max(stats.most, stats.running)
        asyncio.get_running_loop().call_later(self._seconds, self._answer)

    def _answer(self) -> None:
        stats = self._stats
        stats.running -= 1
        stats.count += 1
        stats.last = time.perf_counter()
        stats.first = stats.first or stats.last
        kind = self._kind()
        stats.kinds[kind] += 1
        if kind != "silent":
            self._transport.write(ANSWERS[kind])

    def _kind(self) -> str:
        stats = self._stats
        if limit := self._shares.get("limit"):
            if stats.second != int(stats.last):
                stats.second, stats.in_second = int(stats.last), 0
            stats.in_second += 1
            if stats.in_second > limit:
                return "refused"
        drawn = random.random()
        for kind in KINDS:
            drawn -= self._shares.get(kind, 0.0)
            if drawn < 0:
                return kind
        return "good"


REFUSED = _error("429 Too Many Requests", "too many requests").replace(b"\r\n", b"\r\nretry-after: 1\r\n", 1)
# `value` is what Tracestone asks for, `result` what MLflow does.
ANSWERS = {
    "good": _response("200 OK", _completion('{"rationale": "It is a polite answer.", "value": true, "result": true}')),
    "failing": _error("500 Internal Server Error", "the server had an error"),
    "refused": REFUSED,
    "garbled": _response("200 OK", _completion("I would rather say nothing about it.")),
    "broken": _raw("200 OK", b"<html>Bad gateway</html>"),
}


async def serve(port: int, seconds: float, shares: dict[str, float]) -> None:
    """Until it is ended."""
    stats = Stats()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(stats, seconds, shares), "127.0.0.1", port, backlog=4096)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    given = dict(pair.split("=") for pair in sys.argv[3:])
    uvloop.run(
        serve(int(sys.argv[1]), float(sys.argv[2]) / 1000, {name: float(value) for name, value in given.items()})
    )
