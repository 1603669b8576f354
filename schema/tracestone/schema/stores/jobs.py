"""The scoring queue and the watchers' progress, in Postgres (FOR UPDATE SKIP LOCKED).

Why not PgQueuer 1.6, which was the first choice: it finishes a job from a buffer in a transaction of its
own, so a verdict and its job cannot commit together; a finish is not tied to the claim, so a worker that
was suspended past its heartbeat can remove the job of the one that took over; it deduplicates a job only
while it is queued; and it installs and upgrades its tables itself and reads its own environment variables,
beside our migrations and settings. What is needed is the few statements of `queries/scoring_jobs.sql`.

A claim leases a job for a while under a token. Finishing, retrying and extending need that token, so of two
workers that both believe they hold a job only the later one can finish it. A dead worker's lease runs out.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeVar
from uuid import UUID

from tracestone.schema import clock, sqlfiles
from tracestone.schema.assessments import TargetType
from tracestone.schema.engines.postgres import Connection, Pool, storage_errors

_LIMITS_SECONDS = 1.0
# All scorers together may have as many jobs as so many of them alone.
_SCORERS_TOGETHER = 20
Look = Literal["prompt", "sweep"]
Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class Usage:
    """What calls of a model have cost.

    USD and tokens are None while unknown, `calls` counts every call made.
    """

    calls: int = 0
    cost_usd: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None

    def plus(self, other: "Usage") -> "Usage":
        """The sum; an unknown number adds nothing to a known one."""
        return Usage(
            self.calls + other.calls,
            _sum(self.cost_usd, other.cost_usd),
            _sum(self.input_tokens, other.input_tokens),
            _sum(self.output_tokens, other.output_tokens),
        )


@dataclass(frozen=True)
class Wait:
    """Why a job goes back untried: what it waits for, the reason, and until when, or for how many seconds.

    `budget_id` and `seen` are those of a `schema.budgets.Refusal`.
    """

    waiting_for: Literal["budget", "provider"]
    reason: str
    until: datetime | None = None
    seconds: float = 0.0
    budget_id: int | None = None
    seen: int | None = None


@dataclass(frozen=True)
class Waiting:
    """How many jobs of a scorer wait for the same, and when the first of them goes on."""

    scorer_name: str
    waiting_for: str
    reason: str
    jobs: int
    resumes_at: datetime


@dataclass(frozen=True)
class Job:
    """One target to be scored by one version of a scorer.

    `failures` counts failed attempts, `deliveries` claims. `judged` says that the verdict is there already.
    `seen_ns` is the state of the target that was chosen; `scored_digest` is of what an earlier verdict was given.
    `expectations` are what people expect of the target, by name.
    `stalled_seconds` tells for how long the job has waited for a provider, tries included. `limited` says that only so
    many of its configuration run at once.
    """

    job_id: int
    lease: UUID
    scorer_name: str
    scorer_version: int
    experiment_id: int
    trace_id: str
    probability: float
    deliveries: int
    failures: int
    spent: Usage
    judged: bool = False
    target_type: TargetType = "trace"
    span_id: str = ""
    session_id: str = ""
    seen_ns: int = 0
    stratum: str = ""
    scored_digest: str = ""
    expectations: dict[str, Any] = field(default_factory=dict)
    stalled_seconds: float = 0.0
    limited: bool = False


@dataclass(frozen=True, order=True)
class Cursor:
    """How far a look has come: everything due before it was looked at."""

    due_ns: int
    key: str = ""


@dataclass(frozen=True)
class Target:
    """A chosen target, with the chance it had. `seen_ns` is its state (`TraceInfo.seen_ns`)."""

    experiment_id: int
    trace_id: str = ""
    span_id: str = ""
    session_id: str = ""
    seen_ns: int = 0
    probability: float = 1.0
    stratum: str = ""


@dataclass(frozen=True)
class Crowd:
    """The scorers that have enough jobs; all of them when the queue is `full`."""

    scorers: frozenset[str] = frozenset()
    full: bool = False

    def __contains__(self, scorer_name: str) -> bool:
        return self.full or scorer_name in self.scorers


class LeasedLook:
    """A look that this transaction holds; leaving the block commits its jobs and its progress together."""

    def __init__(
        self, connection: Connection, jobs: "JobStore", sql: dict[str, str], config_id: int, look: Look, cursor: Cursor
    ) -> None:
        self._connection = connection
        self._jobs = jobs
        self._sql = sql
        self._config_id = config_id
        self._look = look
        self.cursor = cursor

    async def advance(
        self,
        cursor: Cursor,
        scorer_name: str,
        version: int,
        targets: Sequence[Target],
        target_type: TargetType = "trace",
        priority: int = 0,
    ) -> int:
        """Enqueues the targets that have no job and no verdict on their state yet, and moves on.

        Returns how many were new.
        """
        added = await self._jobs.enqueue(
            self._connection, scorer_name, version, targets, target_type, priority, self._config_id
        )
        await self._connection.execute(
            self._sql["advance_look"], self._config_id, self._look, cursor.due_ns, cursor.key
        )
        if self._look == "sweep" and not cursor.key:
            await self._connection.execute(self._sql["end_window"], self._config_id)
        self.cursor = cursor
        return added


class JobStore:
    """The queue. A connection is an argument where the caller decides what commits together."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sql = sqlfiles.queries("postgres", "scoring_jobs")
        self._reviews = sqlfiles.queries("postgres", "reviews")
        self._any_limited = False
        self._limits_known = float("-inf")

    @asynccontextmanager
    async def look(self, config_id: int, look: Look) -> AsyncIterator[LeasedLook | None]:
        """Holds a look for the block, in one transaction; None when another watcher has it or it is gone."""
        with storage_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                row = await connection.fetchrow(self._sql["lease_look"], config_id, look)
                if row is None:
                    yield None
                else:
                    cursor = Cursor(row["due_ns"], row["trace_id"])
                    yield LeasedLook(connection, self, self._sql, config_id, look, cursor)

    async def fail_look(self, config_id: int, look: Look, reason: str) -> None:
        """Keeps why a look cannot go on, for people to see; the next one that goes on clears it."""
        with storage_errors():
            await self._pool.execute(self._sql["fail_look"], config_id, look, reason)

    async def latest_version(self, scorer_name: str) -> int:
        """The version that `latest` stands for now."""
        with storage_errors():
            return int(await self._pool.fetchval(self._sql["latest_version"], scorer_name))

    async def begin_window(self, config_id: int, version: int) -> int:
        """Notes, at once, the version that the sweep accounts its window under; returns the one it was begun with.

        For whoever holds the sweep, which may be the successor of a process that was killed in the window.
        """
        with storage_errors():
            return int(await self._pool.fetchval(self._sql["begin_window"], config_id, version))

    async def own_experiments(self, scorer_name: str) -> list[int]:
        """Experiments with a configuration of their own for a scorer."""
        with storage_errors():
            rows = await self._pool.fetch(self._sql["own_experiments"], scorer_name)
        return [row["experiment_id"] for row in rows]

    async def waiting(self, bound: int) -> int:
        """How many jobs exist, counted up to `bound`."""
        with storage_errors():
            return int(await self._pool.fetchval(self._sql["waiting"], bound))

    async def full_of_reviews(self, bound: int) -> set[str]:
        """Scorers for which `bound` reviews or more wait for people: their looks pause."""
        with storage_errors():
            return {row["scorer_name"] for row in await self._pool.fetch(self._reviews["full"], bound)}

    async def crowded(self, bound: int) -> Crowd:
        """Which scorers have `bound` jobs or more, those that wait for a budget included.

        Counts no further while there are fewer jobs than that altogether.
        """
        if await self.waiting(bound) < bound:
            return Crowd()
        with storage_errors():
            rows = await self._pool.fetch(self._sql["by_scorer"])
        jobs = {str(row["scorer_name"]): int(row["jobs"]) for row in rows}
        return Crowd(
            frozenset(name for name, count in jobs.items() if count >= bound),
            full=sum(jobs.values()) >= _SCORERS_TOGETHER * bound,
        )

    async def by_state(self, bound: int = 100_000) -> dict[str, int]:
        """How many jobs are `running`, `ready`, `waiting` for their next try, `waiting_for_budget` and
        `waiting_for_provider`, together up to `bound`.
        """
        with storage_errors():
            row = await self._pool.fetchrow(self._sql["by_state"], bound)
        return {} if row is None else dict(row)

    async def waits(self, bound: int = 100) -> list[Waiting]:
        """What jobs wait for besides their turn, the most frequent first, up to `bound` reasons."""
        with storage_errors():
            return [Waiting(*row) for row in await self._pool.fetch(self._sql["waits"], bound)]

    async def depth(self) -> tuple[int, float]:
        """Jobs that are ready now, and for how many seconds the oldest has been."""
        with storage_errors():
            row = await self._pool.fetchrow(self._sql["depth"])
        if row is None:
            return 0, 0.0
        return int(row["jobs"]), float(row["oldest_seconds"])

    async def claim(self, limit: int, lease: UUID, seconds: float, but_not: Sequence[int] = ()) -> list[Job]:
        """Up to `limit` ready jobs, leased under the token for `seconds`.

        `but_not` are ids of jobs that the caller still works on: their lease may have run out while Postgres was away.
        """
        with storage_errors():
            if await self._limits():
                # Two statements: what the second counts as running includes what was claimed before the lock was had.
                async with self._pool.acquire() as connection, connection.transaction():
                    configs = await connection.fetch(self._sql["lock_limited"])
                    bounds = [row["config_id"] for row in configs], [row["concurrency"] for row in configs]
                    rows = await connection.fetch(self._sql["claim"], limit, seconds, lease, list(but_not), *bounds)
            else:
                rows = await self._pool.fetch(self._sql["claim"], limit, seconds, lease, list(but_not), [], [])
        return [
            Job(
                row["job_id"],
                lease,
                row["scorer_name"],
                row["scorer_version"],
                row["experiment_id"],
                row["trace_id"],
                row["probability"],
                row["deliveries"],
                row["failures"],
                Usage(row["calls"], row["cost_usd"], row["input_tokens"], row["output_tokens"]),
                row["judged"],
                row["target_type"],
                row["span_id"],
                row["session_id"],
                row["seen_ns"],
                row["stratum"],
                row["scored_digest"],
                row["expectations"],
                row["stalled_seconds"],
                row["limited"],
            )
            for row in rows
        ]

    async def _limits(self) -> bool:
        """Whether any configuration bounds its jobs, as it was within the last second."""
        now = clock.monotonic()
        if now >= self._limits_known + _LIMITS_SECONDS:
            self._any_limited = bool(await self._pool.fetch(self._sql["limited_configs"]))
            self._limits_known = now
        return self._any_limited

    async def extend(self, jobs: Sequence[Job], seconds: float) -> None:
        """Leases running jobs for `seconds` from now; those another worker holds are left alone."""
        with storage_errors():
            await self._pool.execute(self._sql["extend"], *_held(jobs), seconds)

    async def retry(self, job: Job, spent: Usage, seconds: float) -> bool:
        """Makes a job ready again in `seconds`, one failure more; False when another worker holds it."""
        with storage_errors():
            found = await self._pool.fetchval(
                self._sql["retry"],
                job.job_id,
                job.lease,
                seconds,
                spent.calls,
                spent.cost_usd,
                spent.input_tokens,
                spent.output_tokens,
            )
        return found is not None

    async def defer(self, job: Job, spent: Usage, wait: Wait) -> bool:
        """Puts a job to sleep as if it had not been claimed; False when another worker holds it.

        One that waits for a budget is ready at once when the budgets changed since they refused it.
        """
        with storage_errors():
            found = await self._pool.fetchval(
                self._sql["defer"],
                job.job_id,
                job.lease,
                wait.waiting_for,
                wait.reason,
                wait.budget_id,
                wait.seen,
                wait.until,
                wait.seconds,
                spent.calls,
                spent.cost_usd,
                spent.input_tokens,
                spent.output_tokens,
            )
        return found is not None

    async def release(self, jobs: Sequence[Job], seconds: float = 0.0, *, lost: bool = False) -> None:
        """Gives jobs back with what they have spent, ready in `seconds`.

        It is as if they had not been claimed, unless the delivery is `lost`: of those a job has only so many.
        """
        spent = [job.spent for job in jobs]
        with storage_errors():
            await self._pool.execute(
                self._sql["release"],
                *_held(jobs),
                seconds,
                lost,
                [usage.calls for usage in spent],
                [usage.cost_usd for usage in spent],
                [usage.input_tokens for usage in spent],
                [usage.output_tokens for usage in spent],
            )

    async def enqueue(
        self,
        connection: Connection,
        scorer_name: str,
        version: int,
        targets: Sequence[Target],
        target_type: TargetType,
        priority: int,
        config_id: int | None = None,
    ) -> int:
        """Enqueues the targets that have no job and no verdict on their state yet, in the caller's transaction.

        What a person is asked waits in a queue of its own. Returns how many were new.
        """
        if not targets:
            return 0
        kind = await connection.fetchval(self._sql["kind"], scorer_name, version)
        queue = "reviews" if kind == "review" else "scoring_jobs"
        rows = await connection.fetch(
            self._sql["enqueue"].replace("/* queue */", queue),
            scorer_name,
            version,
            target_type,
            priority,
            [target.experiment_id for target in targets],
            [target.trace_id for target in targets],
            [target.span_id for target in targets],
            [target.session_id for target in targets],
            [target.seen_ns for target in targets],
            [target.probability for target in targets],
            [target.stratum for target in targets],
            config_id,
        )
        return sum(row["new"] for row in rows)

    async def finish(self, jobs: Sequence[tuple[Job, int]], connection: Connection) -> set[tuple[int, UUID]]:
        """Ends jobs in the caller's transaction, of whose targets these states (`seen_ns`) were scored.

        Returns ids and leases of those that no other worker holds. A job that has learnt of a later state meanwhile
        begins anew.
        """
        held = (*_held([job for job, _ in jobs]), [seen_ns for _, seen_ns in jobs])
        ended = {(row["job_id"], row["lease"]) for row in await connection.fetch(self._sql["finish"], *held)}
        if len(ended) < len(jobs):
            ended |= {(row["job_id"], row["lease"]) for row in await connection.fetch(self._sql["again"], *held)}
        return ended

    async def raise_probabilities(self, jobs: Sequence[Job], connection: Connection) -> None:
        """Verdicts that are there stay, with the chances of these jobs where those are greater."""
        if jobs:
            await connection.execute(
                self._sql["raise_probabilities"],
                [job.trace_id for job in jobs],
                [job.span_id for job in jobs],
                [job.session_id for job in jobs],
                [job.experiment_id for job in jobs],
                [job.scorer_name for job in jobs],
                [job.scorer_version for job in jobs],
                [job.probability for job in jobs],
            )


def _held(jobs: Sequence[Job]) -> tuple[list[int], list[UUID]]:
    return [job.job_id for job in jobs], [job.lease for job in jobs]


def _sum(left: Number | None, right: Number | None) -> Number | None:
    return right if left is None else left if right is None else left + right
