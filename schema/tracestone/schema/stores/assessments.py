"""Assessments in Postgres, which is their record. Triggers keep every earlier state and feed the outbox."""

import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from tracestone.schema import clock, sqlfiles
from tracestone.schema.assessments import Assessment, AssessmentChange, AssessmentError, Verdict
from tracestone.schema.engines.postgres import Connection, Pool, Record, ValueRefused, storage_errors
from tracestone.schema.errors import Invalid, NotFound, StorageDown

# What clients may add to one trace in an experiment; verdicts of scorers are written whatever there is. Counted for
# each experiment, since whoever knows a trace id may use it in his own.
MAX_PER_TRACE = 1000
_RECORD_TRIES = 5
_FIELDS = [field.name for field in fields(Assessment)]


@dataclass(frozen=True)
class Observed:
    """What became of some assessments: how many were new, and how many were too many for their trace."""

    new: int
    left_out: int


class AssessmentStore:
    """Everything there is to do with assessments. Safe to use from one event loop."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sql = sqlfiles.queries("postgres", "assessments")

    async def create(self, assessment: Assessment) -> Assessment:
        """Stores what a client says; one that `overrides` another makes that one invalid.

        Raises NotFound when the overridden one does not exist, Invalid when the trace is full, StorageDown.
        """
        ready = _stamped(assessment)
        with storage_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                if ready.trace_id:
                    present = await connection.fetchval(
                        self._sql["count_of_trace"], ready.trace_id, ready.experiment_id, MAX_PER_TRACE
                    )
                    if present >= MAX_PER_TRACE:
                        raise Invalid(
                            "assessment",
                            f"the trace has {MAX_PER_TRACE} assessments already, the most it can",
                        )
                if ready.overrides:
                    overridden = await connection.fetchval(
                        self._sql["invalidate"], ready.overrides, ready.trace_id, ready.updated_at_ms
                    )
                    if overridden is None:
                        raise _unknown(ready.overrides, ready.trace_id)
                row = await connection.fetchrow(self._sql["insert"], _columns(ready))
        return _assessment(_present(row))

    async def record(self, assessment: Assessment, connection: Connection | None = None) -> Assessment:
        """Stores the verdict of a scorer once per target, scorer, version and name (contract C11).

        Returns what is stored: the given verdict, in place of one on an earlier state of the target, or the one that
        was there before. With
        `connection`, it becomes part of that connection's transaction. Text that Postgres cannot hold
        (U+0000, lone surrogates) is replaced. Raises Invalid without a scorer, StorageDown.
        """
        if not assessment.scorer_name:
            raise Invalid("scorer_name", "must be given")
        ready = _stamped(assessment)
        with storage_errors():
            if connection is not None:
                return await self._record(connection, ready)
            async with self._pool.acquire() as own:
                return await self._record(own, ready)

    async def record_all(self, assessments: Sequence[Assessment], connection: Connection) -> None:
        """The same for several verdicts, no two of one version and name on one target, in the caller's transaction."""
        if assessments:
            await connection.execute(self._sql["record"], [_columns(_stamped(each)) for each in assessments])

    async def forget_others(self, verdicts: Sequence[Assessment], connection: Connection) -> None:
        """Removes what the scorer's version said of this target, in this state or before, under other names.

        In the caller's transaction; `verdicts` are all that it says now. Their last state is kept.
        """
        one = verdicts[0]
        await connection.execute(
            self._sql["forget_others"],
            one.trace_id,
            one.span_id,
            one.session_id,
            one.experiment_id,
            one.scorer_name,
            one.scorer_version,
            [each.name for each in verdicts],
            one.target_seen_ns,
        )

    async def observe(self, assessments: Sequence[Assessment]) -> Observed:
        """Stores what others said, under the ids given. Safe to repeat.

        One that was stored before stays as it is now, also when it was changed or deleted since, unless it is a later
        revision of what another Tracestone says; one too many for its
        trace is left out and counted. Raises Invalid when Postgres refuses a value in one of them, StorageDown.
        """
        now = clock.now_ms()
        rows = [_columns(_storable(replace(each, updated_at_ms=now))) for each in assessments]
        ids = [each.assessment_id for each in assessments]
        try:
            with storage_errors():
                row = _present(await self._pool.fetchrow(self._sql["observe"], rows, ids, MAX_PER_TRACE))
        except ValueRefused as error:
            raise Invalid("assessment", f"Postgres refuses it: {type(error).__name__}") from error
        return Observed(row["new"], row["left_out"])

    async def get(self, trace_id: str, assessment_id: str) -> Assessment:
        """One assessment of a trace. Raises NotFound, StorageDown."""
        with storage_errors():
            row = await self._pool.fetchrow(self._sql["get"], assessment_id, trace_id)
        if row is None:
            raise _unknown(assessment_id, trace_id)
        return _assessment(row)

    async def update(self, trace_id: str, assessment_id: str, change: AssessmentChange) -> Assessment:
        """Changes an assessment and keeps its earlier state.

        Raises NotFound, Invalid for a verdict of another kind, StorageDown.
        """
        with storage_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                row = await connection.fetchrow(self._sql["lock"], assessment_id, trace_id)
                if row is None:
                    raise _unknown(assessment_id, trace_id)
                changed = _changed(_assessment(row), change)
                error = changed.error or AssessmentError("")
                row = await connection.fetchrow(
                    self._sql["update"],
                    assessment_id,
                    changed.name,
                    changed.value,
                    error.code,
                    error.message,
                    error.stack,
                    changed.rationale,
                    changed.metadata,
                    clock.now_ms(),
                )
        return _assessment(_present(row))

    async def delete(self, trace_id: str, assessment_id: str) -> bool:
        """Removes an assessment and keeps its last state; what it alone overrode is valid again.

        Returns whether there was one. Raises StorageDown.
        """
        with storage_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                row = await connection.fetchrow(self._sql["delete"], assessment_id, trace_id)
                if row is None:
                    return False
                if row["overrides"]:
                    await connection.execute(self._sql["revalidate"], row["overrides"], trace_id, clock.now_ms())
                return True

    async def by_trace(self, experiment_id: int, trace_id: str) -> list[Assessment]:
        """All assessments of one trace and of its spans, oldest first. Raises StorageDown."""
        return (await self.by_traces([(experiment_id, trace_id)])).get((experiment_id, trace_id), [])

    async def by_traces(self, traces: Sequence[tuple[int, str]]) -> dict[tuple[int, str], list[Assessment]]:
        """The assessments of each of these traces, given by experiment and id, that has any, oldest first.

        What others filed under the same trace id in their experiments is not among them. Raises StorageDown.
        """
        experiments, trace_ids = [experiment for experiment, _ in traces], [trace_id for _, trace_id in traces]
        with storage_errors():
            rows = await self._pool.fetch(self._sql["by_traces"], experiments, trace_ids)
        found: dict[tuple[int, str], list[Assessment]] = {}
        for row in rows:
            found.setdefault((row["experiment_id"], row["trace_id"]), []).append(_assessment(row))
        return found

    async def by_session(self, experiment_id: int, session_id: str) -> list[Assessment]:
        """What is said of a session itself, oldest first, MAX_PER_TRACE at most. Raises StorageDown."""
        with storage_errors():
            rows = await self._pool.fetch(self._sql["by_session"], experiment_id, session_id, MAX_PER_TRACE)
        return [_assessment(row) for row in rows]

    async def elsewhere(self, experiment_id: int, trace_id: str, among: Collection[int] | None = None) -> int:
        """How many assessments the trace id has in other experiments, of `among` if given; MAX_PER_TRACE at most.

        Raises StorageDown.
        """
        only = None if among is None else sorted(among)
        with storage_errors():
            count: int = await self._pool.fetchval(
                self._sql["count_elsewhere"], trace_id, experiment_id, only, MAX_PER_TRACE
            )
        return count

    async def _record(self, connection: Connection, ready: Assessment) -> Assessment:
        # A conflict means a committed row, gone again only if somebody deletes it at this very moment.
        for _ in range(_RECORD_TRIES):
            row = await connection.fetchrow(self._sql["record"], [_columns(ready)])
            if row is None:
                row = await connection.fetchrow(
                    self._sql["recorded"],
                    ready.trace_id,
                    ready.span_id,
                    ready.session_id,
                    ready.experiment_id,
                    ready.scorer_name,
                    ready.scorer_version,
                    ready.name,
                )
            if row is not None:
                return _assessment(row)
        raise StorageDown("a verdict keeps appearing and disappearing; try again")


