"""Experiments in Postgres, and the cache that answers the receiver which experiment a name means."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tracestone.schema import clock, sqlfiles
from tracestone.schema import experiments as model
from tracestone.schema.engines.postgres import Connection, Pool, Record, UniqueViolation, answer_within, storage_errors
from tracestone.schema.errors import Conflict, Invalid, NotFound, StorageDown
from tracestone.schema.experiments import DEFAULT_EXPERIMENT_ID, Experiment, ExperimentOrder, LifecycleStage
from tracestone.schema.filters import Comparison

logger = logging.getLogger(__name__)

MAX_ORDER_KEYS = 3
# How long another process's rename, or room for a refused name, goes unnoticed here.
_CACHE_SECONDS = 60.0
# Of telemetry's questions: a sender waits for the answer, and keeps its request in memory.
_ANSWER_SECONDS = 3.0
_MAX_ASKED = 100


class ExperimentStore:
    """Everything there is to do with experiments. Safe to use from one event loop."""

    def __init__(self, pool: Pool, max_experiments: int) -> None:
        """`max_experiments` bounds what telemetry may create by naming it; the API may go beyond."""
        self._pool = pool
        self._sql = sqlfiles.queries("postgres", "experiments")
        self._names = _NameCache(max_experiments)
        self._max_experiments = max_experiments
        self._next_warning = 0.0
        self._asked: dict[tuple[str, str], asyncio.Task[int | None]] = {}
        self._has_judges = False

    def cached(self, name: str) -> int | None:
        """The experiment id of a name seen in the last minute, at once; None when `resolve` must be asked."""
        return self._names.get(name)

    async def resolve(self, name: str) -> int:
        """The experiment id of a name that telemetry gave, created by whichever process sees it first.

        An unusable name, and a new one beyond `max_experiments`, means the Default experiment. The name of a
        deleted experiment still means that one: nothing is lost, and restoring it shows what came meanwhile.
        Raises StorageDown when Postgres is away, or does not answer soon, and the name was not known before.
        """
        usable = model.usable_name(name)
        if not usable:
            return DEFAULT_EXPERIMENT_ID
        known = self._names.get(usable)
        if known is not None:
            return known
        try:
            found = await self._ask("find or create", usable, lambda: self._find_or_create(usable))
        except StorageDown:
            earlier = self._names.get_expired(usable)
            if earlier is None:
                raise
            found = earlier
        if found is None:
            self._warn()
            found = DEFAULT_EXPERIMENT_ID
        self._names.put(usable, found)
        return found

    async def find(self, name: str) -> int | None:
        """As `resolve`, but a name that no experiment has makes none and means None. Raises StorageDown."""
        usable = model.usable_name(name)
        if not usable:
            return DEFAULT_EXPERIMENT_ID
        known = self._names.get(usable)
        if known is not None:
            return known
        try:
            found = await self._ask("find", usable, lambda: self._find(usable))
        except StorageDown:
            found = self._names.get_expired(usable)
            if found is None:
                raise
        if found is None:
            return None
        self._names.put(usable, found)
        return found

    async def exists(self, experiment_id: int) -> bool:
        """Whether there is such an experiment, deleted or not. Raises StorageDown."""
        if not 0 <= experiment_id <= model.MAX_EXPERIMENT_ID:
            return False
        known = await self._ask("exists", str(experiment_id), lambda: self._existing(experiment_id))
        return known is not None

    async def get(self, experiment_id: int) -> Experiment:
        """One experiment, deleted ones too. Raises NotFound, StorageDown."""
        with storage_errors():
            row = await self._pool.fetchrow(self._sql["get"], _int32(experiment_id))
        if row is None:
            raise _unknown(experiment_id)
        return _experiment(row)

    async def by_name(self, name: str) -> Experiment | None:
        """One experiment by its exact name, deleted ones too. Raises StorageDown."""
        with storage_errors():
            row = await self._pool.fetchrow(self._sql["by_name"], name)
        return None if row is None else _experiment(row)

    async def create(
        self, name: str, *, artifact_location: str = "", tags: Mapping[str, str] | None = None
    ) -> Experiment:
        """A new experiment. Raises Invalid, Conflict when the name is taken, StorageDown."""
        _check_name(name)
        if len(artifact_location) > model.MAX_LOCATION_CHARACTERS:
            raise Invalid("artifact_location", f"is over {model.MAX_LOCATION_CHARACTERS} characters")
        kept = dict(tags or {})
        _check_tags(kept)
        with storage_errors():
            row = await self._pool.fetchrow(self._sql["create"], name, artifact_location, clock.now_ms(), kept)
        if row is None:
            raise Conflict(f"Experiment '{name}' already exists")
        return _experiment(row)

    async def make_judges(self) -> None:
        """Makes the experiment of judges' own calls, unless it is there. Raises StorageDown."""
        if self._has_judges:
            return
        with storage_errors():
            await self._pool.execute(
                self._sql["make_judges"], model.JUDGES_EXPERIMENT_ID, model.JUDGES_EXPERIMENT, clock.now_ms()
            )
        self._has_judges = True

    async def rename(self, experiment_id: int, name: str) -> None:
        """Gives an active experiment another name. Raises Invalid, NotFound, Conflict, StorageDown."""
        _check_name(name)
        with storage_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                current = await self._lock(connection, experiment_id, must_be_active=True)
                try:
                    await connection.execute(self._sql["rename"], experiment_id, name, clock.now_ms())
                except UniqueViolation as error:
                    raise Conflict(f"Experiment '{name}' already exists") from error
        self._names.forget(current.name)

    async def delete(self, experiment_id: int) -> None:
        """Puts an active experiment into the bin. Raises NotFound, Invalid for Default, StorageDown."""
        if experiment_id == DEFAULT_EXPERIMENT_ID:
            raise Invalid("experiment_id", "the Default experiment cannot be deleted")
        await self._move(experiment_id, "active", "deleted")

    async def restore(self, experiment_id: int) -> None:
        """Takes a deleted experiment out of the bin. Raises NotFound, StorageDown."""
        await self._move(experiment_id, "deleted", "active")

    async def set_tag(self, experiment_id: int, key: str, value: str) -> None:
        """Sets a tag of an active experiment. Raises Invalid, NotFound, StorageDown."""
        _check_tags({key: value})
        with storage_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                current = await self._lock(connection, experiment_id, must_be_active=True)
                tags = {**current.tags, key: value}
                _check_tags(tags)
                await connection.execute(self._sql["set_tags"], experiment_id, tags, clock.now_ms())

    async def delete_tag(self, experiment_id: int, key: str) -> None:
        """Removes a tag of an active experiment. Raises NotFound, also for the tag, and StorageDown."""
        with storage_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                current = await self._lock(connection, experiment_id, must_be_active=True)
                if key not in current.tags:
                    raise NotFound(f"No tag with name: {key} in experiment with ID {experiment_id}")
                tags = {name: value for name, value in current.tags.items() if name != key}
                await connection.execute(self._sql["set_tags"], experiment_id, tags, clock.now_ms())

    async def search(
        self,
        comparisons: Sequence[Comparison] = (),
        *,
        stages: Sequence[LifecycleStage] = ("active",),
        order: Sequence[ExperimentOrder] = (),
        limit: int = 1000,
        offset: int = 0,
    ) -> list[Experiment]:
        """Experiments for which every comparison holds; newest first unless `order` says otherwise.

        Raises Invalid for more than three sort keys, StorageDown.
        """
        if len(order) > MAX_ORDER_KEYS:
            raise Invalid("order_by", f"takes at most {MAX_ORDER_KEYS} keys")
        keys = list(order) or [ExperimentOrder("creation_time", ascending=False)]
        with storage_errors():
            rows = await self._pool.fetch(
                self._sql["search"],
                list(stages),
                [asdict(comparison) for comparison in comparisons],
                [key.field for key in keys],
                [1 if key.ascending else -1 for key in keys],
                limit,
                offset,
            )
        return [_experiment(row) for row in rows]

    async def _ask(self, question: str, about: str, ask: Callable[[], Coroutine[Any, Any, int | None]]) -> int | None:
        """An answer, if it comes soon; who asks the same meanwhile shares it. Raises StorageDown."""
        asking = self._asked.get((question, about))
        if asking is None:
            if len(self._asked) >= _MAX_ASKED:
                raise StorageDown("Postgres has too many questions to answer")
            asking = self._asked[question, about] = asyncio.create_task(ask(), name="experiment")
            asking.add_done_callback(lambda done: self._answered((question, about), done))
        return await answer_within(_ANSWER_SECONDS, asking)

    def _answered(self, asked: tuple[str, str], done: asyncio.Task[int | None]) -> None:
        self._asked.pop(asked)
        if not done.cancelled():
            done.exception()  # whoever asked has been told, or has gone

    async def _find(self, name: str) -> int | None:
        found = await self._pool.fetchval(self._sql["id_by_name"], name)
        return None if found is None else int(found)

    async def _find_or_create(self, name: str) -> int | None:
        if name == model.JUDGES_EXPERIMENT:
            await self.make_judges()
        found = await self._find(name)
        if found is None:
            created = await self._pool.fetchval(self._sql["create_within"], name, clock.now_ms(), self._max_experiments)
            found = None if created is None else int(created)
        if found is None:  # another process was faster, or the bound is reached
            found = await self._find(name)
        return found

    async def _existing(self, experiment_id: int) -> int | None:
        return None if await self._pool.fetchrow(self._sql["get"], experiment_id) is None else experiment_id

    def _warn(self) -> None:
        # A sender with ever new names must not fill the log.
        if clock.monotonic() >= self._next_warning:
            self._next_warning = clock.monotonic() + _CACHE_SECONDS
            logger.warning(
                "experiment not created, its spans go to Default",
                extra={"action": "experiment_refused", "max_experiments": self._max_experiments},
            )

    async def _move(self, experiment_id: int, before: LifecycleStage, after: LifecycleStage) -> None:
        with storage_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                current = await self._lock(connection, experiment_id)
                if current.lifecycle_stage != before:
                    raise NotFound(f"No {before} experiment with id={experiment_id} exists")
                await connection.execute(self._sql["set_stage"], experiment_id, after, clock.now_ms())

    async def _lock(self, connection: Connection, experiment_id: int, *, must_be_active: bool = False) -> Experiment:
        row = await connection.fetchrow(self._sql["lock"], _int32(experiment_id))
        if row is None:
            raise _unknown(experiment_id)
        if must_be_active and row["lifecycle_stage"] != "active":
            raise Invalid("experiment_id", f"experiment {experiment_id} must be active to be changed")
        return _experiment(row)


