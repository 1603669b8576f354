"""A request that is refused before anything of it was read, in OTLP's terms on both transports."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, cast

import grpc
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Scope

from tracestone.collector.auth import credentials
from tracestone.collector.auth.caller import CALLER
from tracestone.collector.auth.gate import Gate
from tracestone.collector.receiver import answers, status
from tracestone.schema.errors import TracestoneError

Context = grpc.aio.ServicerContext[Any, Any]
Method = Callable[[object, Context], Awaitable[bytes]]

logger = logging.getLogger(__name__)


def refused(scope: Scope, error: TracestoneError) -> Response:
    """For HTTP, in the encoding that the request's headers name."""
    return answers.refusal(status.failure(error), answers.media_type(Headers(scope=scope)))


class GuardedService(grpc.GenericRpcHandler):
    """A gRPC service, whose methods read their messages themselves, behind the check of API keys.

    A known key is checked as soon as grpc has a call's metadata and asks for the handler of its method; where no keys
    are demanded this costs one look at a flag.
    """

    def __init__(self, service: grpc.GenericRpcHandler, gate: Gate) -> None:
        self._service = service
        self._gate = gate

    def service(self, details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes] | None":
        """The method's handler, in the task of the call."""
        handler = self._service.service(details)
        if handler is None or not self._gate.demanded:
            return handler
        token = credentials.in_metadata(details.invocation_metadata or ())
        caller = self._gate.known(token)
        if caller is not None and caller.may("ingest"):
            CALLER.set(caller)
            return handler
        checked = _Checked(self._gate, token, cast(Method, handler.stream_unary))
        return grpc.stream_unary_rpc_method_handler(checked.answer)


class _Checked:
    """Answers one call whose key has to be looked up, or is not good."""

    def __init__(self, gate: Gate, token: str, method: Method) -> None:
        self._gate = gate
        self._token = token
        self._method = method

    async def answer(self, messages: object, context: Context) -> bytes:
        """The method's answer, or an abort."""
        try:
            CALLER.set(await self._gate.admit(self._token, "ingest"))
        except TracestoneError as error:
            refusal: Exception = error
        except Exception as error:
            logger.exception("an API key could not be checked", extra={"action": "check_key"})
            refusal = error
        else:
            return await self._method(messages, context)
        outcome = status.failure(refusal)
        await context.abort(outcome.code, outcome.status.message, status.trailing_metadata(outcome))
