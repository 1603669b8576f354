"""The one place that decides whether an API key is good; it answers from memory, so no request waits for Postgres.

All live keys are held here and read again when they changed, which is looked up every two seconds:

- A key that is revoked, here or by another process, is refused within `REVOKED_WITHIN_SECONDS`.
- A key that is not known is looked up at once, so a new one works at once. Such looks are shared and a fifth of a
  second apart, and what was refused is remembered, so strangers cost Postgres nothing worth speaking of.
- While Postgres is away, known keys are good for `auth_grace_seconds`. About others nothing can be said: they get
  Unavailable, for a sender drops what it was refused for good.
"""

import asyncio
import hmac
import logging

from tracestone.collector.auth.address import is_loopback
from tracestone.schema import clock, keys
from tracestone.schema.engines.postgres import answer_within
from tracestone.schema.errors import Forbidden, StartRefused, StorageDown, Unauthenticated, Unavailable
from tracestone.schema.keys import ANYBODY, Caller, Key
from tracestone.schema.settings import Settings
from tracestone.schema.stores.keys import KeyStore

logger = logging.getLogger(__name__)

REVOKED_WITHIN_SECONDS = 5.0
_LOOK_SECONDS = 2.0
_LOOK_LIMIT_SECONDS = 5.0
_BETWEEN_LOOKS_SECONDS = 0.2
_USED_SECONDS = 60.0
_STOP_SECONDS = 1.0
_MAX_REFUSED = 10_000
_RETRY_SECONDS = 2.0


