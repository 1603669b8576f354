"""API keys in Postgres. The secret of a key passes through here once, when it is made."""

from collections.abc import Mapping

from tracestone.schema import clock, keys, sqlfiles
from tracestone.schema.engines.postgres import Pool, Record, storage_errors
from tracestone.schema.errors import Invalid, NotFound, StorageDown, TooLarge
from tracestone.schema.keys import Key, Scope

PAGE = 200
# A check of keys must not wait as long as a statement may take.
_READ_SECONDS = 5.0


class KeyStore:
    """Everything there is to do with keys but to check one."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sql = sqlfiles.queries("postgres", "keys")

    async def create(
        self,
        name: str,
        scopes: frozenset[Scope],
        experiments: frozenset[int] | None = None,
        expires_at_ms: int | None = None,
    ) -> tuple[Key, str]:
        """A new key and its text, which is nowhere kept. The experiments must exist.

        Raises Invalid, TooLarge when there are too many keys, StorageDown.
        """
        _check(name, scopes, experiments, expires_at_ms)
        key_id, token = keys.new_token()
        values = (
            key_id,
            keys.digest(token),
            name,
            sorted(scopes),
            None if experiments is None else sorted(experiments),
            clock.now_ms(),
            expires_at_ms,
        )
        with storage_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(self._sql["lock_changes"])
                if await connection.fetchval(self._sql["count_live"]) >= keys.MAX_KEYS:
                    raise TooLarge(f"There are {keys.MAX_KEYS} API keys already; revoke some.")
                row = await connection.fetchrow(self._sql["add"], *values)
        return _key(row), token

    async def revoke(self, key_id: str) -> Key:
        """Ends a key; doing it again changes nothing. Raises NotFound, StorageDown."""
        with storage_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(self._sql["lock_changes"])
                row = await connection.fetchrow(self._sql["revoke"], key_id, clock.now_ms())
        if row is None:
            raise NotFound(f"There is no API key {key_id[:50]}.")
        return _key(row)

    async def page(self, after: str = "") -> list[Key]:
        """Up to 200 keys in order of their making, the revoked ones too, after one with this id. Raises StorageDown."""
        with storage_errors():
            return [_key(row) for row in await self._pool.fetch(self._sql["page"], after, PAGE)]

    async def latest_change(self) -> int:
        """A number that grows with every change, 0 as long as there never was a key. Raises StorageDown."""
        with storage_errors():
            return int(await self._pool.fetchval(self._sql["latest_change"], timeout=_READ_SECONDS))

    async def live(self) -> dict[str, tuple[Key, bytes]]:
        """Every key that is not revoked, with the hash of its text, by id. Raises StorageDown."""
        with storage_errors():
            rows = await self._pool.fetch(self._sql["live"], keys.MAX_KEYS, timeout=_READ_SECONDS)
        return {row["key_id"]: (_key(row), row["secret_sha256"]) for row in rows}

    async def used(self, times: Mapping[str, int]) -> None:
        """Notes when keys were last used, in milliseconds by id. Raises StorageDown."""
        with storage_errors():
            await self._pool.execute(self._sql["used"], list(times), list(times.values()), timeout=_READ_SECONDS)


def _check(name: str, scopes: frozenset[Scope], experiments: frozenset[int] | None, expires_at_ms: int | None) -> None:
    if not name.strip() or len(name) > keys.MAX_NAME_CHARACTERS or "\x00" in name:
        raise Invalid("name", f"must have 1 to {keys.MAX_NAME_CHARACTERS} characters")
    if experiments is not None and not 1 <= len(experiments) <= keys.MAX_EXPERIMENTS:
        raise Invalid("experiments", f"must be 1 to {keys.MAX_EXPERIMENTS}, or not be given for all")
    if experiments is not None and "admin" in scopes:
        raise Invalid("experiments", "cannot bind a key with the scope admin, which is for everything")
    if expires_at_ms is not None and not clock.now_ms() < expires_at_ms < 2**53:
        raise Invalid("expires", "must be in the future")


def _key(row: Record | None) -> Key:
    if row is None:  # RETURNING of a statement that has just written the row
        raise StorageDown("Postgres did not return the row it wrote")
    bound = row["experiment_ids"]
    return Key(
        key_id=row["key_id"],
        name=row["name"],
        scopes=frozenset(row["scopes"]),
        experiments=None if bound is None else frozenset(bound),
        created_at_ms=row["created_at_ms"],
        expires_at_ms=row["expires_at_ms"],
        revoked_at_ms=row["revoked_at_ms"],
        last_used_at_ms=row["last_used_at_ms"],
    )
