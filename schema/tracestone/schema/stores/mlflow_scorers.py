"""Scorers as MLflow's client registers them: what it sent, and which scorer of ours runs each version."""

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from tracestone.schema import clock, sqlfiles
from tracestone.schema.engines.postgres import Pool, storage_errors
from tracestone.schema.errors import Invalid, NotFound, StorageDown
from tracestone.schema.mlflow import serialized, trace_filter
from tracestone.schema.online import OnlineSetup

MAX_LISTED = 1000
_FOREIGN = re.compile(r"[^A-Za-z0-9_.-]+")
_LONGEST_OWN_NAME = 80


@dataclass(frozen=True)
class Registered:
    """One version of a registered scorer. `scorer_name` and `scorer_version` are those of the scorer that runs it."""

    scorer_id: str
    experiment_id: int
    name: str
    version: int
    serialized: str
    scorer_name: str
    scorer_version: int
    created_at_ms: int


@dataclass(frozen=True)
class Online:
    """The online configuration of a registered scorer; `filter_string` is as the client wrote it."""

    config_id: int
    scorer_id: str
    experiment_id: int
    sample_rate: float
    filter_string: str


class MlflowScorerStore:
    """One aggregate: a scorer of an experiment with its versions and its online configuration."""

    def __init__(self, pool: Pool, setup: OnlineSetup) -> None:
        self._pool = pool
        self._setup = setup
        self._sql = sqlfiles.queries("postgres", "mlflow_scorers")

    async def register(self, experiment_id: int, name: str, text: str) -> Registered:
        """Stores the next version, and the scorer of ours that runs it. Raises Invalid, TooLarge, StorageDown."""
        if not 1 <= len(name) <= 250:
            raise Invalid("name", "must have 1 to 250 characters")
        document = serialized.definition(text)
        known = await self._known(experiment_id, name)
        own = known[1] if known else await self._own_name(experiment_id, name)
        try:
            scorer = await self._setup.define({"name": own, **document})
        except Invalid as error:
            raise Invalid(serialized.FIELD, f"{error.field} {error.reason}") from error
        created = clock.now_ms()
        with storage_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                scorer_id = known[0] if known else f"s-{secrets.token_hex(16)}"
                if not known and await connection.fetchval(
                    self._sql["add_scorer"], scorer_id, experiment_id, name, own
                ) is None:  # fmt: skip
                    raise StorageDown("another request registers this scorer; try again")
                version = await connection.fetchval(self._sql["add_version"], scorer_id, text, scorer.version, created)
        return Registered(scorer_id, experiment_id, name, version, text, own, scorer.version, created)

    async def latest(self, experiment_ids: Sequence[int]) -> list[Registered]:
        """The newest version of each scorer of some experiments. Raises StorageDown."""
        with storage_errors():
            rows = await self._pool.fetch(self._sql["latest"], list(experiment_ids), MAX_LISTED)
        return [_registered(row) for row in rows]

    async def versions(self, experiment_id: int, name: str, version: int | None = None) -> list[Registered]:
        """The versions of a scorer, newest first, or one. Raises NotFound, StorageDown."""
        with storage_errors():
            rows = await self._pool.fetch(self._sql["versions"], [experiment_id], name, version, MAX_LISTED)
        if not rows:
            which = "" if version is None else f" with version {version}"
            raise NotFound(f"Scorer '{name[:250]}'{which} not found in experiment {experiment_id}.")
        return [_registered(row) for row in rows]

    async def delete(self, experiment_id: int, name: str, version: int | None) -> None:
        """Removes a version, or all. With the last one its online configuration ends. Raises NotFound, StorageDown."""
        [first, *_] = await self.versions(experiment_id, name, version)
        with storage_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.fetch(self._sql["delete_version"], first.scorer_id, version)
                gone = await connection.fetchval(self._sql["delete_scorer"], first.scorer_id)
        if gone is not None:
            try:
                await self._setup.scorers.delete_config(gone, experiment_id)
            except NotFound:
                return

    async def start(self, experiment_id: int, name: str, sample_rate: float, filter_string: str) -> Online:
        """Applies the newest version to the experiment's traffic. Raises NotFound, Invalid, StorageDown."""
        [newest, *_] = await self.versions(experiment_id, name)
        request: dict[str, Any] = {"experiment": experiment_id, "sample_rate": sample_rate}
        if filter_string:
            request["filter"] = trace_filter.condition(filter_string)
        try:
            config = await self._setup.put(newest.scorer_name, request)
        except Invalid as error:
            raise Invalid("filter_string" if error.field == "filter" else error.field, error.reason) from error
        with storage_errors():
            await self._pool.execute(self._sql["set_filter"], newest.scorer_id, filter_string)
        return Online(config.config_id, newest.scorer_id, experiment_id, config.sample_rate, filter_string)

    async def online(self, scorer_ids: Sequence[str]) -> list[Online]:
        """The online configurations of scorers by id; those without one are absent. Raises StorageDown."""
        with storage_errors():
            rows = await self._pool.fetch(self._sql["online"], list(scorer_ids)[:MAX_LISTED])
        return [
            Online(row["config_id"], row["scorer_id"], row["experiment_id"], row["sample_rate"], row["filter_string"])
            for row in rows
        ]

    async def _known(self, experiment_id: int, name: str) -> tuple[str, str] | None:
        with storage_errors():
            row = await self._pool.fetchrow(self._sql["by_name"], experiment_id, name)
        return None if row is None else (row["scorer_id"], row["scorer_name"])

    async def _own_name(self, experiment_id: int, name: str) -> str:
        """The name of our scorer: the client's own where it is free, for verdicts carry it."""
        plain = _FOREIGN.sub("-", name)[:_LONGEST_OWN_NAME]
        plain = plain if plain[:1].isalpha() and plain[:1].isascii() else f"s-{plain}"
        with storage_errors():
            taken = await self._pool.fetchval(self._sql["own_name_taken"], plain)
        return f"{plain}-{experiment_id}" if taken else plain


def _registered(row: asyncpg.Record) -> Registered:
    return Registered(
        row["scorer_id"],
        row["experiment_id"],
        row["name"],
        row["version"],
        row["serialized"],
        row["scorer_name"],
        row["scorer_version"],
        row["created_at_ms"],
    )
