"""`tracestone prices` and `tracestone reprice`, beside a running Tracestone and without one."""

import json
import re
import shlex
from pathlib import Path

import httpx
import pytest
import yaml

from support.running import data_folder, run_command, tracestone_up
from support.telemetry import export_request, otlp_span
from tracestone.schema.prices import given

START = 1_790_000_000_000_000_000
CALL = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "acme",
    "gen_ai.request.model": "mystery",
    "gen_ai.usage.input_tokens": 100,
    "gen_ai.usage.output_tokens": 10,
}
MAP = {
    "acme/riddle": {"litellm_provider": "acme", "input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6},
    "acme/mystery": {"litellm_provider": "acme", "input_cost_per_token": 3e-6, "output_cost_per_token": 4e-6},
}


async def _said(*arguments: str) -> str:
    code, out, err = await run_command(*arguments)
    assert code == 0, err
    return out


@pytest.mark.timeout(200)
async def test_a_model_gets_a_price(tmp_path: Path) -> None:
    with data_folder() as folder:
        where = f"--data-dir={folder}"
        async with tracestone_up(folder) as program:
            await program.ready()
            sql = f"--sql-port={program.ports['sql_port']}"
            request = export_request(otlp_span(1, 1, start_ns=START, attributes=CALL), service="support")
            async with httpx.AsyncClient() as http:
                answer = await http.post(
                    program.traces_url,
                    content=request.SerializeToString(),
                    headers={"content-type": "application/x-protobuf"},
                )
                assert answer.status_code == 200
                assert (await http.get(f"{program.url}/traces/{1:032x}", follow_redirects=True)).status_code == 200
            assert "1 of 1 spans (100%)" in await _said("reprice", where)
            (unknown,) = (await _said("prices", "unknown", where, sql, "--format=json")).splitlines()
            assert json.loads(unknown)["model"] == "mystery"
            shown = await _said("prices", "set", "mystery", where, "--provider=acme", "--input=2", "--output=8")
            assert json.loads(shown.splitlines()[0])["input"] == 2.0
            done = await _said("reprice", where, "--experiment=support", "--model=mystery", "--from=2020-01-01")
            assert "1 changed; done" in done
            asked = ("sql", where, sql, "--format=json", "SELECT cost_total FROM traces")
            assert json.loads(await _said(*asked)) == {"cost_total": 100 * 2e-6 + 10 * 8e-6}
            assert await _said("prices", "unknown", where, sql, "--format=json") == ""
            assert await program.stop() == 0

        # Now nothing runs: the commands open the stores themselves.
        own = await _said("prices", "list", where, "--own")
        assert [line.split()[:2] for line in own.splitlines()[1:]] == [["acme", "mystery"]]
        (tmp_path / "map.json").write_text(json.dumps(MAP))
        assert (await _said("prices", "import", where, str(tmp_path / "map.json"))).startswith("2 prices are new")
        assert (await _said("prices", "import", where, str(tmp_path / "map.json"))).startswith("0 prices are new")
        known = [json.loads(line) for line in (await _said("prices", "show", where, "mystery")).splitlines()]
        assert [(price["scope"], price["input"], price["source"]) for price in known] == [
            ("deployment", 2.0, "set"),
            ("shipped", 3.0, "import map.json"),
        ]
        await _said("prices", "remove", where, "--provider=acme", "mystery")
        assert "1 changed; done" in await _said("reprice", where)
        assert json.loads(await _said(*asked)) == {"cost_total": pytest.approx(100 * 3e-6 + 10 * 4e-6)}


@pytest.mark.timeout(200)
async def test_every_command_of_the_page_works(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/costs.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", page, flags=re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("tracestone ")]
    assert len(lines) >= 12
    (tmp_path / "model_prices_and_context_window.json").write_text(json.dumps(MAP))
    (tmp_path / "prices.csv").write_text("provider,model,input,output,tiers\nacme,riddle,5,6,1000 input=7\n")
    with data_folder() as folder:
        async with tracestone_up(folder) as program:
            await program.ready()
            async with httpx.AsyncClient() as http:
                made = await http.post(f"{program.url}/api/2.0/mlflow/experiments/create", json={"name": "checkout"})
            assert made.status_code == 200
            where = (f"--data-dir={folder}", f"--sql-port={program.ports['sql_port']}")
            for line in lines:
                code, _, err = await run_command(*shlex.split(line)[1:], *where, folder=tmp_path)
                assert code == 0, (line, err)
        file = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)[0])
        assert [given.read(entry)[0].model for entry in file["prices"]] == ["gpt-4o", "our-finetune-7b", "big-model"]


@pytest.mark.timeout(120)
async def test_what_makes_no_sense_is_told(tmp_path: Path) -> None:
    with data_folder() as folder:
        where = f"--data-dir={folder}"
        (tmp_path / "list.csv").write_text("provider,model,input\nacme,m,cheap\n")
        for arguments, reason in (
            (("prices", "set", "m"), "prices[0].prices: must hold one for input, or for each image"),
            (("prices", "set", "m", "--input=-1"), "prices[0].prices.input: must be between 0 and"),
            (
                ("prices", "set", "m", "--input=1", "--experiment=none"),
                "prices[0].experiment: there is no experiment none",
            ),
            (
                ("prices", "set", "m", "--input=1", "--tier=many input=2"),
                "tiers: must be of the form: 200000 input=2.5",
            ),
            (("prices", "remove", "m"), "There is no such price of m that somebody set or imported."),
            (("prices", "import", str(tmp_path / "list.csv")), "file: line 2: input: must be a number"),
            (("prices", "import", str(tmp_path / "absent")), "FILE: "),
            (("prices", "show", "never-heard-of"), "No price of never-heard-of is known"),
            (("reprice", "--from=yesterday"), "--from: must be a day or time such as"),
            (("reprice", "--cancel"), "No reprice is at work."),
        ):
            code, _, err = await run_command(*arguments, where)
            assert (code, reason in err) == (1, True), (arguments, err)
            assert "Traceback" not in err


@pytest.mark.timeout(120)
async def test_prices_of_a_file_are_followed_at_start(tmp_path: Path) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text("prices:\n  - {model: openai/m, input: 2, output: 8, from: 2026-01-01}\n  - {model: n, input: 1}\n")
    with data_folder() as folder:
        for text, expected in ((None, {"m", "n"}), ("prices: [{model: n, input: 1}]", {"n"})):
            if text:
                file.write_text(text)
            async with tracestone_up(folder, f"--prices-file={file}") as program:
                await program.ready()
                async with httpx.AsyncClient() as http:
                    found = (await http.get(f"{program.url}/api/v1/prices?scope=deployment")).json()["prices"]
                    page = (await http.get(f"{program.url}/prices")).text
                assert {price["model"] for price in found} == expected
                assert all(f">{model}<" in page for model in expected)
                await program.stop()
        file.write_text("prices: [{model: m, input: dear}]")
        async with tracestone_up(folder, f"--prices-file={file}") as refused:
            assert await refused.end() == 1
        assert refused.err[-1] == (
            f"tracestone: The prices file {file} cannot be used:"
            " prices[0].prices.input: must be a number: USD per million tokens."
        )
