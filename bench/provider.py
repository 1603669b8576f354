"""A model provider for benchmarks: OpenAI's chat completions over HTTP/1.1, at next to no cost of its own.

    python bench/provider.py PORT LATENCY_MS ERRORS          ERRORS: share of requests that get a 500

Answers every request with one verdict after LATENCY_MS. `GET /stats` tells how many came, how many at most at once, and
the seconds between the first and the last answer; asking resets them.
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
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": '{"rationale": "It is a polite answer.", "value": true}'},
        }
    ],
    "usage": {"prompt_tokens": 400, "completion_tokens": 20, "total_tokens": 420},
}
ERROR = {"error": {"message": "the server had an error", "type": "server_error", "param": None, "code": None}}


def _response(status: str, body: object) -> bytes:
    data = json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
    return head.encode() + data


class Stats:
    """What came since the last question."""

    def __init__(self) -> None:
        self.running = 0
        self.reset()

    def reset(self) -> None:
        """Begins to count anew."""
        self.count = self.most = 0
        self.first = self.last = 0.0


class Connection(asyncio.Protocol):
    """One connection; requests on it come one after the other."""

    def __init__(self, stats: Stats, seconds: float, errors: float) -> None:
        self._stats, self._seconds, self._errors = stats, seconds, errors
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
            told = {"count": stats.count, "most": stats.most, "seconds": stats.last - stats.first}
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
        failed = random.random() < self._errors
        self._transport.write(FAILED if failed else ANSWERED)


ANSWERED = _response("200 OK", ANSWER)
FAILED = _response("500 Internal Server Error", ERROR)


async def serve(port: int, seconds: float, errors: float) -> None:
    """Until it is ended."""
    stats = Stats()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(stats, seconds, errors), "127.0.0.1", port, backlog=4096)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    uvloop.run(serve(int(sys.argv[1]), float(sys.argv[2]) / 1000, float(sys.argv[3])))
