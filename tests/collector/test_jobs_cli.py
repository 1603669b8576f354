"""`tracestone jobs`, on jobs that a worker gave up."""

import json

from support.dead_jobs import fill
from support.running import data_folder, run_command
from tracestone.schema.engines.embedded_postgres import EmbeddedPostgres
from tracestone.schema.engines.postgres import open_pool
from tracestone.schema.migrate import migrate_postgres


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
            await fill(pool)
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
