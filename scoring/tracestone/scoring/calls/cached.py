"""The same question is paid once: answers are kept by a digest of model, address, parameters, messages and schema.

Kept is what came of an attempt that ended in a verdict, or was broken off by a budget or a provider; what led to none
would lead to none again. Equal calls at the same time share one in this process. A shared or kept answer costs nothing.
"""

import asyncio
import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from tracestone.schema.errors import StorageDown
from tracestone.schema.stores.jobs import Usage
from tracestone.schema.stores.judge_replies import JudgeReply, JudgeReplyStore
from tracestone.scoring.calls import account
from tracestone.scoring.calls.account import Account, Deferred
from tracestone.scoring.calls.batches import Batches
from tracestone.scoring.llm import Call, CallFailed, EmbeddingCall, Embeddings, Provider, Reply

_CLOSE_SECONDS = 1.0
# For so long a question waits for others before it is looked for, and an answer before it is kept.
_GATHER_SECONDS = 0.01
_KEEP_SECONDS = 0.1
FREE = Usage(calls=0, cost_usd=0.0, input_tokens=0, output_tokens=0)


class Cached:
    """A provider that remembers."""

    def __init__(self, provider: Provider, store: JudgeReplyStore) -> None:
        self._provider = provider
        self._store = store
        self._shared: dict[bytes, asyncio.Future[Reply]] = {}
        self._fresh: dict[bytes, JudgeReply] = {}  # those that are about to be kept
        self._finding: Batches[bytes, JudgeReply | None] = Batches(
            "find judges' replies", self._find, seconds=_GATHER_SECONDS
        )
        self._keeping: Batches[JudgeReply, None] = Batches("keep judges' replies", self._keep, seconds=_KEEP_SECONDS)

    async def complete(self, call: Call) -> Reply:
        """One call, or its answer from before. Raises what the inner provider does, StorageDown."""
        if call.tools:  # a look at a long trace: what its calls lead to is not in their text alone
            return await self._provider.complete(call)
        payer, key = account.current(), digest(call)
        while key in self._shared:
            shared = self._shared[key]
            await asyncio.wait([shared])
            if not shared.cancelled():
                return _free(payer, shared.result())
        return await self._first(call, key, payer)

    async def embed(self, call: EmbeddingCall) -> Embeddings:
        """Embeddings are not kept."""
        return await self._provider.embed(call)

    async def close(self) -> None:
        """Ends what is under way; answers that Postgres does not take at once are lost."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._finding.drained()
                await self._keeping.drained()

    async def _first(self, call: Call, key: bytes, payer: Account) -> Reply:
        """The call itself; others with the same key wait for it."""
        shared: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._shared[key] = shared
        try:
            known = self._fresh.get(key) or await self._finding.ask(key)
            if known is not None:
                reply = _free(payer, Reply(known.text, FREE, known.model))
            else:
                reply = await self._provider.complete(call)
                kept = JudgeReply(key, reply.text, reply.model)
                payer.when_it_ends_well.append(lambda: self._remember(kept))
            shared.set_result(reply)
            return reply
        except (CallFailed, Deferred) as error:
            shared.set_exception(error)
            shared.exception()  # nobody may wait for it
            raise
        finally:
            del self._shared[key]
            if not shared.done():
                shared.cancel()  # whoever waits asks for himself

    def _remember(self, reply: JudgeReply) -> None:
        self._fresh[reply.digest] = reply
        self._keeping.put(reply).add_done_callback(lambda _: self._fresh.pop(reply.digest, None))

    async def _find(self, keys: Sequence[bytes]) -> list[JudgeReply | None]:
        found = await self._store.find(keys)
        return [found.get(key) for key in keys]

    async def _keep(self, replies: Sequence[JudgeReply]) -> list[None]:
        with suppress(StorageDown):  # then it is paid again, if it is asked again
            await self._store.keep(replies)
        return [None] * len(replies)


def digest(call: Call) -> bytes:
    """SHA-256 of all that decides about an answer."""
    asked = [call.model, call.api_base, call.params, list(call.messages), call.response_format]
    text = json.dumps(asked, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=dict)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _free(payer: Account, reply: Reply) -> Reply:
    payer.cached += 1
    return replace(reply, usage=FREE)
