"""Jobs that a worker gave up, for the tests of what people do with them."""

from uuid import uuid4

from tracestone.schema.assessments import Assessment, AssessmentError
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.scorers.definition import define
from tracestone.schema.stores.assessments import AssessmentStore
from tracestone.schema.stores.dead_jobs import DeadJobStore
from tracestone.schema.stores.jobs import Cursor, JobStore, Target, Usage, Wait
from tracestone.schema.stores.scorers import ScorerStore


async def fill(pool: Pool) -> None:
    """Two jobs of `tone` that died, one that waits for a provider."""
    scorers, jobs = ScorerStore(pool), JobStore(pool)
    await scorers.define(define("tone", "error", {}))
    config = await scorers.put_config("tone", version=None, experiment_id=None, sample_rate=1.0, filter="", salt="")
    async with jobs.look(config.config_id, "prompt") as held:
        assert held is not None
        targets = [Target(0, f"{number:032x}") for number in (1, 2, 3)]
        await held.advance(Cursor(2**62), "tone", 1, targets)
    *dying, waiting = sorted(await jobs.claim(3, uuid4(), 60), key=lambda job: job.job_id)
    for job, code in zip(dying, ("TIMEOUT", "UNAUTHENTICATED"), strict=True):
        async with pool.acquire() as connection, connection.transaction():
            dead = await DeadJobStore(pool).bury(job, job.seen_ns, connection)
            assert dead is not None
            error = Assessment(
                experiment_id=0,
                target_type="trace",
                trace_id=job.trace_id,
                name="tone",
                kind="feedback",
                source_type="LLM_JUDGE",
                error=AssessmentError(code, f"it is {code}"),
                scorer_name="tone",
                scorer_version=1,
            )
            recorded = await AssessmentStore(pool).record(error, connection)
            await DeadJobStore(pool).explain(dead, recorded.assessment_id, connection)
    await jobs.defer(waiting, Usage(), Wait("provider", "calls of acme are stopped", seconds=3000))
