"""`tracestone keys`, and `up` where strangers could reach it: real processes, receivers in their own, TLS."""

import asyncio
import re
import ssl
from pathlib import Path

import grpc
import httpx
import pytest

from support.api_keys import bearer
from support.certificates import Authority
from support.running import EXPORT, data_folder, run_command, tracestone_up
from support.telemetry import export_request, otlp_span

START = 1_790_000_000_000_000_000
AUTHORITY = Authority("servers")


async def create(folder: Path, *arguments: str) -> str:
    """The text of a new key."""
    code, out, err = await run_command("keys", "create", f"--data-dir={folder}", *arguments)
    assert code == 0, err
    (token,) = out.split()
    assert token not in err
    return token


@pytest.mark.timeout(200)
async def test_keys_from_the_first_to_the_last(tmp_path: Path) -> None:
    """Refused without a key, started with one; keys are made and revoked while it runs."""
    chain, key = AUTHORITY.issue().write(tmp_path, "server")
    tls = (f"--tls-cert-file={chain}", f"--tls-key-file={key}")
    with data_folder() as folder:
        async with tracestone_up(folder, "--host=0.0.0.0") as refused:
            assert await refused.end() == 1
        assert refused.err[-1].startswith("tracestone: On 0.0.0.0 strangers could send and read")
        assert "--insecure" in refused.err[-1] and "`tracestone keys create`" in refused.err[-1]

        read = await create(folder, "--scope=read", "a reader")
        async with tracestone_up(folder, "--host=0.0.0.0", "--receivers=2", *tls) as program:
            await program.ready()
            agent = await create(folder, "--experiment=support", "an agent")  # made while it runs
            host = f"127.0.0.1:{program.ports['otlp_grpc_port']}"
            trusted = grpc.ssl_channel_credentials(AUTHORITY.pem)
            traces_url = program.traces_url.replace("http://", "https://")
            context = ssl.create_default_context(cadata=AUTHORITY.pem.decode())

            async def send(token: str, number: int, over: str) -> str:
                body = export_request(otlp_span(number, 1, start_ns=START), service="support").SerializeToString()
                if over == "http":
                    headers = {**bearer(token), "content-type": "application/x-protobuf"}
                    async with httpx.AsyncClient(verify=context) as http:
                        return str((await http.post(traces_url, content=body, headers=headers)).status_code)
                # Every call on a connection of its own, so that it comes to any of the receivers.
                options = [("grpc.use_local_subchannel_pool", 1)]
                async with grpc.aio.secure_channel(host, trusted, options=options) as channel:
                    call = channel.unary_unary(EXPORT)(body, metadata=tuple(bearer(token).items()), timeout=10)
                    return (await call.code()).name

            for number in range(1, 9):
                assert await send(agent, number, "grpc") == "OK"
                assert await send(agent, number + 100, "http") == "200"
            assert await send(read, 999, "grpc") == "PERMISSION_DENIED"

            sql = ("sql", "--host=0.0.0.0", f"--sql-port={program.ports['sql_port']}", *tls, "--format=csv")
            question = "SELECT count() FROM spans WHERE experiment_id = (SELECT max(experiment_id) FROM spans)"
            async with asyncio.timeout(20):
                while (told := await run_command(*sql, question, TRACESTONE_API_KEY=read))[1].split()[-1:] != ["16"]:
                    assert told[0] == 0, told
            code, _, err = await run_command(*sql, question)
            assert code == 1 and "An API key is needed" in err

            key_id = agent.split("_")[1]
            code, out, _ = await run_command("keys", "list", f"--data-dir={folder}")
            assert code == 0 and agent not in out
            assert re.search(rf"^{key_id}\s+an agent\s+ingest\s", out, re.MULTILINE)
            code, out, _ = await run_command("keys", "revoke", f"--data-dir={folder}", key_id)
            assert (code, f"{key_id} (an agent) is revoked" in out) == (0, True)
            async with asyncio.timeout(6):
                while {await send(agent, 1, "grpc") for _ in range(6)} != {"UNAUTHENTICATED"}:
                    await asyncio.sleep(0.1)
            code, out, _ = await run_command("keys", "list", f"--data-dir={folder}")
            assert re.search(rf"^{key_id} .* revoked 20\d\d-", out, re.MULTILINE)
            assert agent.rpartition("_")[2] not in program.said() + out
            assert await program.stop() == 0


async def test_what_cannot_be_made_or_revoked(tmp_path: Path) -> None:
    with data_folder() as folder:
        where = f"--data-dir={folder}"
        for arguments, sentence in (
            (("create", where, "--scope=root", "x"), "scopes: knows no 'root'"),
            (("create", where, "--experiment=77", "x"), "experiments: there is no experiment 77"),
            (("revoke", where, "0" * 16), "There is no API key 0000000000000000"),
        ):
            code, out, err = await run_command("keys", *arguments)
            assert (code, out) == (1, "")
            assert err.splitlines()[-1].startswith(f"tracestone: {sentence}")


async def test_the_demo_sends_although_keys_are_demanded() -> None:
    with data_folder() as folder:
        async with tracestone_up(folder, "--demo", "--auth=on") as program:
            await program.ready()
            token = await create(folder, "--scope=read", "me")
            url = f"http://127.0.0.1:{program.ports['sql_port']}/"
            async with httpx.AsyncClient(headers=bearer(token)) as http, asyncio.timeout(30):
                while (await http.get(url, params={"query": "SELECT count() > 0 FROM spans"})).text != "1\n":
                    await asyncio.sleep(0.2)
