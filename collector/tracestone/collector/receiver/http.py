"""OTLP over HTTP with protobuf bodies. Bytes, headers, reply; nothing that the gRPC transport lacks."""

import logging
from collections.abc import Iterable
from functools import partial

from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tracestone.collector.receiver import encoding, status
from tracestone.collector.receiver.budget import Held
from tracestone.collector.receiver.export import Exporter
from tracestone.collector.receiver.grpc import EXPERIMENT_HEADER
from tracestone.schema.errors import TracestoneError

logger = logging.getLogger(__name__)

PROTOBUF = "application/x-protobuf"


class HttpReceiver:
    """The handlers of `POST /v1/<signal>`; mounted on the OTLP port and on the API's, where MLflow's client sends."""

    def __init__(self, exporters: Iterable[Exporter], *, max_request_bytes: int) -> None:
        self._exporters = tuple(exporters)
        self._limit = max_request_bytes

    def routes(self) -> list[Route]:
        """The OTLP paths."""
        return [
            Route(f"/v1/{exporter.signal.name}", partial(self._export, exporter), methods=["POST"])
            for exporter in self._exporters
        ]

    async def _export(self, exporter: Exporter, request: Request) -> Response:
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != PROTOBUF:
            return PlainTextResponse(f"Content-Type must be {PROTOBUF}.\n", status_code=415)
        try:
            with exporter.budget.request() as held:
                data = await self._body(exporter, request, held)
                accepted = await exporter.export(data, request.headers.get(EXPERIMENT_HEADER))
            return Response(status.response(exporter.signal, accepted), media_type=PROTOBUF)
        except ClientDisconnect:
            return Response(status_code=400)
        except TracestoneError as error:
            outcome = status.failure(error)
        except Exception as error:
            logger.exception("a request failed", extra={"action": "export", "signal": exporter.signal.name})
            outcome = status.failure(error)
        return Response(
            outcome.status.SerializeToString(),
            status_code=outcome.http,
            media_type=PROTOBUF,
            headers=status.retry_after_header(outcome),
        )

    async def _body(self, exporter: Exporter, request: Request, held: Held) -> bytes:
        async with exporter.arrivals.body(held) as body:
            data = await encoding.read_body(request.stream(), request.headers.get("content-length"), self._limit, body)
        return await encoding.decompress(data, request.headers.get("content-encoding", ""), self._limit, held)
