"""Delivers to webhooks what the triggers in Postgres have put into their queue, signed, with retries.

A delivery is claimed for longer than a try takes, so several processes never make one at the same time; after a crash
it goes out again, under the same `webhook-id`. A webhook that hangs holds up nothing but itself.
"""

import asyncio
import functools
import json
import logging
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

from tracestone.collector.outbound import Address, NotAllowed, NotReached, post
from tracestone.schema import clock
from tracestone.schema.errors import StorageDown
from tracestone.schema.stores.webhooks import WebhookStore
from tracestone.schema.webhooks import Delivery, is_plain_and_far, signature

logger = logging.getLogger(__name__)

OUTCOMES = ("delivered", "failed", "dead", "given_up")
_POLL_SECONDS = 1.0
_TRY_SECONDS = 15.0
_CLAIM_SECONDS = 60.0
_AT_ONCE = 8
_FIRST_WAIT_SECONDS = 5.0
_LONGEST_WAIT_SECONDS = 3600.0
_HOUSEKEEPING_SECONDS = 60.0
_GONE = 410


class Dispatcher:
    """One loop between `start` and `stop`; other processes may run it too. `private` is as in WebhookSetup."""

    def __init__(
        self,
        store: WebhookStore,
        *,
        private: bool,
        poll_seconds: float = _POLL_SECONDS,
        try_seconds: float = _TRY_SECONDS,
        first_wait_seconds: float = _FIRST_WAIT_SECONDS,
    ) -> None:
        self._store = store
        self._private = private
        self._poll_seconds = poll_seconds
        self._try_seconds = try_seconds
        self._first_wait = first_wait_seconds
        self._kept_at = float("-inf")
        self._problem = ""
        self._busy: dict[int, asyncio.Task[None]] = {}
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        # Since the start, by what became of tries.
        self.counts: Counter[str] = Counter(dict.fromkeys(OUTCOMES, 0))

    def start(self) -> None:
        """Begins; waits for nothing."""
        self._task = asyncio.create_task(self._run(), name="webhooks")

    async def stop(self, within_seconds: float = 1.0) -> None:
        """Ends soon; tries under way are cut off and made again later. Safe to call twice."""
        self._stopping.set()
        tasks = [task for task in (self._task, *self._busy.values()) if task is not None]
        self._task = None
        if tasks:
            await asyncio.wait(tasks, timeout=within_seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def allowed(self, address: Address) -> bool:
        """Whether an address may be asked: this machine, the internet, and private networks if the operator says so."""
        return self._private or address.is_loopback or address.is_global

    async def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                await self._keep_house()
                await self._claim()
            except Exception as error:  # noqa: BLE001 - whatever it is, the queue keeps the deliveries
                self._report(str(error) or type(error).__name__)
            else:
                self._report("")
            with suppress(TimeoutError):
                async with asyncio.timeout(self._poll_seconds):
                    await self._stopping.wait()

    async def _keep_house(self) -> None:
        if clock.monotonic() - self._kept_at < _HOUSEKEEPING_SECONDS:
            return
        gone = await self._store.forget()
        self._kept_at = clock.monotonic()
        if gone:
            self.counts["given_up"] += gone
            logger.warning("deliveries to webhooks are given up", extra={"action": "webhooks", "deliveries": gone})

    async def _claim(self) -> None:
        by_webhook: dict[int, list[Delivery]] = {}
        for delivery in await self._store.claim(_AT_ONCE, self._busy, _CLAIM_SECONDS):
            by_webhook.setdefault(delivery.webhook_id, []).append(delivery)
        for webhook_id, deliveries in by_webhook.items():
            task = asyncio.create_task(self._deliver(deliveries), name=f"webhook {webhook_id}")
            self._busy[webhook_id] = task
            task.add_done_callback(functools.partial(self._free, webhook_id))

    def _free(self, webhook_id: int, ended: "asyncio.Task[None]") -> None:
        del self._busy[webhook_id]

    async def _deliver(self, deliveries: Sequence[Delivery]) -> None:
        await asyncio.gather(*(self._one(delivery) for delivery in deliveries))

    async def _one(self, delivery: Delivery) -> None:
        reason, asked, gone = await self._try(delivery)
        try:
            if not reason:
                await self._store.delivered(delivery)
                self.counts["delivered"] += 1
                return
            most = min(_LONGEST_WAIT_SECONDS, self._first_wait * 2.0 ** min(delivery.attempts - 1, 20))
            wait = max(most * random.uniform(0.5, 1.0), asked)
            dead = await self._store.failed(delivery, reason, wait, dead=gone)
        except StorageDown:
            return  # its claim runs out, and it is tried again
        self.counts["dead" if dead else "failed"] += 1
        if dead:
            extra = {"action": "webhooks", "webhook": delivery.webhook_id, "reason": reason}
            logger.warning("a delivery to a webhook is dead", extra=extra)

    async def _try(self, delivery: Delivery) -> tuple[str, float, bool]:
        """Why it failed, "" when it did not; the seconds the receiver asks to wait; whether there is no use in more."""
        if is_plain_and_far(delivery.url) and not self._private:
            return "the address is not https", 0.0, False
        body = json.dumps(delivery.payload, ensure_ascii=False, separators=(",", ":")).encode()
        now = clock.now_ms() // 1000
        headers = {
            "content-type": "application/json",
            "webhook-id": delivery.message_id,
            "webhook-timestamp": str(now),
            "webhook-signature": signature(delivery.secret, delivery.message_id, now, body),
        }
        try:
            answer = await post(delivery.url, body, headers, seconds=self._try_seconds, allowed=self.allowed)
        except (NotReached, NotAllowed) as error:
            return str(error), 0.0, False
        if 200 <= answer.status < 300:
            return "", 0.0, False
        asked = min(answer.retry_after or 0.0, _LONGEST_WAIT_SECONDS)
        return f"it answers {answer.status}", asked, answer.status == _GONE

    def _report(self, problem: str) -> None:
        if problem and not self._problem:
            logger.warning("webhooks wait", extra={"action": "webhooks", "reason": problem})
        elif self._problem and not problem:
            logger.info("webhooks go on", extra={"action": "webhooks"})
        self._problem = problem
