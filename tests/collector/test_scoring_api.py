"""Scorers over HTTP, against the real stores."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from starlette.applications import Starlette

from tracestone.collector import scoring_api
from tracestone.collector.scoring_api import Deps
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.online import OnlineSetup
from tracestone.schema.stores.experiments import ExperimentStore
from tracestone.schema.stores.scorers import ScorerStore

POLITE = {"name": "polite", "kind": "regex_match", "parameters": {"pattern": "(?i)please"}}


@pytest_asyncio.fixture
async def api(pool: Pool, columnar: Columnar) -> AsyncIterator[httpx.AsyncClient]:
    scorers = ScorerStore(pool)
    deps = Deps(scorers, OnlineSetup(scorers, ExperimentStore(pool, 100), columnar, ["http://models.example/v1/"]))
    app = Starlette(routes=scoring_api.routes(deps))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here/api/v1") as client:
        yield client


async def test_a_scorer_is_defined_versioned_and_read(api: httpx.AsyncClient) -> None:
    first = await api.post("/scorers", json=POLITE)
    again = await api.post("/scorers", json=POLITE)
    changed = await api.post("/scorers", json=POLITE | {"parameters": {"pattern": "thanks"}})
    assert [answer.status_code for answer in (first, again, changed)] == [201, 200, 201]
    assert (first.json()["version"], again.json()["version"], changed.json()["version"]) == (1, 1, 2)
    assert (await api.get("/scorers")).json()["scorers"] == [changed.json()]
    assert (await api.get("/scorers/polite")).json() == changed.json() | {"online": []}
    assert (await api.get("/scorers/polite/versions/1")).json() == first.json()
    versions = (await api.get("/scorers/polite/versions")).json()["versions"]
    assert [version["version"] for version in versions] == [2, 1]
    assert (await api.get("/scorers/polite/versions?before=2")).json()["versions"] == [first.json()]


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("judge", {"instructions": "{{ outputs }}", "model": "openai/x"}),
        ("embedding_similarity", {"model": "openai/x"}),
    ],
)
async def test_only_the_operator_chooses_where_keys_are_sent(
    api: httpx.AsyncClient, kind: str, parameters: dict[str, Any]
) -> None:
    def judge(base: str) -> dict[str, Any]:
        return {"name": "kind", "kind": kind, "parameters": {**parameters, "api_base": base}}

    refused = await api.post("/scorers", json=judge("http://evil.example/v1"))
    assert (refused.status_code, refused.json()["field"]) == (422, "parameters.api_base")
    assert "judge_api_bases" in refused.json()["detail"]
    assert (await api.get("/scorers")).json() == {"scorers": []}
    assert (await api.post("/scorers", json=judge("http://models.example/v1"))).status_code == 201


async def test_an_online_configuration_is_put_and_deleted(api: httpx.AsyncClient) -> None:
    await api.post("/scorers", json=POLITE)
    put = await api.put("/scorers/polite/online/all", json={"sample_rate": 0.1, "filter": "state = 'OK'"})
    assert put.status_code == 200
    assert put.json() == {
        "scorer": "polite",
        "experiment": "all",
        "version": None,
        "target": "trace",
        "sample_rate": 0.1,
        "filter": "state = 'OK'",
        "strata": [],
        "salt": "",
        "idle_seconds": 300.0,
        "priority": 0,
        "after": "",
        "after_version": None,
        "concurrency": None,
        "fair_by": "",
        "fair_per_hour": None,
        "last_error": "",
    }
    await api.put("/scorers/polite/online/0", json={"version": 1})
    online = (await api.get("/scorers/polite/online")).json()["online"]
    assert [(config["experiment"], config["version"]) for config in online] == [("all", None), (0, 1)]
    assert (await api.delete("/scorers/polite/online/all")).status_code == 204
    assert (await api.delete("/scorers/polite/online/all")).status_code == 404
    assert len((await api.get("/scorers/polite")).json()["online"]) == 1


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "field"),
    [
        ("POST", "/scorers", "{", 422, "body"),
        ("POST", "/scorers", "[" * 100_000, 422, "body"),
        ("POST", "/scorers", "[]", 422, "body"),
        ("POST", "/scorers", '{"name": "a\\u0000"}', 422, "body"),
        ("POST", "/scorers", '{"name": "a", "kind": "mood"}', 422, "kind"),
        ("POST", "/scorers", '{"name": "a", "kind": "latency"}', 422, "parameters.max_ms"),
        ("POST", "/scorers", '{"name": "a", "kind": "error", "x": 1}', 422, "x"),
        ("POST", "/scorers", " " * 2_000_000, 413, None),
        ("GET", "/scorers/nobody", "", 404, None),
        ("GET", "/scorers/polite/versions/x", "", 422, "version"),
        ("GET", "/scorers/polite/versions/7", "", 404, None),
        ("GET", "/scorers/polite/versions?before=-1", "", 422, "before"),
        ("PUT", "/scorers/nobody/online/all", "{}", 404, None),
        ("PUT", "/scorers/polite/online/here", "{}", 422, "experiment"),
        ("PUT", "/scorers/polite/online/77", "{}", 422, "experiment"),
        ("PUT", "/scorers/polite/online/all", '{"experiment": 0}', 422, "experiment"),
        ("PUT", "/scorers/polite/online/all", '{"sample_rate": 2}', 422, "online.sample_rate"),
        ("PUT", "/scorers/polite/online/all", '{"filter": "(SELECT 1)"}', 422, "filter"),
        ("DELETE", "/scorers/nobody/online/all", "", 404, None),
    ],
    ids=lambda part: str(part)[:30],
)  # fmt: skip
async def test_bad_input_is_answered_with_a_problem(
    api: httpx.AsyncClient, method: str, path: str, body: str, status: int, field: str | None
) -> None:
    await api.post("/scorers", json=POLITE)
    answer = await api.request(method, path, content=body)
    problem: dict[str, Any] = answer.json()
    assert (answer.status_code, problem["status"]) == (status, status)
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem.get("field") == field
    assert problem["detail"]
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/scorers", ""),
        ("POST", "/scorers", '{"name": "b", "kind": "error"}'),
        ("GET", "/scorers/polite", ""),
        ("GET", "/scorers/polite/versions", ""),
        ("GET", "/scorers/polite/versions/1", ""),
        ("PUT", "/scorers/polite/online/all", "{}"),
        ("DELETE", "/scorers/polite/online/all", ""),
    ],
)
async def test_without_postgres_the_answer_is_to_try_again(
    api: httpx.AsyncClient, pool: Pool, method: str, path: str, body: str
) -> None:
    pool.terminate()
    answer = await api.request(method, path, content=body)
    assert answer.status_code == 503, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["retry-after"]) >= 1


SOURCE = {"name": "brief", "kind": "code", "parameters": {"source": "def f(outputs): return True", "function": "f"}}


async def test_source_is_refused_unless_the_operator_allows_it(
    api: httpx.AsyncClient, pool: Pool, columnar: Columnar
) -> None:
    refused = await api.post("/scorers", json=SOURCE)
    assert (refused.status_code, refused.json()["field"]) == (422, "parameters.source")
    assert "code_scorers" in refused.json()["detail"]
    installed = {"name": "brief", "kind": "code", "parameters": {"entry_point": "brief"}}
    assert (await api.post("/scorers", json=installed)).status_code == 201
    scorers = ScorerStore(pool)
    allowed = OnlineSetup(scorers, ExperimentStore(pool, 100), columnar, code_scorers=True)
    assert (await allowed.define(SOURCE)).version == 2


async def test_an_ensemble_names_scorers_that_are_there_and_fit(api: httpx.AsyncClient) -> None:
    for document in (
        POLITE,
        {"name": "fast", "kind": "latency", "parameters": {"max_ms": 5}},
        {"name": "turns", "kind": "code", "parameters": {"entry_point": "turns", "session_level": True}},
        {"name": "looped", "kind": "tool_loop", "parameters": {}},
    ):
        assert (await api.post("/scorers", json=document)).status_code == 201

    def both(one: str, other: str, version: int = 1) -> dict[str, Any]:
        members = [{"name": one, "version": 1}, {"name": other, "version": version}]
        return {"name": "both", "kind": "ensemble", "parameters": {"combine": "all", "members": members}}

    for document, field, reason in (
        (both("polite", "nobody"), "parameters.members.1", "there is no scorer nobody"),
        (both("polite", "fast", 2), "parameters.members.1", "of version 2"),
        (both("polite", "turns"), "parameters.members", "no kind of target"),
    ):
        refused = await api.post("/scorers", json=document)
        assert (refused.status_code, refused.json()["field"]) == (422, field)
        assert reason in refused.json()["detail"]
    assert (await api.post("/scorers", json=both("polite", "fast"))).status_code == 201
    nested = await api.post("/scorers", json=both("fast", "both"))
    assert (nested.status_code, nested.json()["field"]) == (422, "parameters.members.1")
    assert (await api.put("/scorers/both/online/all", json={"target": "span"})).status_code == 200
    unfit = await api.put("/scorers/both/online/all", json={"target": "session"})
    assert (unfit.status_code, unfit.json()["field"]) == (422, "online.target")
    assert (await api.post("/scorers", json=both("looped", "turns"))).status_code == 201
    assert (await api.put("/scorers/both/online/all", json={})).json()["target"] == "session"
