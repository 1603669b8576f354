"""OTLP over HTTP, with protobuf or JSON bodies. Bytes, headers, reply; nothing that the gRPC transport lacks."""

import asyncio
import logging
from collections.abc import Iterable
from functools import partial

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from tracestone.collector.receiver import answers, encoding, status
from tracestone.collector.receiver.answers import JSON
from tracestone.collector.receiver.budget import Held
from tracestone.collector.receiver.export import Accepted, Exporter
from tracestone.collector.receiver.grpc import EXPERIMENT_HEADER
from tracestone.collector.receiver.otlp_json.convert import MAX_VALUES, Converted, Form
from tracestone.schema.errors import TracestoneError

logger = logging.getLogger(__name__)

_TRANSPORT = "http"
# The router's own answer to a method that is not here says nothing.
_METHODS = ["POST", "GET", "PUT", "PATCH", "DELETE", "OPTIONS"]
# Below this, converting JSON on the event loop is cheaper than a thread.
_INLINE_BYTES = 128 * 1024
# Above this, what JSON becomes may be large, so bodies wait for each other; the others may be as many as this.
_LARGE_BYTES = 1024 * 1024
_THREADS = 2


class HttpReceiver:
    """The handlers of `POST /v1/<signal>`; mounted on the OTLP port and on the API's, where MLflow's client sends."""

    def __init__(
        self, exporters: Iterable[Exporter], *, max_request_bytes: int, max_json_values: int = MAX_VALUES
    ) -> None:
        self._exporters = tuple(exporters)
        self._limit = max_request_bytes
        self._forms = {each.signal: Form(each.signal.request, max_json_values) for each in self._exporters}
        self._large = asyncio.Semaphore(1)
        self._others = asyncio.Semaphore(_THREADS)

    def routes(self) -> list[Route]:
        """The OTLP paths."""
        return [
            Route(f"/v1/{exporter.signal.name}{slash}", partial(self._export, exporter), methods=_METHODS)
            for exporter in self._exporters
            for slash in ("", "/")
        ]

    async def _export(self, exporter: Exporter, request: Request) -> Response:
        if request.method != "POST":
            return answers.wrong_method(request)
        media_type = answers.media_type(request.headers)
        if not media_type:
            return answers.unsupported()
        try:
            with exporter.budget.request() as held:
                exporter.counts.sender(request.headers.get("user-agent", ""))
                accepted = await self._take(exporter, request, media_type, held)
            return answers.answer(status.response(exporter.signal, accepted), media_type)
        except ClientDisconnect:
            return Response(status_code=400)
        # No name outlives these clauses: an error that a function holds which it came through is a circle of
        # references, and keeps the request's bytes in memory.
        except TracestoneError as error:
            return _refusal(exporter, error, media_type)
        except Exception as error:
            logger.exception("a request failed", extra={"action": "export", "signal": exporter.signal.name})
            return _refusal(exporter, error, media_type)

    async def _take(self, exporter: Exporter, request: Request, media_type: str, held: Held) -> Accepted:
        data = await self._body(exporter, request, held)
        experiment = request.headers.get(EXPERIMENT_HEADER)
        if media_type != JSON:
            accepted = await exporter.export(data, experiment)
        else:
            found = await self._converted(self._forms[exporter.signal], data)
            held.take(len(found.data))
            accepted = await exporter.export(found.data, experiment, left_out=found.rejected, reason=found.reason)
        exporter.counts.took(_TRANSPORT, exporter.signal.name, len(data), accepted.items, accepted.rejected)
        return accepted

    async def _converted(self, form: Form, body: bytes) -> Converted:
        if len(body) <= _INLINE_BYTES:
            return form.to_protobuf(body)
        async with self._others if len(body) <= _LARGE_BYTES else self._large:
            return await asyncio.to_thread(form.to_protobuf, body)

    async def _body(self, exporter: Exporter, request: Request, held: Held) -> bytes:
        async with exporter.arrivals.body(held) as body:
            data = await encoding.read_body(request.stream(), request.headers.get("content-length"), self._limit, body)
        return await encoding.decompress(data, request.headers.get("content-encoding", ""), self._limit, held)


def _refusal(exporter: Exporter, error: Exception, media_type: str) -> Response:
    exporter.counts.refused(_TRANSPORT, exporter.signal.name, error)
    return answers.refusal(status.failure(error), media_type)
