"""OTLP endpoints for log records, over HTTP with protobuf and over gRPC, as their specification has it.

What an endpoint will never take raises Rejected; everything else that is no success raises Unavailable: a wrong address
or key is for the operator to mend, and nothing is given up meanwhile.
"""

from collections.abc import Mapping
from typing import Protocol
from urllib.parse import unquote, urlsplit

import grpc
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse

from tracestone.collector.outbound import NotAllowed, NotReached, post
from tracestone.schema.errors import Invalid, TooLarge, Unavailable

_SECONDS = 15.0
_METHOD = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
# gRPC's codes that say that this very request will never do.
_NEVER = frozenset({grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE})


class Endpoint(Protocol):
    """Where log records go."""

    async def export(self, request: ExportLogsServiceRequest) -> int:
        """How many records were refused. Raises Rejected, Unavailable."""
        ...

    async def close(self) -> None:
        """Ends its connections."""
        ...


def endpoint(address: str, headers: str) -> Endpoint:
    """The endpoint at an address; `headers` are `name=value` with commas between, the values URL-encoded."""
    pairs = (each.partition("=") for each in headers.split(",") if "=" in each)
    told = {name.strip().lower(): unquote(value.strip()) for name, _, value in pairs}
    parts = urlsplit(address)
    if parts.scheme in ("grpc", "grpcs"):
        return GrpcEndpoint(parts.netloc, told, secure=parts.scheme == "grpcs")
    return HttpEndpoint(address, told)


class HttpEndpoint:
    """OTLP over HTTP, in protobuf."""

    def __init__(self, address: str, headers: Mapping[str, str]) -> None:
        self._address = address
        self._headers = {**headers, "content-type": "application/x-protobuf"}

    async def export(self, request: ExportLogsServiceRequest) -> int:
        """How many records were refused. Raises Rejected, Unavailable."""
        try:
            answer = await post(self._address, request.SerializeToString(), self._headers, seconds=_SECONDS)
        except (NotReached, NotAllowed) as error:
            raise Unavailable(str(error)) from error
        if answer.status == 200:
            return _refused(answer.body)
        if answer.status == 413:
            raise TooLarge("the endpoint answers 413")
        if answer.status in (400, 422):
            raise Invalid("", f"the endpoint answers {answer.status}")
        raise Unavailable(f"the endpoint answers {answer.status}", retry_after=answer.retry_after or 1.0)

    async def close(self) -> None:
        """Nothing stays open."""


class GrpcEndpoint:
    """OTLP over gRPC."""

    def __init__(self, target: str, headers: Mapping[str, str], *, secure: bool) -> None:
        self._target = target
        self._metadata = tuple(headers.items())
        self._secure = secure
        self._channel: grpc.aio.Channel | None = None

    async def export(self, request: ExportLogsServiceRequest) -> int:
        """How many records were refused. Raises Rejected, Unavailable."""
        if self._channel is None:
            self._channel = (
                grpc.aio.secure_channel(self._target, grpc.ssl_channel_credentials())
                if self._secure
                else grpc.aio.insecure_channel(self._target)
            )
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(_METHOD)
        try:
            body: bytes = await call(request.SerializeToString(), timeout=_SECONDS, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            if error.code() in _NEVER:
                raise Invalid("", f"the endpoint answers {error.code().name}") from error
            raise Unavailable(f"the endpoint answers {error.code().name}") from error
        return _refused(body)

    async def close(self) -> None:
        """Ends the connection."""
        if self._channel is not None:
            await self._channel.close()


def _refused(body: bytes) -> int:
    try:
        return ExportLogsServiceResponse.FromString(body).partial_success.rejected_log_records
    except DecodeError:
        return 0  # taken all the same
