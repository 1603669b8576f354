"""OTLP/HTTP answers: every one in the encoding of its request, protobuf or OTLP's JSON form."""

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from tracestone.collector.receiver import status

PROTOBUF = "application/x-protobuf"
JSON = "application/json"


def media_type(headers: Headers) -> str:
    """The media type of a request's body, "" when it is none of OTLP's."""
    named = headers.get("content-type", "").partition(";")[0].strip().lower()
    return named if named in (PROTOBUF, JSON) else ""


def answer(message: Message, encoding: str, code: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A message as the answer; `encoding` is a media type of OTLP's."""
    # A message of protobuf's is small here: a partial success, or a status with at most one detail.
    content = MessageToJson(message, indent=None) if encoding == JSON else message.SerializeToString()
    return Response(content, code, headers, media_type=encoding)


def refusal(outcome: status.Failure, encoding: str, headers: dict[str, str] | None = None) -> Response:
    """A google.rpc.Status as the answer; a plain sentence when no encoding was agreed on."""
    headers = {**status.retry_after_header(outcome), **(headers or {})}
    if not encoding:
        return PlainTextResponse(f"{outcome.status.message}\n", outcome.http, headers)
    return answer(outcome.status, encoding, outcome.http, headers)


def unsupported() -> Response:
    """To a body in no encoding that OTLP has."""
    said = status.misdirected(415, f"Content-Type must be {PROTOBUF} or {JSON}.")
    return refusal(said, "", {"accept": f"{PROTOBUF}, {JSON}"})


def wrong_method(request: Request) -> Response:
    """To anything but POST on a path of OTLP's."""
    said = status.misdirected(405, f"{request.url.path} takes POST, with an OTLP request as the body.")
    return refusal(said, media_type(request.headers), {"allow": "POST"})


def wrong_path(request: Request, error: Exception) -> Response:
    """To any other path of the OTLP port. An exporter given an endpoint for one signal sends to it as it is."""
    paths = "/v1/traces, /v1/logs and /v1/metrics"
    said = status.misdirected(404, f"There is nothing at {request.url.path[:200]}. OTLP is taken at {paths}.")
    return refusal(said, media_type(request.headers))
