"""One job: load the target, score it, and write the verdict together with the end of the job.

The verdict and the removal of the job are one transaction, shared by verdicts that come at the same time, and only
the holder of the job's lease can remove it. So a worker that dies, or is overtaken, leaves either both or neither, and
nobody sees two verdicts. A failed attempt goes back into the queue with what it cost; the last one becomes an
assessment with an error.

Scoring and writing are two steps, so that the writing can be repeated alone: what a judge was paid for is
not bought again because Postgres was away at the end.
"""

import asyncio
import logging
import random
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext, suppress
from dataclasses import dataclass, replace
from typing import ClassVar

from pydantic import ConfigDict

from tracestone.schema import clock
from tracestone.schema.assessments import TRACE_ID, Assessment, AssessmentError
from tracestone.schema.engines.columnar import StatementFailed
from tracestone.schema.engines.postgres import Pool, storage_errors
from tracestone.schema.errors import MissingExtra, TooLarge, Unavailable
from tracestone.schema.scorers.definition import Scorer
from tracestone.schema.stores.assessments import AssessmentStore
from tracestone.schema.stores.dead_jobs import DeadJobStore
from tracestone.schema.stores.jobs import Job, JobStore, Wait
from tracestone.schema.stores.scorers import ScorerStore
from tracestone.scoring.calls.account import Deferred, charged
from tracestone.scoring.calls.batches import Batches
from tracestone.scoring.code.sandbox import Sandbox
from tracestone.scoring.judge_delivery import JudgeTraces
from tracestone.scoring.judge_traces import Attempt, request
from tracestone.scoring.llm import Provider
from tracestone.scoring.scorers.protocol import AttemptFailed, Outcome, Subject, TargetScorer
from tracestone.scoring.scorers.registry import Tools, ready
from tracestone.scoring.subjects import Loaded, Subjects

logger = logging.getLogger(__name__)

BACKOFF_SECONDS = 1.0
PROVIDER_WAIT_SECONDS = 86_400.0
_LONGEST_BACKOFF_SECONDS = 300.0
# A worker that vanished this often over the same job was probably killed by it.
_MOST_LOST_DELIVERIES = 5
_LOAD_RETRIES = 3
_LOAD_FAILURES = frozenset(
    f"{target}_NOT_{what}" for target in ("SPAN", "TRACE", "SESSION") for what in ("FOUND", "READABLE")
)
_MAX_READY = 256
_AT_ONCE = nullcontext()
# Verdicts that are written in one transaction, and how long one waits for others.
_MOST_TOGETHER = 200
_TOGETHER_SECONDS = 0.05


@dataclass(frozen=True)
class Scored:
    """What is to be written about a job, whose `spent` includes this attempt.

    Either an outcome, or another try in `again` seconds, or a `wait` that is no try; none of them when there is a
    verdict already. `seen_ns` is the state of the target that was scored, `digest` of what the scorer was given,
    `head` the chance with which the target was kept at its source. `trace` is an OTLP request with the attempt's own
    spans, `trace_id` their trace; both are empty when no model was asked.
    """

    job: Job
    outcome: Outcome | None = None
    again: float | None = None
    wait: Wait | None = None
    seen_ns: int = 0
    digest: str = ""
    head: float | None = None
    trace_id: str = ""
    trace: bytes = b""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")


