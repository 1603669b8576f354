"""API keys: who is calling, and what they may do.

A key as its owner has it is `ts_<id>_<secret>`: 16 hexadecimal digits by which it is known, and 64 that nobody can
guess. Only SHA-256 of the whole text is kept. A slow hash would add nothing: it makes it dear to try out the passwords
that people choose, and of a secret of 256 random bits there are too many to try at any speed.
"""

import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import Literal, get_args

from tracestone.schema.errors import Forbidden, Invalid

Scope = Literal["ingest", "read", "write", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

MAX_NAME_CHARACTERS = 200
MAX_EXPERIMENTS = 100
MAX_KEYS = 10_000

_TOKEN = re.compile(r"ts_([0-9a-f]{16})_[0-9a-f]{64}")


@dataclass(frozen=True)
class Key:
    """One key without its secret. Times are milliseconds since the Unix epoch; `experiments` None means all.

    `last_used_at_ms` is accurate to a minute.
    """

    key_id: str
    name: str
    scopes: frozenset[Scope]
    experiments: frozenset[int] | None
    created_at_ms: int
    expires_at_ms: int | None = None
    revoked_at_ms: int | None = None
    last_used_at_ms: int | None = None


@dataclass(frozen=True)
class Caller:
    """Who sent a request, "" when nobody asked, and what they may do. `experiments` None means all."""

    key_id: str
    scopes: frozenset[Scope]
    experiments: frozenset[int] | None = None

    def may(self, scope: Scope) -> bool:
        """Whether the caller has the scope; admin has them all."""
        return scope in self.scopes or "admin" in self.scopes

    def demand(self, scope: Scope) -> None:
        """Raises Forbidden unless the caller has the scope."""
        if not self.may(scope):
            raise Forbidden(f"The API key {self.key_id} does not have the scope {scope}.")

    def may_see(self, experiment_id: int) -> bool:
        """Whether this experiment is among the caller's."""
        return self.experiments is None or experiment_id in self.experiments


ANYBODY = Caller("", frozenset(SCOPES))
"""Who calls where no keys are demanded."""


def new_token() -> tuple[str, str]:
    """The id of a new key, and the key itself."""
    key_id = secrets.token_hex(8)
    return key_id, f"ts_{key_id}_{secrets.token_hex(32)}"


def key_id_of(token: str) -> str:
    """The id in a key; "" when this is no key."""
    match = _TOKEN.fullmatch(token)
    return match[1] if match else ""


def digest(token: str) -> bytes:
    """What is kept of a key."""
    return hashlib.sha256(token.encode()).digest()


def read_scopes(names: list[str]) -> frozenset[Scope]:
    """Raises Invalid for a name that is no scope, and for none at all."""
    for name in names:
        if name not in SCOPES:
            raise Invalid("scopes", f"knows no {name[:50]!r}; they are {', '.join(SCOPES)}")
    if not names:
        raise Invalid("scopes", f"must hold at least one of {', '.join(SCOPES)}")
    return frozenset(scope for scope in SCOPES if scope in names)
