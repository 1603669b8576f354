"""API keys in tests: made straight in Postgres, and a gate for parts that are tried without any."""

from collections.abc import Sequence

from tracestone.collector.auth.gate import Gate
from tracestone.schema import keys
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.settings import Settings
from tracestone.schema.stores.keys import KeyStore


def open_gate() -> Gate:
    """A gate that lets everybody in and never asks Postgres."""
    return Gate(Settings(auth="off"), KeyStore(None))  # type: ignore[arg-type]


async def new_key(
    pool: Pool, *scopes: str, experiments: Sequence[int] | None = None, expires_at_ms: int | None = None
) -> str:
    """The text of a new key."""
    bound = None if experiments is None else frozenset(experiments)
    _, token = await KeyStore(pool).create("test", keys.read_scopes(list(scopes)), bound, expires_at_ms)
    return token


def bearer(token: str) -> dict[str, str]:
    """The header that brings a key."""
    return {"authorization": f"Bearer {token}"}
