"""Webhooks and what is to be delivered to them.

Postgres is the queue; triggers fill it in the transaction of what happened.
"""

from collections.abc import Collection, Mapping
from typing import Any

from tracestone.schema import sqlfiles
from tracestone.schema.engines.postgres import Pool, Record, storage_errors
from tracestone.schema.errors import Invalid, NotFound
from tracestone.schema.webhooks import Delivery, WebhookRequest, WebhookState, new_secret

MAX_WEBHOOKS = 100
MAX_AGE_SECONDS = 86_400.0
DEAD_SECONDS = 7 * 86_400.0
MOST_WAITING = 10_000


class WebhookStore:
    """One aggregate: a webhook, its secret and its deliveries."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sql = sqlfiles.queries("postgres", "webhooks")

    async def set(self, request: WebhookRequest, experiment_id: int | None) -> str:
        """Makes or changes a webhook; the secret of a new one, "" of one that was there, which keeps its own.

        Raises Invalid when there are too many, StorageDown.
        """
        secret = new_secret()
        told = (request.errors, request.value_is, request.below, request.above)
        with storage_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                row = await connection.fetchrow(
                    self._sql["set"],
                    *(request.name, request.url, secret, list(dict.fromkeys(request.events))),
                    *(request.scorer or "", experiment_id, *told),
                )
                assert row is not None
                if row["new"] and await connection.fetchval(self._sql["count"]) > MAX_WEBHOOKS:
                    raise Invalid("webhooks", f"there are {MAX_WEBHOOKS} already")
        return secret if row["new"] else ""

    async def states(self) -> list[WebhookState]:
        """Every webhook in order of name. Raises StorageDown."""
        with storage_errors():
            return [_state(row) for row in await self._pool.fetch(self._sql["states"], None)]

    async def state(self, name: str) -> WebhookState:
        """One webhook. Raises NotFound, StorageDown."""
        with storage_errors():
            row = await self._pool.fetchrow(self._sql["states"], name)
        if row is None:
            raise _unknown(name)
        return _state(row)

    async def remove(self, name: str) -> None:
        """Ends a webhook, with what waits for it. Raises NotFound, StorageDown."""
        await self._found("remove", name)

    async def renew(self, name: str) -> str:
        """Another secret, which holds from the next try on. Raises NotFound, StorageDown."""
        secret = new_secret()
        await self._found("renew", name, secret)
        return secret

    async def tell(self, name: str, message_id: str, kind: str, data: Mapping[str, Any]) -> int:
        """Something for one webhook, whatever it listens to. The delivery's number. Raises NotFound, StorageDown."""
        return await self._found("tell", name, message_id, kind, dict(data))

    async def became(self, delivery_id: int) -> tuple[int, str, bool] | None:
        """Tries, last error and whether it is dead, of a delivery; None once it has been made. Raises StorageDown."""
        with storage_errors():
            row = await self._pool.fetchrow(self._sql["delivery"], delivery_id)
        return None if row is None else (row["attempts"], row["error"], row["dead"])

    async def replay(self, name: str) -> int:
        """Begins the dead deliveries of a webhook anew; how many. Raises NotFound, StorageDown."""
        await self.state(name)
        with storage_errors():
            return int(await self._pool.fetchval(self._sql["replay"], name))

    async def claim(self, limit: int, but_not: Collection[int], seconds: float) -> list[Delivery]:
        """Up to `limit` due deliveries of each webhook that is not among `but_not`, nobody else's for `seconds`."""
        with storage_errors():
            rows = await self._pool.fetch(self._sql["claim"], limit, list(but_not), seconds)
        return [Delivery(*row) for row in rows]

    async def delivered(self, delivery: Delivery) -> None:
        """It was taken. Raises StorageDown."""
        with storage_errors():
            await self._pool.execute(self._sql["delivered"], delivery.delivery_id, delivery.attempts)

    async def failed(self, delivery: Delivery, reason: str, seconds: float, *, dead: bool) -> bool:
        """It was not: another try in `seconds`, unless it is too old or `dead`; whether it is. Raises StorageDown."""
        told = (delivery.delivery_id, delivery.attempts, reason, seconds, MAX_AGE_SECONDS, dead)
        with storage_errors():
            return bool(await self._pool.fetchval(self._sql["failed"], *told))

    async def forget(self) -> int:
        """Removes what has been dead for a week, and the oldest of too many; how many. Raises StorageDown."""
        with storage_errors():
            return int(await self._pool.fetchval(self._sql["forget"], DEAD_SECONDS, MOST_WAITING))

    async def _found(self, query: str, name: str, *values: Any) -> int:
        with storage_errors():
            found = await self._pool.fetchval(self._sql[query], name, *values)
        if found is None:
            raise _unknown(name)
        return int(found)


def _state(row: Record) -> WebhookState:
    return WebhookState(
        row["name"],
        row["url"],
        tuple(row["events"]),
        row["scorer_name"],
        row["experiment_id"],
        row["errors"],
        row["value_is"],
        row["below"],
        row["above"],
        row["waiting"],
        row["dead"],
        row["error"],
    )


def _unknown(name: str) -> NotFound:
    return NotFound(f"There is no webhook {name[:100]}.")
