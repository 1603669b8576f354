"""Prices and rewrites over HTTP, against the real stores."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from support.api_keys import bearer
from support.running import running
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.keys import Scope
from tracestone.schema.stores.experiments import ExperimentStore
from tracestone.schema.stores.keys import KeyStore


@pytest_asyncio.fixture
async def url(pool: Pool, columnar: Columnar, tmp_path: Path) -> AsyncIterator[str]:
    async with running(pool, columnar, tmp_path) as served:
        yield served.url


@pytest_asyncio.fixture
async def api(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"{url}/api/v1") as client:
        yield client


async def test_prices_are_set_listed_and_taken_back(api: httpx.AsyncClient, pool: Pool) -> None:
    experiment = (await ExperimentStore(pool, 100).create("support")).experiment_id
    set_prices = [
        {"model": "our-model", "input": 2, "output": 8, "tiers": [{"above_tokens": 1000, "input": 4}]},
        {"model": "azure/gpt-4o", "input": 1, "output": 2, "from": "2020-01-01", "experiment": "support"},
    ]
    answer = await api.post("/prices", json={"prices": set_prices})
    assert answer.status_code == 200
    found = (await api.get("/prices?scope=deployment")).json()
    assert found["prices"] == [
        {
            "scope": "deployment", "experiment_id": None, "provider": "", "model": "our-model", "from": None,
            "input": 2.0, "output": 8.0, "tiers": [{"above_tokens": 1000, "input": 4.0}], "source": "set",
        }
    ]  # fmt: skip
    (own,) = (await api.get("/prices?scope=experiment")).json()["prices"]
    assert (own["provider"], own["experiment_id"], own["from"]) == ("azure.ai.openai", experiment, "2020-01-01")
    assert (await api.delete("/prices?model=our-model")).status_code == 204
    assert (await api.delete("/prices?model=our-model")).status_code == 404
    assert (
        await api.delete("/prices?model=gpt-4o&provider=azure&from=2020-01-01&experiment=support")
    ).status_code == 204
    assert (await api.get("/prices?scope=experiment")).json() == {"prices": [], "total": 0}


async def test_the_list_comes_in_pages(api: httpx.AsyncClient) -> None:
    first = (await api.get("/prices?provider=openai&model=gpt")).json()
    assert first["total"] == len(first["prices"]) > 20
    assert all(price["source"] == "shipped" for price in first["prices"])
    whole = (await api.get("/prices")).json()
    rest = (await api.get("/prices?after=500")).json()
    assert whole["total"] == rest["total"] > 1000
    assert len(whole["prices"]) == len(rest["prices"]) == 500
    assert whole["prices"][0] not in rest["prices"]


async def test_what_is_wrong_is_told_with_its_field(api: httpx.AsyncClient) -> None:
    for method, path, body, field in (
        ("POST", "/prices", {"prices": [{"model": "m", "input": "x"}]}, "prices[0].prices.input"),
        ("POST", "/prices", {"prices": [{"model": "m", "input": 1, "experiment": "none"}]}, "prices[0].experiment"),
        ("POST", "/prices", {"prices": []}, "prices"),
        ("POST", "/prices", {"price": []}, "prices"),
        ("GET", "/prices?scope=mine", None, "scope"),
        ("GET", "/prices?after=x", None, "after"),
        ("POST", "/reprice", {"since": "2026-01-01"}, "since"),
        ("POST", "/reprice", {"from": "then"}, "--from"),
        ("POST", "/reprice", {"model": ["m"]}, "model"),
        ("POST", "/renormalise", {"model": "m"}, "model"),
    ):
        answer = await api.request(method, path, json=body)
        assert (answer.status_code, answer.json().get("field")) == (422, field), (path, body, answer.text)
    assert (await api.delete("/rewrites/99")).status_code == 404
    assert (await api.delete("/rewrites/x")).status_code == 404


@pytest.mark.parametrize(("kind", "what"), [("reprice", {"model": "gpt-4o"}), ("renormalise", {"to": "2026-01-01"})])
async def test_a_rewrite_is_asked_for_and_watched(api: httpx.AsyncClient, kind: str, what: dict[str, str]) -> None:
    asked = await api.post(f"/{kind}", json=what)
    assert (asked.status_code, asked.json()["kind"]) == (202, kind)
    while (latest := (await api.get("/rewrites")).json()["rewrites"])[0]["state"] != "done":
        assert latest[0]["id"] == asked.json()["id"]
    assert (await api.get("/prices/unknown")).json() == {"models": []}


async def test_only_admins_change_prices(url: str, pool: Pool) -> None:
    experiment = (await ExperimentStore(pool, 100).create("support")).experiment_id
    store, scopes = KeyStore(pool), ("read", "write", "admin")
    keys: dict[str, str] = {}
    for scope in scopes:
        granted: frozenset[Scope] = frozenset([scope])  # type: ignore[list-item]
        keys[scope] = (await store.create(scope, granted))[1]
    bound = (await store.create("bound", frozenset[Scope](["read"]), frozenset([experiment + 1])))[1]
    prices = [{"model": "secret-model", "input": 1, "experiment": "support"}]
    async with httpx.AsyncClient(base_url=f"{url}/api/v1") as api:
        while (await api.get("/prices")).status_code != 401:
            pass
        for scope, expected in (("read", 403), ("write", 403), ("admin", 200)):
            answer = await api.post("/prices", json={"prices": prices}, headers=bearer(keys[scope]))
            assert answer.status_code == expected, scope
        for path in ("/reprice", "/renormalise"):
            asked = await api.post(path, json={}, headers=bearer(keys["write"]))
            assert asked.status_code == 403
        seen = await api.get("/prices?model=secret-model", headers=bearer(keys["read"]))
        assert seen.json()["total"] == 1
        hidden = await api.get("/prices?model=secret-model", headers=bearer(bound))
        assert (hidden.status_code, hidden.json()["total"]) == (200, 0)
        page = await api.get(f"{url}/prices", headers=bearer(bound))
        assert page.status_code == 200
        assert "secret-model" not in page.text
        assert (await api.get("/rewrites", headers=bearer(bound))).status_code == 403