class Runner:
    """Runs jobs; holds no state between them but scorers made ready and verdicts about to be written."""

    def __init__(
        self,
        pool: Pool,
        jobs: JobStore,
        scorers: ScorerStore,
        subjects: Subjects,
        assessments: AssessmentStore,
        provider: Provider,
        *,
        sandbox: Sandbox | None = None,
        traces: JudgeTraces | None = None,
        backoff_seconds: float = BACKOFF_SECONDS,
        provider_wait_seconds: float = PROVIDER_WAIT_SECONDS,
    ) -> None:
        self._pool = pool
        self._jobs = jobs
        self._scorers = scorers
        self._subjects = subjects
        self._assessments = assessments
        self._tools = Tools(provider, self._member, sandbox)
        self._backoff = backoff_seconds
        self._provider_wait = provider_wait_seconds
        self._traces = traces
        self._dead = DeadJobStore(pool)
        self._ready: dict[tuple[str, int], TargetScorer] = {}
        self._finishing: Batches[Scored, bool | Exception] = Batches(
            "finish scoring jobs", self._finish, most=_MOST_TOGETHER, seconds=_TOGETHER_SECONDS
        )

    @property
    def read_at_once(self) -> int:
        """How many targets are read together now: the larger they are, the fewer."""
        return self._subjects.read_at_once

    async def run(self, job: Job) -> None:
        """Scores a claimed job and records the outcome, or puts it back for later. Raises StorageDown."""
        await self.settle(await self.score(job))

    async def score(self, job: Job, turn: AbstractAsyncContextManager[None] = _AT_ONCE) -> Scored:
        """One attempt; nothing is written. Raises StorageDown, and then nothing was spent.

        The scorer works within `turn`. The target is read before, unless it is a session, which may be long.
        """
        if job.judged:
            return Scored(job, seen_ns=job.seen_ns)
        definition = await self._scorers.get(job.scorer_name, job.scorer_version)
        began_ns = clock.now_ns()
        with charged(job.scorer_name, job.experiment_id) as account:
            attempt = Attempt(job, definition, account, began_ns)
            scored = await self._score(attempt, turn)
        if self._traces is None or not account.made:
            return scored
        # What was asked and said may be long.
        return await asyncio.to_thread(_traced, scored, attempt) if attempt.tells_content else _traced(scored, attempt)

    async def _score(self, attempt: Attempt, turn: AbstractAsyncContextManager[None]) -> Scored:
        job, account = attempt.job, attempt.account
        scorer = self._scorer(attempt.definition)
        loaded: Loaded | None = None
        try:
            async with AsyncExitStack() as stack:
                if job.target_type == "session":
                    await stack.enter_async_context(turn)
                loaded = await self._load(job)
                attempt.subject = loaded.subject
                if loaded.seen_ns < job.seen_ns and job.failures < _LOAD_RETRIES:
                    # A replica of ClickHouse that is behind; or part of the target was deleted, and so it stays.
                    return Scored(job, again=self._backoff)
                # A target that something new came for, but nothing that the scorer reads, keeps its verdict.
                if loaded.digest == job.scored_digest:
                    return Scored(job, seen_ns=max(loaded.seen_ns, job.seen_ns))
                if job.target_type != "session":
                    await stack.enter_async_context(turn)
                attempt.began_ns = clock.now_ns()
                outcome = attempt.outcome = await self._attempt(job, scorer, loaded.subject)
            account.ended_well()
            if account.cached:
                outcome = replace(outcome, metadata=outcome.metadata | {"cached_calls": str(account.cached)})
        except Deferred as deferred:
            account.ended_well()
            tried, wait = replace(job, spent=job.spent.plus(account.spent)), deferred.wait
            attempt.put_off = wait.reason
            if wait.waiting_for == "provider" and job.stalled_seconds + wait.seconds > self._provider_wait:
                error = AssessmentError("PROVIDER_UNAVAILABLE", wait.reason)
                return _scored(tried, Outcome(scorer.source_type, scorer.source_id, error=error), loaded)
            return Scored(tried, wait=wait)
        except AttemptFailed as failure:
            tried = replace(job, spent=job.spent.plus(failure.usage))
            attempt.failure = (failure.code, failure.message)
            most = max(scorer.retries, _LOAD_RETRIES) if failure.code in _LOAD_FAILURES else scorer.retries
            if failure.retryable and job.failures < most:
                return Scored(tried, again=self._wait(job, failure))
            error = AssessmentError(failure.code, failure.message)
            return _scored(tried, Outcome(scorer.source_type, scorer.source_id, error=error), loaded)
        return _scored(replace(job, spent=job.spent.plus(outcome.usage)), outcome, loaded)

    async def settle(self, scored: Scored) -> None:
        """Writes what an attempt came to, unless another worker holds the job by now. Safe to repeat.

        Raises StorageDown.
        """
        is_verdict = scored.again is None and scored.wait is None and (not scored.outcome or not scored.outcome.error)
        if scored.trace and self._traces is not None and not is_verdict:
            await self._traces.keep(scored.trace_id, scored.trace)
        if scored.again is not None:
            held = await self._jobs.retry(scored.job, scored.job.spent, scored.again)
        elif scored.wait is not None:
            held = await self._jobs.defer(scored.job, scored.job.spent, scored.wait)
        elif not is_verdict and scored.outcome is not None:
            held = await self._give_up(scored, scored.outcome)
        else:
            answer = await self._finishing.ask(scored)
            if isinstance(answer, Exception):
                raise answer
            held = answer
        if not held:
            logger.warning(
                "a job was taken over by another worker",
                extra={
                    "scorer": scored.job.scorer_name,
                    "trace_id": scored.job.trace_id,
                    "calls": scored.job.spent.calls,
                    "cost_usd": scored.job.spent.cost_usd,
                },
            )

    async def close(self, seconds: float = 2.0) -> None:
        """Lets verdicts that are being written arrive, within `seconds`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._finishing.drained()

    async def _attempt(self, job: Job, scorer: TargetScorer, subject: Subject) -> Outcome:
        if job.deliveries - job.failures > _MOST_LOST_DELIVERIES:
            reason = f"the worker vanished repeatedly over this {job.target_type}"
            raise AttemptFailed("WORKER_LOST", reason, retryable=False)
        try:
            return await scorer.score(subject)
        except MissingExtra as error:
            raise AttemptFailed("NOT_INSTALLED", str(error), retryable=False) from error

    async def _load(self, job: Job) -> Loaded:
        kind = job.target_type.upper()
        try:
            loaded = await self._subjects.load(job)
        except TooLarge as error:
            raise AttemptFailed(f"{kind}_TOO_LARGE", str(error), retryable=False) from error
        except StatementFailed as error:
            reason = f"ClickHouse cannot read the {job.target_type} (code {error.code})"
            raise AttemptFailed(f"{kind}_NOT_READABLE", reason, retryable=True) from error
        if loaded is None:
            raise AttemptFailed(f"{kind}_NOT_FOUND", f"the {job.target_type} is not stored any more", retryable=True)
        return loaded

    async def _give_up(self, scored: Scored, outcome: Outcome) -> bool:
        """The error in place of a verdict, and the job among the dead; whether this worker held it."""
        job = scored.job
        with storage_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                dead = await self._dead.bury(job, scored.seen_ns, connection)
                held = dead is not None or bool(await self._jobs.finish([(job, scored.seen_ns)], connection))
                verdicts = _assessments(scored, outcome) if held else []
                if verdicts:
                    await self._assessments.forget_others(verdicts, connection)
                for assessment in verdicts:
                    recorded = await self._assessments.record(assessment, connection)
                    if dead is not None:
                        await self._dead.explain(dead, recorded.assessment_id, connection)
        return held

    async def _finish(self, batch: Sequence[Scored]) -> Sequence[bool | Exception]:
        """Of each, whether this worker held its job. One that Postgres refuses does not hold up the others."""
        try:
            return await self._finish_together(batch)
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001 - given to the one whose it is
            if len(batch) == 1:
                return [error]
            return [answer for scored in batch for answer in await self._finish([scored])]

    async def _finish_together(self, batch: Sequence[Scored]) -> list[bool]:
        """The verdicts, the ends of their jobs and the traces of their attempts in one transaction."""
        with storage_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                ended = await self._jobs.finish([(scored.job, scored.seen_ns) for scored in batch], connection)
                held = [(scored.job.job_id, scored.job.lease) in ended for scored in batch]
                verdicts: list[Assessment] = []
                for scored, mine in zip(batch, held, strict=True):
                    said = _assessments(scored, scored.outcome) if mine and scored.outcome is not None else []
                    if scored.outcome is not None and scored.outcome.named and said:
                        await self._assessments.forget_others(said, connection)
                    verdicts += said
                await self._assessments.record_all(verdicts, connection)
                if self._traces is not None:
                    traces = [(scored.trace_id, scored.trace) for scored in batch if scored.trace]
                    await self._traces.keep_within(traces, connection)
                stay = [scored.job for scored, mine in zip(batch, held, strict=True) if mine and scored.outcome is None]
                await self._jobs.raise_probabilities(stay, connection)
        return held

    def _scorer(self, definition: Scorer) -> TargetScorer:
        key = (definition.name, definition.version)
        if key not in self._ready:
            if len(self._ready) >= _MAX_READY:
                self._ready.clear()
            self._ready[key] = ready(definition, self._tools)
        return self._ready[key]

    async def _member(self, name: str, version: int) -> TargetScorer:
        return self._scorer(await self._scorers.get(name, version))

    def _wait(self, job: Job, failure: AttemptFailed) -> float:
        """Seconds until the next attempt: exponential with jitter, and never before the provider allows."""
        most = min(_LONGEST_BACKOFF_SECONDS, self._backoff * 2.0**job.failures)
        return max(failure.retry_after or 0.0, most * random.uniform(0.5, 1.0))


def _traced(scored: Scored, attempt: Attempt) -> Scored:
    """With the attempt's trace, which its verdict names."""
    outcome = scored.outcome
    if outcome is not None:
        outcome = replace(outcome, metadata=outcome.metadata | {TRACE_ID: f"tr-{attempt.trace_id}"})
    return replace(scored, outcome=outcome, trace_id=attempt.trace_id, trace=request(attempt))


