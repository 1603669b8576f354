"""Notes every call of a model on the account of the attempt that makes it.

It stands outermost, so that an answer that was there from before is noted too. How long a call took is what its
provider took, where that is known, without the wait for a turn.
"""

from tracestone.schema import clock
from tracestone.schema.stores.jobs import Usage
from tracestone.scoring.calls import account
from tracestone.scoring.calls.made import Made, Operation
from tracestone.scoring.llm import Call, CallFailed, EmbeddingCall, Embeddings, Provider, Reply


class Noted:
    """A provider whose calls are noted; with `content`, also what was asked and said."""

    def __init__(self, provider: Provider, *, content: bool) -> None:
        self._provider = provider
        self._content = content

    async def complete(self, call: Call) -> Reply:
        """One call. Raises what the inner provider does."""
        payer, began = account.current(), clock.now_ns()
        asked = call.messages if self._content else None
        try:
            reply = await self._provider.complete(call)
        except CallFailed as error:
            payer.made.append(_failed("chat", call.model, began, error))
            raise
        ended = clock.now_ns()
        payer.made.append(
            Made(
                "chat",
                call.model,
                max(began, ended - int(reply.seconds * 1e9)) if reply.seconds else began,
                ended,
                reply.usage,
                reply.model,
                cached=not reply.usage.calls,
                asked=asked,
                said=reply.text if self._content else None,
                tool_calls=tuple((tool.name, tool.arguments) for tool in reply.tool_calls) if self._content else (),
            )
        )
        return reply

    async def embed(self, call: EmbeddingCall) -> Embeddings:
        """The same for embeddings, whose texts are not kept."""
        payer, began = account.current(), clock.now_ns()
        try:
            found = await self._provider.embed(call)
        except CallFailed as error:
            payer.made.append(_failed("embeddings", call.model, began, error))
            raise
        payer.made.append(Made("embeddings", call.model, began, clock.now_ns(), found.usage))
        return found


def _failed(operation: Operation, model: str, began: int, error: CallFailed) -> Made:
    return Made(operation, model, began, clock.now_ns(), Usage(calls=1), error=(error.code, error.message))
