"""`tracestone jobs`, on jobs that a worker gave up."""

import json
from uuid import uuid4

from support.running import data_folder, run_command
from tracestone.schema.assessments import Assessment, AssessmentError
from tracestone.schema.engines.embedded_postgres import EmbeddedPostgres
from tracestone.schema.engines.postgres import Pool, open_pool
from tracestone.schema.migrate import migrate_postgres
from tracestone.schema.scorers.definition import define
from tracestone.schema.stores.assessments import AssessmentStore
from tracestone.schema.stores.dead_jobs import DeadJobStore
from tracestone.schema.stores.jobs import Cursor, JobStore, Target, Usage, Wait
from tracestone.schema.stores.scorers import ScorerStore


async def _fill(pool: Pool) -> None:
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


async def test_the_commands_list_show_replay_and_drop() -> None:
    with data_folder() as folder:

        async def said(*arguments: str) -> str:
            code, out, err = await run_command("jobs", *arguments, f"--data-dir={folder}")
            assert code == 0, err
            return out

        server = EmbeddedPostgres(folder.resolve() / "postgres")
        try:
            pool = await open_pool(await server.start())
            await migrate_postgres(pool)
            await _fill(pool)
            await pool.close()
        finally:
            await server.stop()

        shown = await said("list")
        assert "1  waiting for provider" in shown
        assert "1  of tone wait for the provider until 20" in shown
        assert shown.endswith(": calls of acme are stopped\n")
        assert json.loads(await said("list", "--json"))["states"]["waiting_for_provider"] == 1

        head, first, second = (await said("dead", "list")).splitlines()
        assert head.split()[:3] == ["NUMBER", "DIED", "AT"]
        assert first.split()[3:] == ["tone", "0", "trace", f"{1:032x}", "TIMEOUT", "it", "is", "TIMEOUT"]
        number = second.split()[0]
        (told,) = (await said("dead", "list", "--code=UNAUTHENTICATED", "--json")).splitlines()
        assert json.loads(told) == json.loads(await said("dead", "show", number))
        assert json.loads(told)["code"] == "UNAUTHENTICATED"

        assert await said("dead", "replay", number) == "1 job(s) will be tried again.\n"
        assert "1  ready" in await said("list")
        for refused, why in (
            (("dead", "replay"), "Give the numbers of dead jobs, or --all."),
            (("dead", "drop", "--all"), "Dropped jobs cannot be replayed; add --yes."),
            (("dead", "show", number), f"There is no dead job {number}."),
        ):
            code, _, err = await run_command("jobs", *refused, f"--data-dir={folder}")
            assert (code, err) == (1, f"tracestone: {why}\n")
        assert await said("dead", "drop", "--all", "--scorer=tone", "--yes") == "1 job(s) dropped.\n"
        assert (await said("dead", "list")).splitlines()[1:] == []
