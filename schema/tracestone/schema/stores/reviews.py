"""The queue of reviews in Postgres: what waits for a person, who has it, and the answers."""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from tracestone.schema import sqlfiles
from tracestone.schema.assessments import Assessment, AssessmentError
from tracestone.schema.engines.postgres import Pool, Record, storage_errors
from tracestone.schema.errors import Conflict, Invalid, NotFound
from tracestone.schema.reviews import DROPPED, MAX_REVIEWER_CHARACTERS, Review, answer_of
from tracestone.schema.scorers.review import Review as Question
from tracestone.schema.stores.assessments import AssessmentStore
from tracestone.schema.stores.scorers import ScorerStore

PAGE = 200
TAKEN_SECONDS = 1800.0
"""For how long who takes a review has it."""


class ReviewStore:
    """One aggregate: a review, from its place in the queue to the assessment that takes its place."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sql = sqlfiles.queries("postgres", "reviews")
        self._assessments = AssessmentStore(pool)
        self._scorers = ScorerStore(pool)

    async def page(
        self, after: int = 0, scorer: str | None = None, among: Collection[int] | None = None
    ) -> list[Review]:
        """Up to 200 that wait, oldest first, after one; of some experiments only, if given. Raises StorageDown."""
        with storage_errors():
            rows = await self._pool.fetch(self._sql["page"], after, scorer, _listed(among), PAGE)
        return [_review(row) for row in rows]

    async def counts(self) -> dict[str, int]:
        """How many reviews of each scorer wait. Raises StorageDown."""
        with storage_errors():
            return {row["scorer_name"]: row["reviews"] for row in await self._pool.fetch(self._sql["counts"])}

    async def get(self, review_id: int) -> Review:
        """One that waits. Raises NotFound, StorageDown."""
        with storage_errors():
            row = await self._pool.fetchrow(self._sql["get"], review_id)
        if row is None:
            raise _unknown(review_id)
        return _review(row)

    async def question(self, review: Review) -> Question:
        """What is asked. Raises NotFound, StorageDown."""
        parameters = (await self._scorers.get(review.scorer_name, review.scorer_version)).parameters
        if not isinstance(parameters, Question):
            raise NotFound(f"The scorer {review.scorer_name} asks nobody.")
        return parameters

    async def take(
        self,
        reviewer: str,
        *,
        review_id: int | None = None,
        scorer: str | None = None,
        among: Collection[int] | None = None,
        seconds: float = TAKEN_SECONDS,
    ) -> Review | None:
        """Gives a person the most urgent review, or the one that is named, for a while; None when none is free.

        Raises Invalid, StorageDown; of one that is named NotFound, and Conflict when another has it.
        """
        _check_reviewer(reviewer)
        with storage_errors():
            row = await self._pool.fetchrow(self._sql["take"], reviewer, seconds, review_id, scorer, _listed(among))
        if row is None and review_id is not None:
            raise _held_by_another(await self.get(review_id))
        return None if row is None else _review(row)

    async def release(self, review_id: int, reviewer: str) -> None:
        """Gives one back unanswered. Raises NotFound, Conflict when another has it, StorageDown."""
        with storage_errors():
            found = await self._pool.fetchval(self._sql["release"], review_id, reviewer)
        if found is None:
            raise _held_by_another(await self.get(review_id))

    async def done(
        self, review_id: int, reviewer: str, value: Any, rationale: str = "", metadata: dict[str, str] | None = None
    ) -> Assessment:
        """A person's answer becomes the verdict, with the chance with which the target was chosen.

        Raises NotFound, Conflict when another person has it, Invalid, StorageDown.
        """
        review = await self.get(review_id)
        answer = answer_of((await self.question(review)).verdict, value)
        said = Assessment(**_target(review), value=answer, rationale=rationale, source_id=reviewer)
        return await self._end(review_id, reviewer, said, metadata or {})

    async def drop(
        self, review_id: int, reviewer: str, reason: str, metadata: dict[str, str] | None = None
    ) -> Assessment:
        """Nobody is to answer it: an error with the reason takes the place of a verdict. Raises as `done`."""
        review = await self.get(review_id)
        said = Assessment(**_target(review), error=AssessmentError(DROPPED, reason), source_id=reviewer)
        return await self._end(review_id, reviewer, said, metadata or {})

    async def _end(self, review_id: int, reviewer: str, said: Assessment, metadata: dict[str, str]) -> Assessment:
        _check_reviewer(reviewer)
        with storage_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                row = await connection.fetchrow(self._sql["lock"], review_id)
                if row is None:
                    raise _unknown(review_id)
                review = _review(row)
                if row["held"] and review.taken_by != reviewer:
                    raise _held_by_another(review)
                told = {"stratum": review.stratum, "head_probability": row["head_probability"] or ""}
                kept = {name: text for name, text in told.items() if text}
                await connection.execute(self._sql["end"], review_id, review.seen_ns)
                answered = replace(
                    said, probability=review.probability, target_seen_ns=review.seen_ns, metadata={**metadata, **kept}
                )
                return await self._assessments.record(answered, connection)


def _target(review: Review) -> dict[str, Any]:
    return {
        "experiment_id": review.experiment_id,
        "target_type": review.target_type,
        "trace_id": review.trace_id,
        "span_id": review.span_id,
        "session_id": review.session_id,
        "name": review.scorer_name,
        "kind": "feedback",
        "source_type": "HUMAN",
        "scorer_name": review.scorer_name,
        "scorer_version": review.scorer_version,
    }


def _listed(among: Collection[int] | None) -> list[int] | None:
    return None if among is None else sorted(among)


def _check_reviewer(reviewer: str) -> None:
    if not 1 <= len(reviewer.strip()) <= MAX_REVIEWER_CHARACTERS:
        raise Invalid("reviewer", f"must have 1 to {MAX_REVIEWER_CHARACTERS} characters")


def _unknown(review_id: int) -> NotFound:
    return NotFound(f"There is no review {review_id} that waits.")


def _held_by_another(review: Review) -> Conflict:
    return Conflict(f"{review.taken_by} has the review {review.review_id}.")


def _review(row: Record) -> Review:
    return Review(
        row["review_id"],
        row["scorer_name"],
        row["scorer_version"],
        row["target_type"],
        row["experiment_id"],
        row["trace_id"],
        row["span_id"],
        row["session_id"],
        row["seen_ns"] if row["taken_seen_ns"] is None else row["taken_seen_ns"],
        row["probability"],
        row["stratum"],
        row["priority"],
        row["taken_by"] if row["held"] else "",
        row["taken_until"] if row["held"] else None,
        row["created_at"],
    )
