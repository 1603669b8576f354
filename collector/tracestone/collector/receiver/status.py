"""How an outcome is said in the protocol's terms: gRPC codes, HTTP statuses, google.rpc.Status, partial success.

| error | gRPC | HTTP | retried by clients |
|---|---|---|---|
| Invalid, other Rejected | INVALID_ARGUMENT + BadRequest | 400 | no |
| TooLarge | RESOURCE_EXHAUSTED, without RetryInfo | 413 | no |
| Unauthenticated | UNAUTHENTICATED | 401 | no |
| Forbidden | PERMISSION_DENIED | 403 | no |
| Unavailable | UNAVAILABLE + RetryInfo | 503 + Retry-After | yes |
| anything else | UNAVAILABLE + RetryInfo | 503 + Retry-After | yes |

Anything unforeseen is answered as retryable: a client that drops its batch loses data, one that tries again does not.
"""

import math
from dataclasses import dataclass
from typing import cast

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from tracestone.collector.receiver.export import Accepted
from tracestone.collector.signals.signal import Signal
from tracestone.schema.errors import Forbidden, Invalid, Rejected, TooLarge, Unauthenticated, Unavailable

_MAX_MESSAGE = 2000
_UNFORESEEN_RETRY_SECONDS = 5.0


@dataclass(frozen=True)
class Failure:
    """A failed request in both transports' terms; `retry_after` in seconds, None when it must not be retried."""

    code: grpc.StatusCode
    http: int
    status: Status
    retry_after: float | None


def failure(error: Exception) -> Failure:
    """The one table from our errors to the wire."""
    if isinstance(error, TooLarge):
        return _failure(grpc.StatusCode.RESOURCE_EXHAUSTED, 413, str(error))
    if isinstance(error, Unauthenticated):
        return _failure(grpc.StatusCode.UNAUTHENTICATED, 401, str(error))
    if isinstance(error, Forbidden):
        return _failure(grpc.StatusCode.PERMISSION_DENIED, 403, str(error))
    if isinstance(error, Invalid):
        violation = BadRequest(field_violations=[{"field": error.field, "description": error.reason[:_MAX_MESSAGE]}])
        return _failure(grpc.StatusCode.INVALID_ARGUMENT, 400, str(error), violation)
    if isinstance(error, Rejected):
        return _failure(grpc.StatusCode.INVALID_ARGUMENT, 400, str(error))
    if isinstance(error, Unavailable):
        return _retryable(str(error), error.retry_after)
    return _retryable("The request could not be taken; try again.", _UNFORESEEN_RETRY_SECONDS)


def misdirected(http: int, message: str) -> Failure:
    """A request that HTTP itself can tell is none of ours."""
    return _failure(grpc.StatusCode.UNIMPLEMENTED, http, message)


def response(signal: Signal, accepted: Accepted) -> Message:
    """An Export…ServiceResponse; empty on full success, as OTLP demands."""
    answer = signal.response()
    if accepted.rejected or accepted.reason:
        setattr(answer.partial_success, signal.rejected, accepted.rejected)
        left_out = f"{accepted.rejected} invalid {signal.counted} left out; " if accepted.rejected else ""
        answer.partial_success.error_message = f"{left_out}{accepted.reason}"[:_MAX_MESSAGE]
    return cast(Message, answer)


def trailing_metadata(outcome: Failure) -> tuple[tuple[str, bytes], ...]:
    """Status details where gRPC puts them, and RetryInfo alone where opentelemetry-python looks for it."""
    metadata = [("grpc-status-details-bin", outcome.status.SerializeToString())]
    if outcome.retry_after is not None:
        metadata.append(("google.rpc.retryinfo-bin", _retry_info(outcome.retry_after).SerializeToString()))
    return tuple(metadata)


def retry_after_header(outcome: Failure) -> dict[str, str]:
    """HTTP's Retry-After in whole seconds, when the request may be sent again."""
    return {} if outcome.retry_after is None else {"retry-after": str(max(1, math.ceil(outcome.retry_after)))}


def _retryable(message: str, retry_after: float) -> Failure:
    return _failure(grpc.StatusCode.UNAVAILABLE, 503, message, _retry_info(retry_after), retry_after)


def _retry_info(seconds: float) -> RetryInfo:
    whole = int(seconds)
    return RetryInfo(retry_delay=Duration(seconds=whole, nanos=int((seconds - whole) * 1e9)))


def _failure(
    code: grpc.StatusCode,
    http: int,
    message: str,
    detail: BadRequest | RetryInfo | None = None,
    retry_after: float | None = None,
) -> Failure:
    number: int = code.value[0]
    status = Status(code=number, message=message[:_MAX_MESSAGE])
    if detail is not None:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return Failure(code, http, status, retry_after)
