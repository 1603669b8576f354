"""Budgets over HTTP, in /metrics and by command, against the real stores."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette

from support.running import data_folder, run_command, running
from tracestone.collector import budgets_api
from tracestone.schema.budgeting import BudgetSetup
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.stores.budgets import BudgetStore, Reserve, Settle
from tracestone.schema.stores.experiments import ExperimentStore
from tracestone.schema.stores.scorers import ScorerStore


@pytest_asyncio.fixture
async def api(pool: Pool) -> AsyncIterator[httpx.AsyncClient]:
    setup = BudgetSetup(BudgetStore(pool), ScorerStore(pool), ExperimentStore(pool, 100))
    app = Starlette(routes=budgets_api.routes(budgets_api.Deps(setup)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here/api/v1") as client:
        yield client


async def spend(pool: Pool) -> None:
    """One call that spent 0.25 USD, and one under way that may spend 0.5."""
    store, done, open_ = BudgetStore(pool), uuid4(), uuid4()
    await store.reserve(uuid4(), 60, [Reserve(done, "tone", 0, 0.5, 10), Reserve(open_, "tone", 0, 0.5, 10)])
    await store.settle(uuid4(), [Settle(done, "tone", 0, 1, 0.25, 5)])


async def test_a_budget_is_set_read_and_removed(api: httpx.AsyncClient, pool: Pool) -> None:
    made = await api.post("/budgets", json={"usd": 1.5, "per": "day"})
    assert made.status_code == 201
    number = made.json()["id"]
    await spend(pool)
    again = await api.post("/budgets", json={"usd": 2, "per": "day"})
    assert (again.status_code, again.json()["id"]) == (200, number)
    (shown,) = (await api.get("/budgets")).json()["budgets"]
    told = {name: shown[name] for name in ("scorer", "experiment", "unit", "per", "cap", "spent", "reserved", "left")}
    assert told == {
        "scorer": None,
        "experiment": None,
        "unit": "usd",
        "per": "day",
        "cap": 2.0,
        "spent": 0.25,
        "reserved": 0.5,
        "left": 1.25,
    }
    assert shown["period_start"] < shown["period_end"]
    assert (await api.delete(f"/budgets/{number}")).status_code == 204
    assert (await api.delete(f"/budgets/{number}")).status_code == 404
    assert (await api.delete("/budgets/x")).status_code == 404
    assert (await api.get("/budgets")).json() == {"budgets": []}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"usd": 1}, "per"),
        ({"usd": 1, "per": "day", "scorer": "nobody"}, "scorer"),
        ({"usd": "much", "per": "day"}, "usd"),
        ({"per": "day"}, None),
    ],
)
async def test_a_wrong_budget_is_refused_by_its_field(
    api: httpx.AsyncClient, body: dict[str, Any], field: str | None
) -> None:
    answer = await api.post("/budgets", json=body)
    assert (answer.status_code, answer.json().get("field")) == (422, field)


async def test_metrics_tell_of_budgets(pool: Pool, columnar: Columnar, tmp_path: Path) -> None:
    async with running(pool, columnar, tmp_path) as here:
        async with httpx.AsyncClient() as http:
            made = (await http.post(f"{here.url}/api/v1/budgets", json={"usd": 1.5, "per": "month"})).json()
            await spend(pool)
            text = (await http.get(f"{here.url}/metrics")).text
    labels = {"budget": str(made["id"]), "scorer": "", "experiment": "", "unit": "usd", "period": "month"}
    found = {
        sample.name.removeprefix("tracestone_budget_"): (sample.labels, sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("tracestone_budget_")
    }
    assert found == {"cap": (labels, 1.5), "spent": (labels, 0.25), "reserved": (labels, 0.5)}


async def test_the_commands_set_list_and_remove() -> None:
    with data_folder() as folder:

        async def said(*arguments: str) -> str:
            code, out, err = await run_command("budget", arguments[0], f"--data-dir={folder}", *arguments[1:])
            assert code == 0, err
            return out

        made = json.loads(await said("set", "--usd=20", "--per=day"))
        assert (made["cap"], made["left"], made["waiting_jobs"]) == (20.0, 20.0, 0)
        await said("set", "--tokens=5000000", "--per=week", "--experiment=support")
        head, first, second = (await said("list")).splitlines()
        assert head.split()[:4] == ["NO", "SCORER", "EXPERIMENT", "PER"]
        assert first.split()[:6] == [str(made["id"]), "(all)", "(all)", "day", "20.0000", "USD"]
        assert second.split()[:6] == [second.split()[0], "(all)", "1", "week", "5,000,000", "tok"]
        (told, _) = (await said("list", "--json")).splitlines()
        assert json.loads(told) == made
        assert await said("remove", str(made["id"])) == "Removed.\n"
        code, _, err = await run_command("budget", "remove", f"--data-dir={folder}", str(made["id"]))
        assert (code, err) == (1, f"tracestone: There is no budget {made['id']}.\n")
        code, _, err = await run_command("budget", "set", f"--data-dir={folder}", "--per=day")
        assert (code, err) == (1, "tracestone: needs usd or tokens, one of them\n")
