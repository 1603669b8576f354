"""Applies the numbered migrations of both stores, forward only.

Safe to run twice and by several processes at once: a Postgres advisory lock is held for the whole run, and it
guards ClickHouse too, which has no lock of its own. A Postgres migration is one transaction. A ClickHouse migration
is several statements that must each be safe to run again; it is recorded only when all of them have run.
A recorded migration whose file changed, or a store newer than this code, stops the run.

The views that turn requests into spans are generated from the map of attributes (`mapping/`), and brought up to it
whenever it is another than the one in force; what is inserted meanwhile goes through the old views or the new. At the
end the public tables are commented (`contract.py`).
"""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracestone.schema import contract, sqlfiles
from tracestone.schema.engines.columnar import Columnar, StatementFailed
from tracestone.schema.engines.postgres import Failed, Pool, storage_errors
from tracestone.schema.errors import StartRefused
from tracestone.schema.mapping import generate, tables
from tracestone.schema.stores.prices import PriceTable

# A migration, another process's too, may take long; the pool's own time limit is for requests.
_LONGEST_SECONDS = 24 * 3600.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Applied:
    """A migration that this run applied."""

    store: sqlfiles.Store
    version: int
    name: str


async def migrate(pool: Pool, columnar: Columnar, mapping_dir: Path | None = None) -> list[Applied]:
    """Brings both stores to the newest schema; returns what was applied (empty when nothing was missing).

    `mapping_dir` holds a deployment's own rows of the map of attributes.

    Raises StartRefused, StorageDown.
    """
    try:
        with storage_errors():
            return await _locked(pool, columnar, mapping_dir)
    except StatementFailed as error:
        raise StartRefused(f"A ClickHouse migration failed: {_line(error)}") from error
    except Failed as error:
        raise StartRefused(f"A Postgres migration failed: {_line(error)}") from error


async def migrate_postgres(pool: Pool) -> None:
    """The same for Postgres alone, for commands that need no ClickHouse. Raises StartRefused, StorageDown."""
    try:
        with storage_errors():
            await _locked(pool, None, None)
    except Failed as error:
        raise StartRefused(f"A Postgres migration failed: {_line(error)}") from error


async def _locked(pool: Pool, columnar: Columnar | None, mapping_dir: Path | None) -> list[Applied]:
    control = sqlfiles.queries("postgres", "migrate")
    async with pool.acquire() as connection:
        await connection.execute(control["lock"], timeout=_LONGEST_SECONDS)
        try:
            applied = await _postgres(connection)
            return applied if columnar is None else [*applied, *await _clickhouse(columnar, mapping_dir)]
        finally:
            # The lock of a lost connection has gone with it.
            if not connection.is_closed():
                await connection.execute(control["unlock"])


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:500].rstrip(".") + "."


async def _postgres(connection: Any) -> list[Applied]:
    control = sqlfiles.queries("postgres", "migrate")
    await connection.execute(control["create_history"])
    recorded = {row["version"]: row["checksum"] for row in await connection.fetch(control["history"])}
    applied = []
    for migration in _missing("postgres", recorded):
        async with connection.transaction():
            await connection.execute(migration.text, timeout=_LONGEST_SECONDS)
            await connection.execute(control["record"], migration.version, migration.name, migration.checksum)
        applied.append(_announce("postgres", migration))
    return applied


async def _clickhouse(columnar: Columnar, mapping_dir: Path | None) -> list[Applied]:
    control = sqlfiles.queries("clickhouse", "migrate")
    await columnar.command(control["create_history"])
    recorded = {int(row["version"]): str(row["checksum"]) for row in await columnar.query(control["history"])}
    applied = []
    for migration in _missing("clickhouse", recorded):
        for statement in migration.statements():
            await columnar.command(statement)
        await columnar.command(
            control["record"],
            {"version": migration.version, "name": migration.name, "checksum": migration.checksum},
        )
        applied.append(_announce("clickhouse", migration))
    await PriceTable(columnar).load_shipped()
    wanted = tables.read(mapping_dir)
    await _follow_map(columnar, wanted)
    await columnar.command(generate.ends(wanted))
    await contract.comment(columnar)
    return applied


async def _follow_map(columnar: Columnar, wanted: tables.Tables) -> None:
    control = sqlfiles.queries("clickhouse", "migrate")
    checksum = hashlib.sha256("\n".join(generate.views(wanted, 0)).encode()).hexdigest()
    known = await columnar.query(control["attribute_maps"])
    if known and known[0]["checksum"] == checksum:
        return
    # A map that was in force before gets its number again, so what it filled needs no filling.
    again = [int(row["version"]) for row in known if row["checksum"] == checksum]
    version = again[0] if again else max((int(row["version"]) for row in known), default=0) + 1
    for statement in generate.views(wanted, version):
        await columnar.command(statement)
    await columnar.command(control["record_attribute_map"], {"version": version, "checksum": checksum})
    logger.info("map of attributes applied", extra={"store": "clickhouse", "version": version})


def _missing(store: sqlfiles.Store, recorded: dict[int, str]) -> list[sqlfiles.Migration]:
    known = sqlfiles.migrations(store)
    for migration in known:
        if recorded.get(migration.version, migration.checksum) != migration.checksum:
            raise StartRefused(
                f"The {store} migration {migration.version:04d}_{migration.name} differs from the one that was applied."
            )
    newest, ours = max(recorded, default=0), known[-1].version
    if newest > ours:
        raise StartRefused(
            f"The {store} schema is at version {newest}, newer than this code knows ({ours}); upgrade Tracestone."
        )
    return [migration for migration in known if migration.version not in recorded]


def _announce(store: sqlfiles.Store, migration: sqlfiles.Migration) -> Applied:
    logger.info("migration applied", extra={"store": store, "version": migration.version, "migration": migration.name})
    return Applied(store, migration.version, migration.name)
