"""Reviews over HTTP, on pages and by command."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest_asyncio
from starlette.applications import Starlette

from support.asgi_server import serving
from support.running import data_folder, run_command
from support.stored_traces import Row, numbered, store
from tracestone.collector import reviews_api
from tracestone.collector.ui import review_routes
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.embedded_postgres import EmbeddedPostgres
from tracestone.schema.engines.postgres import Pool, open_pool
from tracestone.schema.migrate import migrate_postgres
from tracestone.schema.scorers.definition import define
from tracestone.schema.stores.assessments import AssessmentStore
from tracestone.schema.stores.jobs import JobStore, Target
from tracestone.schema.stores.reviews import ReviewStore
from tracestone.schema.stores.scorers import ScorerStore
from tracestone.schema.stores.spans import SpanStore

ASKED = {"question": "Is <it> right?", "verdict": {"type": "number", "minimum": 1, "maximum": 5}}


async def fill(pool: Pool) -> None:
    """Two traces and a session that a person is asked about."""
    await ScorerStore(pool).define(define("person", "review", ASKED))
    async with pool.acquire() as connection, connection.transaction():
        traces = [Target(0, numbered(number), probability=0.25, stratum="odd") for number in (1, 2)]
        for target, kind in ((traces, "trace"), ([Target(0, session_id="a b", probability=0.25)], "session")):
            await JobStore(pool).enqueue(connection, "person", 1, target, kind, 0)  # type: ignore[arg-type]


@asynccontextmanager
async def _client(pool: Pool, columnar: Columnar) -> AsyncIterator[httpx.AsyncClient]:
    deps = reviews_api.Deps(ReviewStore(pool), SpanStore(columnar), AssessmentStore(pool))
    app = Starlette(routes=[*reviews_api.routes(deps), *review_routes.routes(deps)])
    async with serving(app) as url, httpx.AsyncClient(base_url=url, timeout=60) as http:
        yield http


@pytest_asyncio.fixture
async def http(pool: Pool, columnar: Columnar) -> AsyncIterator[httpx.AsyncClient]:
    await fill(pool)
    await store(columnar, [Row(numbered(1), output="<b>It is on its way.</b>")])
    async with _client(pool, columnar) as client:
        yield client


async def test_the_api_lists_takes_and_ends_reviews(http: httpx.AsyncClient, pool: Pool) -> None:
    listed = (await http.get("/api/v1/reviews")).json()["reviews"]
    assert [(each["target"], each["trace_id"], each["session_id"]) for each in listed] == [
        ("trace", numbered(1), ""), ("trace", numbered(2), ""), ("session", "", "a b")
    ]  # fmt: skip
    assert (await http.get(f"/api/v1/reviews?after={listed[1]['id']}&scorer=person")).json()["reviews"] == listed[2:]
    taken = (await http.post("/api/v1/reviews/take", json={"reviewer": "ada", "scorer": "person"})).json()
    assert (taken["id"], taken["question"], taken["taken_by"]) == (listed[0]["id"], ASKED["question"], "ada")
    path = f"/api/v1/reviews/{taken['id']}"
    assert (await http.post(f"{path}/done", json={"reviewer": "bob", "value": 3})).status_code == 409
    wrong = await http.post(f"{path}/done", json={"reviewer": "ada", "value": 6})
    assert (wrong.status_code, wrong.json()["field"]) == (422, "value")
    assert (await http.post(f"{path}/done", json={"reviewer": "ada"})).json()["field"] == "value"
    said = await http.post(f"{path}/done", json={"reviewer": "ada", "value": 4, "rationale": "fine"})
    assert said.status_code == 200
    row = await pool.fetchrow("SELECT * FROM assessments WHERE assessment_id = $1", said.json()["assessment_id"])
    assert row is not None
    assert (row["value"], row["rationale"], row["source_type"], row["probability"]) == (4, "fine", "HUMAN", 0.25)
    assert row["metadata"] == {"stratum": "odd"}
    assert (await http.get(path)).status_code == 404
    second = f"/api/v1/reviews/{listed[1]['id']}"
    await http.post("/api/v1/reviews/take", json={"reviewer": "ada", "id": listed[1]["id"]})
    assert (await http.post(f"{second}/release", json={"reviewer": "ada"})).status_code == 204
    assert (await http.post(f"{second}/drop", json={"reviewer": "bob", "reason": "spam"})).status_code == 200
    await http.post("/api/v1/reviews/take", json={"reviewer": "ada"})
    assert (await http.post("/api/v1/reviews/take", json={"reviewer": "ada"})).status_code == 204


async def test_a_person_answers_on_pages(http: httpx.AsyncClient, pool: Pool) -> None:
    page = (await http.get("/reviews")).text
    assert page.count('class="cover"') == 3
    first = await http.post("/reviews/take", data={"reviewer": "Ada L"})
    assert (first.status_code, first.headers["location"].split("?")[1]) == (303, "as=Ada+L")
    page = (await http.get(first.headers["location"])).text
    assert "Is &lt;it&gt; right?" in page and "&lt;b&gt;It is on its way.&lt;/b&gt;" in page
    assert f"/experiments/0/traces/{numbered(1)}" in page and 'value="Ada L"' in page
    address = first.headers["location"].split("?")[0]
    refused = await http.post(address, data={"reviewer": "Ada L", "value": "9", "action": "answer"})
    assert refused.status_code == 400 and "a number from 1 to 5" in refused.text
    other = await http.post(address, data={"reviewer": "bob", "value": "2", "action": "answer"})
    assert other.status_code == 409 and "Ada L has the review" in other.text
    following = await http.post(address, data={"reviewer": "Ada L", "value": "2", "rationale": "so so"})
    assert following.status_code == 303
    dropped = await http.post(following.headers["location"].split("?")[0], data={"reviewer": "Ada L", "action": "drop"})
    page = (await http.get(dropped.headers["location"])).text
    assert "/experiments/0/session?id=a+b" in page
    last = await http.post(dropped.headers["location"].split("?")[0], data={"reviewer": "Ada L", "value": "5"})
    assert last.headers["location"] == "/reviews"
    assert "Nothing waits" in (await http.get("/reviews")).text
    rows = await pool.fetch("SELECT value, error_code FROM assessments ORDER BY created_at_ms, assessment_id")
    assert sorted((row["value"] or 0, row["error_code"]) for row in rows) == [(0, "REVIEW_DROPPED"), (2, ""), (5, "")]
    for wrong in ("/reviews/x", "/reviews/99"):
        assert (await http.get(wrong)).status_code == 404


async def test_the_commands_list_take_answer_and_drop() -> None:
    with data_folder() as folder:

        async def said(*arguments: str, fails: bool = False) -> str:
            code, out, err = await run_command("review", *arguments, f"--data-dir={folder}")
            assert (code != 0) is fails, err
            return err if fails else out

        server = EmbeddedPostgres(folder.resolve() / "postgres")
        try:
            pool = await open_pool(await server.start())
            await migrate_postgres(pool)
            await fill(pool)
            await pool.close()
        finally:
            await server.stop()

        first, second, _ = [json.loads(line)["id"] for line in (await said("list")).splitlines()]
        taken = await said("take", "--as", "ada")
        assert numbered(1) in taken and "Is <it> right?" in taken and "a number from 1 to 5" in taken
        assert "a number from 1 to 5" in await said("done", str(first), "6", "--as", "ada", fails=True)
        assert "is answered" in await said("done", str(first), "3", "--as", "ada", "--rationale", "so so")
        assert "is dropped" in await said("drop", str(second), "spam", "--as", "ada")
        assert len((await said("list", "--scorer", "person")).splitlines()) == 1