def _scored(job: Job, outcome: Outcome, loaded: Loaded | None) -> Scored:
    if loaded is None:  # nothing is known of its state but what it was chosen by
        return Scored(job, outcome, seen_ns=job.seen_ns)
    return Scored(job, outcome, seen_ns=max(loaded.seen_ns, job.seen_ns), digest=loaded.digest, head=loaded.head)


def _assessments(scored: Scored, outcome: Outcome) -> list[Assessment]:
    """One for the value, or one for each of several values, of which the first carries what all of them cost."""
    job = scored.job
    spent = job.spent
    metadata = dict(outcome.metadata)
    if spent.calls:
        metadata["calls"] = str(spent.calls)
    if scored.head is not None:
        metadata["head_probability"] = repr(scored.head)
    if job.stratum:
        metadata["stratum"] = job.stratum
    if job.failures:
        metadata["failed_attempts"] = str(job.failures)
    first = Assessment(
        experiment_id=job.experiment_id,
        target_type=job.target_type,
        trace_id=job.trace_id,
        span_id=job.span_id,
        session_id=job.session_id,
        name=job.scorer_name,
        kind="feedback",
        source_type=outcome.source_type,
        source_id=outcome.source_id,
        value=outcome.value,
        rationale=outcome.rationale,
        error=outcome.error,
        metadata=metadata,
        scorer_name=job.scorer_name,
        scorer_version=job.scorer_version,
        probability=job.probability,
        cost_usd=spent.cost_usd,
        input_tokens=spent.input_tokens,
        output_tokens=spent.output_tokens,
        target_seen_ns=scored.seen_ns,
        input_digest=scored.digest,
    )
    if not outcome.named:
        return [first]
    several = [
        replace(first, name=f"{job.scorer_name}.{one.name}", value=one.value, rationale=one.rationale)
        for one in outcome.named
    ]
    free = [replace(one, cost_usd=None, input_tokens=None, output_tokens=None) for one in several[1:]]
    return [several[0], *free]
