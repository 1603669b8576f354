"""Scorers with their versions, and the online configurations that apply them. Postgres is the record."""

from collections.abc import Sequence

import asyncpg

from tracestone.schema import clock, sqlfiles
from tracestone.schema.assessments import TargetType
from tracestone.schema.engines.postgres import Pool, storage_errors
from tracestone.schema.errors import Invalid, NotFound, StorageDown, TooLarge
from tracestone.schema.scorers.definition import Definition, Scorer, define
from tracestone.schema.scorers.online import IDLE_SECONDS, OnlineConfig, Stratum

MAX_SCORERS = 1000
MAX_VERSIONS = 10_000
_PAGE = 200


class ScorerStore:
    """One aggregate: a scorer name, its versions and its online configurations."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sql = sqlfiles.queries("postgres", "scorers")
        self._by_version: dict[tuple[str, int], Scorer] = {}

    async def define(self, definition: Definition) -> Scorer:
        """Stores the definition as the next version; an unchanged one returns the version it has.

        Raises TooLarge when there are too many scorers or versions, StorageDown.
        """
        with storage_errors():
            return await self._define(definition)

    async def get(self, name: str, version: int | None = None) -> Scorer:
        """One version, or the latest. Raises NotFound, StorageDown."""
        if version is None:
            with storage_errors():
                row = await self._pool.fetchrow(self._sql["latest"], name)
            if row is None:
                raise NotFound(f"There is no scorer {name}.")
            return _scorer(row)
        known = self._by_version.get((name, version))
        if known is None:
            with storage_errors():
                row = await self._pool.fetchrow(self._sql["version"], name, version)
            if row is None:
                raise NotFound(f"There is no version {version} of the scorer {name}.")
            known = _scorer(row)
            if len(self._by_version) >= 1000:
                self._by_version.clear()
            self._by_version[(name, version)] = known
        return known

    async def versions(self, name: str, before: int | None = None) -> list[Scorer]:
        """Up to 200 versions, newest first, older than `before` when it is given. Raises NotFound, StorageDown."""
        with storage_errors():
            rows = await self._pool.fetch(self._sql["versions"], name, before, _PAGE)
        if not rows and before is None:
            raise NotFound(f"There is no scorer {name}.")
        return [_scorer(row) for row in rows]

    async def latest(self, after: str = "") -> list[Scorer]:
        """The latest version of up to 200 scorers in order of name, after a name. Raises StorageDown."""
        with storage_errors():
            return [_scorer(row) for row in await self._pool.fetch(self._sql["all_latest"], after, _PAGE)]

    async def put_config(
        self,
        scorer_name: str,
        *,
        version: int | None,
        experiment_id: int | None,
        sample_rate: float,
        filter: str,
        salt: str,
        target_type: TargetType = "trace",
        strata: Sequence[Stratum] = (),
        idle_seconds: float = IDLE_SECONDS,
        priority: int = 0,
        after: str = "",
        after_version: int | None = None,
        concurrency: int | None = None,
        fair_by: str = "",
        fair_per_hour: float | None = None,
    ) -> OnlineConfig:
        """Creates or replaces the configuration of (scorer, experiment).

        A new one begins with what finishes from now on. Its filters must have been checked
        (`filter_sql.check_filter`). Raises NotFound, Invalid, StorageDown.
        """
        await self.get(scorer_name, version)
        values = (
            scorer_name,
            version,
            experiment_id,
            sample_rate,
            filter,
            salt,
            clock.now_ms(),
            target_type,
            [stratum.model_dump() for stratum in strata],
            idle_seconds,
            priority,
            after,
            after_version,
            concurrency,
            fair_by,
            fair_per_hour,
        )
        try:
            with storage_errors():
                async with self._pool.acquire() as connection, connection.transaction():
                    config = _config(await connection.fetchrow(self._sql["put_config"], *values))
                    await connection.execute(self._sql["begin_progress"], config.config_id, clock.now_ns())
        except asyncpg.ForeignKeyViolationError as error:
            raise Invalid("experiment", f"there is no experiment {experiment_id}") from error
        return config

    async def delete_config(self, scorer_name: str, experiment_id: int | None) -> None:
        """Ends a configuration. Traces chosen before are still scored. Raises NotFound, StorageDown."""
        with storage_errors():
            deleted = await self._pool.fetchval(self._sql["delete_config"], scorer_name, experiment_id)
        if deleted is None:
            where = "all experiments" if experiment_id is None else f"experiment {experiment_id}"
            raise NotFound(f"The scorer {scorer_name} has no online configuration for {where}.")

    async def configs(self, scorer_name: str | None = None) -> list[OnlineConfig]:
        """The configurations of a scorer, or all of them.

        Their number is bounded by scorers and experiments. Raises StorageDown.
        """
        with storage_errors():
            return [_config(row) for row in await self._pool.fetch(self._sql["configs"], scorer_name)]

    async def _define(self, definition: Definition) -> Scorer:
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(self._sql["add_name"], definition.name, clock.now_ms())
            await connection.fetchval(self._sql["lock_name"], definition.name)
            latest = await connection.fetchrow(self._sql["latest"], definition.name)
            # Not by the stored digest: a parameter that came later has its default in what was stored before.
            if latest is not None and _definition(latest).digest == definition.digest:
                return _scorer(latest)
            version = 1 if latest is None else int(latest["version"]) + 1
            if latest is None and await connection.fetchval(self._sql["count_names"]) > MAX_SCORERS:
                raise TooLarge(f"There are {MAX_SCORERS} scorers already.")
            if version > MAX_VERSIONS:
                raise TooLarge(f"The scorer {definition.name} has {MAX_VERSIONS} versions already.")
            created = clock.now_ms()
            await connection.execute(
                self._sql["add_version"],
                definition.name,
                version,
                definition.kind,
                definition.stored,
                definition.digest,
                created,
            )
        return Scorer(definition.name, version, definition.kind, definition.parameters, created)


def _definition(row: asyncpg.Record) -> Definition:
    return define(row["scorer_name"], row["kind"], row["parameters"])


def _scorer(row: asyncpg.Record) -> Scorer:
    parameters = _definition(row).parameters
    return Scorer(row["scorer_name"], row["version"], row["kind"], parameters, row["created_at_ms"])


def _config(row: asyncpg.Record | None) -> OnlineConfig:
    if row is None:  # RETURNING of a statement that has just written the row
        raise StorageDown("Postgres did not return the row it wrote")
    return OnlineConfig(
        row["config_id"],
        row["scorer_name"],
        row["scorer_version"],
        row["experiment_id"],
        row["sample_rate"],
        row["filter"],
        row["salt"],
        row["error"],
        row["target_type"],
        tuple(Stratum.model_validate(stratum) for stratum in row["strata"]),
        row["idle_seconds"],
        row["priority"],
        row["after_scorer"],
        row["after_version"],
        row["concurrency"],
        row["fair_by"],
        row["fair_per_hour"],
    )
