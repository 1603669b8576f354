"""Scoring jobs over HTTP: told, listed, replayed and dropped, against the real Postgres."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from starlette.applications import Starlette

from support.dead_jobs import fill
from tracestone.collector import jobs_api
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.stores.dead_jobs import DeadJobStore
from tracestone.schema.stores.jobs import JobStore


@pytest_asyncio.fixture
async def api(pool: Pool) -> AsyncIterator[httpx.AsyncClient]:
    await fill(pool)
    app = Starlette(routes=jobs_api.routes(jobs_api.Deps(JobStore(pool), DeadJobStore(pool))))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here/api/v1") as client:
        yield client


async def dead(api: httpx.AsyncClient, **asked: Any) -> list[dict[str, Any]]:
    answer = await api.get("/jobs/dead", params=asked)
    assert answer.status_code == 200
    found: list[dict[str, Any]] = answer.json()["dead_jobs"]
    return found


async def test_what_waits_is_told(api: httpx.AsyncClient) -> None:
    told = (await api.get("/jobs")).json()
    assert told["states"]["waiting_for_provider"] == 1
    (wait,) = told["waits"]
    assert (wait["scorer_name"], wait["jobs"], wait["reason"]) == ("tone", 1, "calls of acme are stopped")


async def test_dead_jobs_are_listed_and_shown(api: httpx.AsyncClient) -> None:
    first, second = await dead(api)
    assert (first["scorer_name"], first["trace_id"], first["code"]) == ("tone", f"{1:032x}", "TIMEOUT")
    assert (first["message"], first["scorer_version"], first["target_type"]) == ("it is TIMEOUT", 1, "trace")
    assert await dead(api, after=first["dead_id"]) == [second]
    assert await dead(api, code="UNAUTHENTICATED", scorer="tone") == [second]
    assert await dead(api, scorer="nobody") == []
    assert (await api.get(f"/jobs/dead/{second['dead_id']}")).json() == second
    for nobody in ("999999", "x"):
        answer = await api.get(f"/jobs/dead/{nobody}")
        assert (answer.status_code, answer.json()["detail"]) == (404, f"There is no dead job {nobody}.")


async def test_dead_jobs_are_replayed_and_their_errors_removed(api: httpx.AsyncClient, pool: Pool) -> None:
    first, second = await dead(api)
    answer = await api.post("/jobs/dead/replay", json={"ids": [first["dead_id"]]})
    assert (answer.status_code, answer.json()) == (200, {"replayed": 1})
    assert await dead(api) == [second]
    assert (await api.get("/jobs")).json()["states"]["ready"] == 1
    assert await pool.fetchval("SELECT string_agg(error_code, '') FROM assessments") == "UNAUTHENTICATED"
    again = await api.post("/jobs/dead/replay", json={"ids": [first["dead_id"]]})
    assert again.json() == {"replayed": 0}


async def test_dead_jobs_are_dropped_and_their_errors_stay(api: httpx.AsyncClient, pool: Pool) -> None:
    answer = await api.post("/jobs/dead/drop", json={"all": True, "code": "TIMEOUT"})
    assert (answer.status_code, answer.json()) == (200, {"dropped": 1})
    assert [job["code"] for job in await dead(api)] == ["UNAUTHENTICATED"]
    assert await pool.fetchval("SELECT count(*) FROM assessments WHERE error_code <> ''") == 2
    assert (await api.post("/jobs/dead/drop", json={"all": True})).json() == {"dropped": 1}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, None),
        ({"ids": [1], "all": True}, None),
        ({"ids": []}, "ids"),
        ({"ids": ["x"]}, "ids.0"),
        ({"all": True, "scorer": 3}, "scorer"),
        ({"all": True, "sure": True}, "sure"),
    ],
)
async def test_what_is_wrong_is_named(api: httpx.AsyncClient, body: dict[str, Any], field: str | None) -> None:
    for verb in ("replay", "drop"):
        answer = await api.post(f"/jobs/dead/{verb}", json=body)
        assert answer.status_code == 422
        assert answer.json().get("field") == field
    assert len(await dead(api)) == 2


async def test_a_place_in_the_list_is_a_number(api: httpx.AsyncClient) -> None:
    answer = await api.get("/jobs/dead", params={"after": "x"})
    assert (answer.status_code, answer.json()["field"]) == (422, "after")