class Gate:
    """Lets callers in, between `start` and `stop`. Needs nothing but settings and the store of keys."""

    def __init__(self, settings: Settings, store: KeyStore) -> None:
        self._settings = settings
        self._store = store
        self._live: dict[str, tuple[Key, bytes, Caller]] = {}
        self._change = 0
        self._confirmed = self._began = float("-inf")  # when the last good look, and the last look, began
        self._answered = True  # whether the last look was a good one
        self._ready = settings.auth == "off"  # whether it is known if keys are demanded, and which are good
        self._looking: asyncio.Task[None] | None = None
        self._asking: asyncio.Task[None] | None = None
        self._noting: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._own: dict[str, tuple[Key, bytes, Caller]] = {}
        self._refused: set[bytes] = set()
        self._used: dict[str, int] = {}
        self._next_note = 0.0
        self.demanded = settings.auth == "on"

    async def start(self, *, must_know: bool = True) -> None:
        """Reads the keys. Raises StartRefused when strangers could come in and nobody said they may; StorageDown.

        Without `must_know` it starts also while Postgres is away, for a process whose main process has been through
        this: until it can be told who is good, everybody is told to come again.
        """
        if self._settings.auth != "off":
            if must_know:
                await self._look()
            else:
                self.demanded = True
                await self._look_in_time()
            self._keeping = asyncio.create_task(self._keep(), name="api keys")
        if must_know:
            self._refuse_open_start()
        if self.demanded and not self._live and self._settings.auth == "on":
            logger.warning("API keys are demanded and there is none; make one with `tracestone keys create`")

    async def stop(self) -> None:
        """Notes when keys were last used. Safe to call twice."""
        keeping, self._keeping = self._keeping, None
        if keeping is not None:
            keeping.cancel()
            ending = [keeping, *(task for task in (self._looking, self._asking) if task is not None)]
            for task in ending:
                task.cancel()
            await asyncio.wait(ending, timeout=_STOP_SECONDS)
            await self._note_used()

    def known(self, token: str) -> Caller | None:
        """Who has this key, at once; None when `check` must be asked. Anybody where no keys are demanded."""
        if not self.demanded:
            return ANYBODY
        found = self._live.get(token[3:19])  # ts_<id>_…
        if found is None:
            return None
        key, digest, caller = found
        now = clock.now_ms()
        if key.expires_at_ms is not None and now >= key.expires_at_ms:
            return None
        if clock.monotonic() > self._confirmed + self._settings.auth_grace_seconds + REVOKED_WITHIN_SECONDS:
            return None
        if not hmac.compare_digest(keys.digest(token), digest):
            return None
        self._used[key.key_id] = now
        return caller

    async def check(self, token: str) -> Caller:
        """Who has this key. Raises Unauthenticated, and Unavailable when that cannot be told just now."""
        caller = self.known(token)
        if caller is not None:
            return caller
        if not self._ready:
            await self._look_after_now()
            caller = self.known(token)
            if caller is not None:
                return caller
            if not self._ready:
                raise _not_now()
        if not token:
            raise Unauthenticated("An API key is needed, as Authorization: Bearer, Basic or x-api-key.")
        key_id = keys.key_id_of(token)
        if not key_id:
            raise Unauthenticated("What was sent is not an API key; a key begins with ts_.")
        digest = keys.digest(token)
        if digest not in self._refused:
            await self._look_after_now()
            caller = self.known(token)
            if caller is not None:
                return caller
            if not self._answered:
                raise _not_now()
            if len(self._refused) >= _MAX_REFUSED:
                self._refused.clear()
            self._refused.add(digest)
        raise Unauthenticated(f"The API key {key_id} is unknown, revoked or expired.")

    async def admit(self, token: str, scope: keys.Scope, *, bound: bool = True) -> Caller:
        """As `check`. Raises Forbidden without the scope, and for a bound key where `bound` ones cannot be served."""
        caller = self.known(token) or await self.check(token)
        caller.demand(scope)
        if not bound and caller.experiments is not None:
            raise Forbidden("This concerns all experiments, and the API key is bound to some.")
        return caller

    def own_token(self, scope: keys.Scope) -> str:
        """A key for a part of this very process, never stored, that ends with it."""
        key_id, token = keys.new_token()
        key = Key(key_id, "this process", frozenset({scope}), None, clock.now_ms())
        self._own[key_id] = key, keys.digest(token), Caller(key_id, key.scopes)
        self._live |= self._own
        return token

    def forget(self, key_id: str) -> None:
        """Refuses a key from now on, without waiting for the next look."""
        self._live.pop(key_id, None)

    def _refuse_open_start(self) -> None:
        settings = self._settings
        if self.demanded or settings.insecure or is_loopback(settings.host) or settings.tls_client_ca_file is not None:
            return
        raise StartRefused(
            f"On {settings.host} strangers could send and read, for no API key is demanded. Make one with"
            " `tracestone keys create`, or say --insecure to start all the same."
        )

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                await self._look_after_now()
                if clock.monotonic() >= self._next_note:
                    self._next_note = clock.monotonic() + _USED_SECONDS
                    await self._note_used()
            except Exception:  # whatever it is, keys go on being looked after
                logger.exception("API keys cannot be read", extra={"action": "look_at_keys"})

    async def _look_after_now(self) -> None:
        """Returns after a look that began after this call did; does not raise when Postgres is away."""
        asked = clock.monotonic()
        while self._began < asked:
            if self._looking is None or self._looking.done():
                self._looking = asyncio.create_task(self._look_in_time(), name="look at api keys")
            await asyncio.shield(self._looking)

    async def _look_in_time(self) -> None:
        await asyncio.sleep(max(0.0, self._began + _BETWEEN_LOOKS_SECONDS - clock.monotonic()))
        self._began = clock.monotonic()
        # What was asked before this look says nothing about now; until it is answered no other question is.
        late = self._asking is not None and not self._asking.done()
        if not late:
            self._asking = asyncio.create_task(self._look(), name="ask for api keys")
        assert self._asking is not None
        try:
            await answer_within(_LOOK_LIMIT_SECONDS, self._asking)
            if late:
                raise StorageDown("Postgres answers late")
        except StorageDown as error:
            if self._answered:
                logger.warning("API keys cannot be looked up", extra={"action": "look_at_keys", "reason": str(error)})
            self._answered = False
        else:
            self._answered = True

    async def _look(self) -> None:
        began = clock.monotonic()
        change = await self._store.latest_change()
        if change != self._change:
            live = await self._store.live()
            self._live = self._own | {
                key_id: (key, digest, Caller(key_id, key.scopes, key.experiments))
                for key_id, (key, digest) in live.items()
            }
            self._change = change
            self._refused.clear()
        before = self._ready and self.demanded
        self.demanded = before or change > 0 or self._settings.auth == "on"
        if self.demanded and not before:
            logger.info("API keys are demanded on every port", extra={"action": "demand_keys"})
        self._ready = True
        self._confirmed = began

    async def _note_used(self) -> None:
        if not self._used or (self._noting is not None and not self._noting.done()):
            return
        used, self._used = self._used, {}
        self._noting = asyncio.create_task(self._store.used(used), name="note use of api keys")
        try:
            await answer_within(_LOOK_LIMIT_SECONDS, self._noting)
        except StorageDown:
            self._used = {**used, **self._used}


def _not_now() -> Unavailable:
    return Unavailable("The API key cannot be checked just now; try again.", retry_after=_RETRY_SECONDS)