def _changed(current: Assessment, change: AssessmentChange) -> Assessment:
    verdict = change.verdict
    if verdict is None:
        verdict = Verdict(current.kind, current.value, current.error)
    elif verdict.kind != current.kind:
        raise Invalid(verdict.kind, f"cannot replace the value of an assessment of kind {current.kind}")
    return _storable(
        replace(
            current,
            name=current.name if change.name is None else change.name,
            value=verdict.value,
            error=verdict.error,
            rationale=current.rationale if change.rationale is None else change.rationale,
            metadata={**current.metadata, **(change.metadata or {})},
        )
    )


def _stamped(assessment: Assessment) -> Assessment:
    now = clock.now_ms()
    return _storable(
        assessment,
        assessment_id=f"a-{secrets.token_hex(16)}",
        created_at_ms=assessment.created_at_ms or now,
        updated_at_ms=now,
    )


def _storable(assessment: Assessment, **changes: Any) -> Assessment:
    error = assessment.error
    return replace(
        assessment,
        **changes,
        name=_text(assessment.name),
        source_id=_text(assessment.source_id),
        value=_json(assessment.value),
        error=error and AssessmentError(_text(error.code), _text(error.message), _text(error.stack)),
        rationale=_text(assessment.rationale),
        metadata={_text(key): _text(value) for key, value in assessment.metadata.items()},
    )