class _NameCache:
    """Names to ids, forgotten after a minute; what was forgotten last still serves while Postgres is away."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._ids: dict[str, int] = {}
        self._expired: dict[str, int] = {}
        self._until = clock.monotonic() + _CACHE_SECONDS

    def get(self, name: str) -> int | None:
        if clock.monotonic() > self._until:
            self._expired = {**self._expired, **self._ids} if len(self._expired) < self._size else self._ids
            self._ids = {}
            self._until = clock.monotonic() + _CACHE_SECONDS
        return self._ids.get(name)

    def get_expired(self, name: str) -> int | None:
        return self._expired.get(name)

    def put(self, name: str, experiment_id: int) -> None:
        # Names beyond the bound all mean Default, and there is no end of them.
        if len(self._ids) < 2 * self._size:
            self._ids[name] = experiment_id

    def forget(self, name: str) -> None:
        self._ids.pop(name, None)
        self._expired.pop(name, None)


def _experiment(row: Record) -> Experiment:
    return Experiment(
        experiment_id=row["experiment_id"],
        name=row["name"],
        lifecycle_stage=row["lifecycle_stage"],
        artifact_location=row["artifact_location"] or f"mlflow-artifacts:/{row['experiment_id']}",
        creation_time_ms=row["creation_time_ms"],
        last_update_time_ms=row["last_update_time_ms"],
        tags=row["tags"],
    )


def _unknown(experiment_id: int) -> NotFound:
    return NotFound(f"No Experiment with id={experiment_id} exists")


def _int32(experiment_id: int) -> int:
    # Out of the column's range there can be no experiment; -1 is never one.
    return experiment_id if 0 <= experiment_id <= model.MAX_EXPERIMENT_ID else -1


def _check_name(name: str) -> None:
    if not name.strip():
        raise Invalid("name", "must not be empty")
    if len(name) > model.MAX_NAME_CHARACTERS:
        raise Invalid("name", f"is over {model.MAX_NAME_CHARACTERS} characters")
    if name == model.JUDGES_EXPERIMENT:
        raise Invalid("name", "is kept for the calls of judges")


def _check_tags(tags: Mapping[str, str]) -> None:
    if len(tags) > model.MAX_TAGS:
        raise Invalid("tags", f"are more than {model.MAX_TAGS}")
    for key, value in tags.items():
        if not 1 <= len(key) <= model.MAX_TAG_KEY_CHARACTERS:
            raise Invalid("key", f"must have 1 to {model.MAX_TAG_KEY_CHARACTERS} characters")
        if len(value) > model.MAX_TAG_VALUE_CHARACTERS:
            raise Invalid("value", f"is over {model.MAX_TAG_VALUE_CHARACTERS} characters")
