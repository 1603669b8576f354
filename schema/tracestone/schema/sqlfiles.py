"""Loads the SQL that ships with the package: numbered migrations and named queries.

A query file holds blocks of the form

    -- name: latest_traces
    -- One line that says what the query is for.
    SELECT ...

A query has no trailing semicolon once loaded. Nothing here runs SQL.
"""

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import pairwise
from typing import Literal

Store = Literal["clickhouse", "postgres"]

_NAME = re.compile(r"^-- name: (?P<name>[a-z][a-z0-9_]*)\s*$", re.MULTILINE)
_MIGRATION = re.compile(r"^(?P<version>\d{4})_(?P<name>[a-z0-9_]+)\.sql$")
_STATEMENT_END = re.compile(r";[ \t]*(?:--[^\n]*)?$", re.MULTILINE)


@dataclass(frozen=True)
class Migration:
    """One numbered migration file; `checksum` is the SHA-256 of its bytes, in hex."""

    version: int
    name: str
    text: str
    checksum: str

    def statements(self) -> list[str]:
        """The file cut at every semicolon that ends a line, comments-only pieces left out."""
        pieces = (piece.strip() for piece in _STATEMENT_END.split(self.text))
        return [piece for piece in pieces if _without_comments(piece)]


@cache
def queries(store: Store, topic: str) -> dict[str, str]:
    """All named queries of `sql/<store>/queries/<topic>.sql`."""
    text = (files(__package__) / "sql" / store / "queries" / f"{topic}.sql").read_text(encoding="utf-8")
    parts = _NAME.split(text)
    found: dict[str, str] = {}
    for name, body in zip(parts[1::2], parts[2::2], strict=True):
        if name in found:
            raise ValueError(f"{store}/{topic}.sql defines {name} twice")
        found[name] = body.strip().removesuffix(";").rstrip()
    return found


@cache
def migrations(store: Store) -> tuple[Migration, ...]:
    """The migrations of a store in order of their numbers, of which no two are the same; some may be left out."""
    found = []
    for entry in (files(__package__) / "sql" / store / "migrations").iterdir():
        match = _MIGRATION.match(entry.name)
        if match is None:
            raise ValueError(f"not a migration file name: {entry.name}")
        raw = entry.read_bytes()
        found.append(
            Migration(int(match["version"]), match["name"], raw.decode("utf-8"), hashlib.sha256(raw).hexdigest())
        )
    found.sort(key=lambda migration: migration.version)
    for one, next_one in pairwise(found):
        if one.version == next_one.version:
            raise ValueError(f"{store} migrations: {one.version:04d} is there twice")
    return tuple(found)


def _without_comments(piece: str) -> str:
    return "\n".join(line for line in piece.splitlines() if not line.lstrip().startswith("--")).strip()