def _json(value: Any) -> Any:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    if isinstance(value, dict):
        return {_text(str(key)): _json(item) for key, item in value.items()}
    return value


def _text(text: str) -> str:
    # A judge may answer with any character; Postgres takes neither U+0000 nor half a surrogate pair.
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def _columns(assessment: Assessment) -> dict[str, Any]:
    columns = {name: getattr(assessment, name) for name in _FIELDS}
    error = assessment.error or AssessmentError("")
    del columns["error"]
    return columns | {
        "error_code": error.code,
        "error_message": error.message,
        "error_stack": error.stack,
        "revision": 1,
    }


def _assessment(row: Record) -> Assessment:
    code = row["error_code"]
    return Assessment(
        experiment_id=row["experiment_id"],
        target_type=row["target_type"],
        name=row["name"],
        kind=row["kind"],
        source_type=row["source_type"],
        source_id=row["source_id"],
        trace_id=row["trace_id"],
        span_id=row["span_id"],
        session_id=row["session_id"],
        value=row["value"],
        error=AssessmentError(code, row["error_message"], row["error_stack"]) if code else None,
        rationale=row["rationale"],
        metadata=row["metadata"],
        scorer_name=row["scorer_name"],
        scorer_version=row["scorer_version"],
        probability=row["probability"],
        cost_usd=row["cost_usd"],
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        target_seen_ns=row["target_seen_ns"],
        input_digest=row["input_digest"],
        origin=row["origin"],
        overrides=row["overrides"],
        valid=row["valid"],
        assessment_id=row["assessment_id"],
        created_at_ms=row["created_at_ms"],
        updated_at_ms=row["updated_at_ms"],
    )


def _present(row: Record | None) -> Record:
    if row is None:  # RETURNING of a statement that has just written the row
        raise StorageDown("Postgres did not return the row it wrote")
    return row


def _unknown(assessment_id: str, trace_id: str) -> NotFound:
    return NotFound(f"Assessment with ID '{assessment_id}' not found for trace 'tr-{trace_id}'")
