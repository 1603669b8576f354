"""An OTLP endpoint that keeps what it is sent, and a proxy that keeps what a program wanted from elsewhere."""

import gzip
import json
import socketserver
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from support.otlp_json import otlp_json

_KINDS: dict[str, type[Message]] = {"traces": ExportTraceServiceRequest, "logs": ExportLogsServiceRequest}
# Where Langfuse and LangSmith take OTLP, besides the usual path.
_ROOTS = ("", "/api/public/otel", "/otel")


@dataclass
class Capture:
    """Every request of traces and logs in the order of arrival, in OTLP's JSON form; metrics are forgotten."""

    requests: list[dict[str, Any]] = field(default_factory=list)

    def routes(self) -> list[BaseRoute]:
        """Its paths."""
        signals = [(root, signal) for root in _ROOTS for signal in ("traces", "logs", "metrics")]
        return [Route(f"{root}/v1/{signal}", self._take(signal), methods=["POST"]) for root, signal in signals]

    def _take(self, signal: str) -> Any:
        async def take(request: Request) -> Response:
            body = _plain(await request.body(), request.headers.get("content-encoding", ""))
            as_json = request.headers["content-type"].startswith("application/json")
            if signal in _KINDS:
                told = json.loads(body) if as_json else otlp_json(_KINDS[signal].FromString(body))
                kept = {
                    name: value
                    for name, value in request.headers.items()
                    if name.startswith("x-") and "api-key" not in name
                }
                self.requests.append(
                    {
                        "path": request.url.path,
                        "content_type": request.headers["content-type"],
                        "headers": kept,
                        "signal": signal,
                        "body": told,
                    }
                )
            return JSONResponse({}) if as_json else Response(b"", media_type="application/x-protobuf")

        return take


@dataclass
class Outside:
    """An HTTP proxy that lets nothing through; `asked` are the hosts that were asked for."""

    url: str = ""
    asked: set[str] = field(default_factory=set)


@contextmanager
def outside() -> Iterator[Outside]:
    """A proxy for the block."""
    seen = Outside()

    class Refuse(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            words = self.rfile.readline(4096).decode("latin-1").split()
            if len(words) > 1:
                seen.asked.add(words[1])
            self.wfile.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Refuse) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        seen.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield seen
        server.shutdown()


def _plain(body: bytes, encoding: str) -> bytes:
    match encoding:
        case "gzip":
            return gzip.decompress(body)
        case "deflate":
            return zlib.decompress(body)
        case "" | "identity":
            return body
    raise ValueError(f"content-encoding {encoding} is not known here")
