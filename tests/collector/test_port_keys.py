"""The page, the APIs and SQL where keys are demanded: who is refused and how, and what a bound key sees."""

import asyncio
import base64
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import clickhouse_connect
import httpx
import mlflow
import pytest
import pytest_asyncio
from clickhouse_connect.driver.exceptions import DatabaseError
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from starlette.routing import Mount, Route

from support.api_keys import bearer, new_key
from support.engines import fresh_stores
from support.running import Running, running
from support.telemetry import export_request, otlp_span, store
from tracestone.collector import web
from tracestone.collector.auth.rules import READING_POSTS
from tracestone.collector.receiver.http import HttpReceiver
from tracestone.schema import keys
from tracestone.schema.assessments import Assessment
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.settings import Settings
from tracestone.schema.stores.keys import KeyStore

START = 1_790_000_000_000_000_000
KEYS = "/api/v1/keys"
CHANGED_BY_ADMINS = ("/api/v1/budgets", "/api/v1/prices", "/api/v1/reprice", "/api/v1/renormalise", "/api/v1/rewrites")
# One trace of each team, and one that both have.
RED, BLUE, SHARED = 1, 2, 3


@dataclass
class Site:
    """A collector that demands keys, with two experiments, a trace in each, and one in both."""

    running: Running
    pool: Pool
    red: int
    blue: int
    assessments: dict[str, str]

    async def key(self, *scopes: str, experiments: list[int] | None = None) -> dict[str, str]:
        """The header of a new key."""
        return bearer(await new_key(self.pool, *scopes, experiments=experiments))

    async def ask(self, headers: dict[str, str], method: str, path: str, **rest: Any) -> httpx.Response:
        """A request to the main port."""
        async with httpx.AsyncClient(headers=headers) as http:
            return await http.request(method, f"{self.running.url}{path}", **rest)


@pytest_asyncio.fixture(scope="module")
async def site(postgres_server: str, chdb_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """One for the module."""
    folder: Path = tmp_path_factory.mktemp("collector")
    async with (
        fresh_stores(postgres_server, chdb_url) as (pool, columnar),
        running(pool, columnar, folder, auth="on") as started,
    ):
        collector = started.collector
        red, blue = [(await collector.experiments.create(name)).experiment_id for name in ("red", "blue")]
        made = {}
        for trace, experiment in ((RED, red), (BLUE, blue), (SHARED, red), (SHARED, blue)):
            name = "red" if experiment == red else "blue"
            request = export_request(otlp_span(trace, trace, start_ns=START, name=f"of {name}"))
            await store(collector.spans, request, experiment)
            assessment = Assessment(
                name=f"by {name}",
                trace_id=f"{trace:032x}",
                experiment_id=experiment,
                target_type="trace",
                kind="feedback",
                source_type="HUMAN",
                value=True,
            )
            made[f"{trace} {name}"] = (await collector.assessments.create(assessment)).assessment_id
        yield Site(started, pool, red, blue, made)


def _routes() -> list[tuple[str, str]]:
    """Every method and path of the main port."""
    nothing: Any = None
    apis = (
        web.mlflow_routes.Deps,
        web.scoring_api.Deps,
        web.backfills_api.Deps,
        web.budgets_api.Deps,
        web.jobs_api.Deps,
        web.keys_api.Deps,
        web.prices_api.Deps,
        web.reviews_api.Deps,
        web.webhooks_api.Deps,
        web.PageDeps,
    )
    none = [cls(**dict.fromkeys(cls.__dataclass_fields__)) for cls in apis]
    receiver = HttpReceiver([], max_request_bytes=1)
    app = web.main_app(receiver, *none, nothing, Settings())  # type: ignore[arg-type]
    found = []
    for route in app.routes:
        if isinstance(route, Mount):
            found.append(("GET", f"{route.path}/pages.css"))
        else:
            assert isinstance(route, Route)
            found += [(method, _filled(route.path)) for method in sorted(route.methods or ())]
    return found


def _filled(path: str) -> str:
    values = {"experiment_id": "0", "experiment": "0", "version": "1", "trace_id": "0" * 31 + "1", "span_id": "0" * 16}
    return re.sub(r"\{(\w+)(?::path)?\}", lambda match: values.get(match[1], "x"), path)


async def test_every_path_demands_a_key(site: Site) -> None:
    table = _routes()
    assert len(table) > 60
    ingest, read, write = await site.key("ingest"), await site.key("read"), await site.key("write")
    async with httpx.AsyncClient(base_url=site.running.url) as http:
        for method, path in [*table, ("GET", "/no/such/page"), ("POST", "/v1/traces"), ("OPTIONS", "/")]:
            callers = ({}, ingest, read, write)
            answers = [(await http.request(method, path, headers=each)).status_code for each in callers]
            served = [status not in (401, 403) for status in answers]
            if path == "/health":
                assert served == [True] * 4
            elif path.startswith("/v1/"):
                assert (answers[0], served[1:]) == (401, [True, False, False]), path
            elif path.startswith((KEYS, "/api/v1/webhooks")):
                assert answers == [401, 403, 403, 403], path
            else:
                reads = method in ("GET", "HEAD") or path in READING_POSTS
                assert answers[:2] == [401, 403], (method, path)
                writes = not reads and not path.startswith(CHANGED_BY_ADMINS)
                assert served[2:] == [reads, writes], (method, path, answers)


def test_what_reads_with_post_is_there() -> None:
    assert {("POST", path) for path in READING_POSTS} <= set(_routes())


async def test_each_api_refuses_in_its_own_shape(site: Site) -> None:
    ingest = await site.key("ingest")
    page, no_page = await site.ask({}, "GET", "/"), await site.ask(ingest, "GET", "/")
    assert (page.status_code, page.headers["content-type"]) == (401, "text/plain; charset=utf-8")
    challenges = page.headers.get_list("www-authenticate", split_commas=False)
    assert challenges == ['Basic realm="tracestone", charset="UTF-8"', 'Bearer realm="tracestone"']
    assert (no_page.status_code, "www-authenticate" in no_page.headers) == (403, False)
    search = "/api/2.0/mlflow/experiments/search"
    for headers, status, code in (({}, 401, "UNAUTHENTICATED"), (ingest, 403, "PERMISSION_DENIED")):
        answer = await site.ask(headers, "POST", search, json={})
        assert (answer.status_code, answer.json()["error_code"]) == (status, code)
        for path in ("/api/v1/scorers", KEYS):
            answer = await site.ask(headers, "GET", path)
            assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


async def test_a_browser_s_prompt_and_a_curl_user_work(site: Site) -> None:
    token = (await site.key("read"))["authorization"].removeprefix("Bearer ")
    for user, password in (("me", token), ("", token), (token, "")):
        async with httpx.AsyncClient(auth=(user, password)) as browser:
            assert (await browser.get(f"{site.running.url}/")).status_code == 200


async def test_strangers_learn_from_health_only_whether_it_works(site: Site) -> None:
    for headers in ({}, bearer(keys.new_token()[1]), await site.key("ingest")):
        answer = await site.ask(headers, "GET", "/health")
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    told = (await site.ask(await site.key("read"), "GET", "/health")).json()
    assert "clickhouse" in told["parts"]


async def test_keys_over_http(site: Site) -> None:
    boss = await site.key("admin")
    made = await site.ask(
        boss, "POST", KEYS, json={"name": "agent", "scopes": ["ingest"], "experiments": [site.red, "green"]}
    )
    assert (made.status_code, made.headers["cache-control"]) == (201, "no-store")
    told = made.json()
    green = await site.running.collector.experiments.by_name("green")
    assert green is not None and told["experiments"] == [site.red, green.experiment_id]
    token = bearer(told["key"])
    assert (await site.ask(token, "POST", "/v1/traces", json={})).status_code == 200

    listed = await site.ask(boss, "GET", KEYS)
    assert told["key"] not in listed.text and told["key"].rpartition("_")[2] not in listed.text
    (entry,) = [key for key in listed.json()["keys"] if key["id"] == told["id"]]
    # When it was last used is noted a while after it was, which may be now.
    unused = {"last_used_at_ms": None}
    assert entry | unused == {name: value for name, value in told.items() if name != "key"} | unused
    assert (await site.ask(boss, "GET", KEYS, params={"after": listed.json()["keys"][-1]["id"]})).json() == {"keys": []}

    gone = await site.ask(boss, "DELETE", f"{KEYS}/{told['id']}")
    assert (gone.status_code, gone.json()["revoked_at_ms"] > 0) == (200, True)
    assert (await site.ask(token, "POST", "/v1/traces", json={})).status_code == 401  # at once
    assert (await site.ask(boss, "DELETE", f"{KEYS}/{'0' * 16}")).status_code == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"scopes": ["ingest"]}, "name"),
        ({"name": "x"}, "scopes"),
        ({"name": "x", "scopes": []}, "scopes"),
        ({"name": "x", "scopes": ["root"]}, "scopes"),
        ({"name": "x", "scopes": ["ingest"], "experiments": []}, "experiments"),
        ({"name": "x", "scopes": ["ingest"], "experiments": ["999999"]}, "experiments"),
        ({"name": "x", "scopes": ["ingest"], "experiments": [True]}, "experiments"),
        ({"name": "x", "scopes": ["admin"], "experiments": [0]}, "experiments"),
        ({"name": "x", "scopes": ["ingest"], "expires_in_days": 0}, "expires_in_days"),
        ({"name": "x", "scopes": ["ingest"], "expires_in_days": "1"}, "expires_in_days"),
        ({"name": "x", "scopes": ["ingest"], "expires": 1}, "expires"),
    ],
)
async def test_a_key_that_cannot_be_made(site: Site, body: dict[str, Any], field: str) -> None:
    answer = await site.ask(await site.key("admin"), "POST", KEYS, json=body)
    assert (answer.status_code, answer.json()["field"]) == (422, field)


async def test_a_bound_key_sees_its_experiments_alone_through_mlflow(site: Site) -> None:
    """What is somebody else's is answered as what does not exist."""
    red = await site.key("read", "write", experiments=[site.red])
    api = "/api/2.0/mlflow/experiments"
    for body in ({}, {"filter": "name LIKE '%'"}, {"filter": f"experiment_id IN ('{site.blue}', '{site.red}')"}):
        found = (await site.ask(red, "POST", f"{api}/search", json=body)).json()["experiments"]
        assert [experiment["name"] for experiment in found] == ["red"]
    assert (await site.ask(red, "GET", f"{api}/get", params={"experiment_id": site.red})).status_code == 200
    for number in (site.blue, 999_999):
        named = {"experiment_id": str(number)}
        answers = [
            await site.ask(red, "GET", f"{api}/get", params=named),
            await site.ask(red, "POST", f"{api}/update", json={**named, "new_name": "stolen"}),
            await site.ask(red, "POST", f"{api}/delete", json=named),
            await site.ask(red, "POST", f"{api}/restore", json=named),
            await site.ask(red, "POST", f"{api}/set-experiment-tag", json={**named, "key": "a", "value": "b"}),
            await site.ask(red, "POST", f"{api}/delete-experiment-tag", json={**named, "key": "a"}),
        ]
        for answer in answers:
            assert (answer.status_code, answer.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
            assert answer.json()["message"] == f"No Experiment with id={number} exists"
    for name in ("blue", "none"):
        answer = await site.ask(red, "GET", f"{api}/get-by-name", params={"experiment_name": name})
        assert (answer.status_code, answer.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert (await site.ask(red, "POST", f"{api}/create", json={"name": "mine"})).status_code == 403
    blue = await site.running.collector.experiments.get(site.blue)
    assert (blue.name, blue.lifecycle_stage, blue.tags) == ("blue", "active", {})


async def test_a_bound_key_and_traces(site: Site) -> None:
    red = await site.key("read", "write", experiments=[site.red])
    api = "/api/3.0/mlflow/traces"
    ids = {trace: f"tr-{trace:032x}" for trace in (RED, BLUE, SHARED)}

    def assessed(answer: httpx.Response) -> list[str]:
        return [each["assessment_name"] for each in answer.json()["trace"]["trace_info"]["assessments"]]

    for trace, status in ((RED, 200), (SHARED, 200), (BLUE, 404)):
        info = await site.ask(red, "GET", f"{api}/{ids[trace]}")
        whole = await site.ask(red, "GET", f"{api}/get", params={"trace_id": ids[trace]})
        assert (info.status_code, whole.status_code) == (status, status)
        if status == 200:
            assert assessed(info) == assessed(whole) == ["by red"]
            assert [span["name"] for span in whole.json()["trace"]["spans"]] == ["of red"]
    params = [("trace_ids", each) for each in ids.values()]
    batch = (await site.ask(red, "GET", f"{api}/batchGet", params=params)).json()["traces"]
    infos = (await site.ask(red, "POST", f"{api}/batchGetInfos", json={"trace_ids": list(ids.values())})).json()
    for found in ([each["trace_info"] for each in batch], infos["trace_infos"]):
        assert {each["trace_id"] for each in found} == {ids[RED], ids[SHARED]}
        assert {each["assessment_name"] for info in found for each in info["assessments"]} == {"by red"}

    own, foreign = site.assessments[f"{SHARED} red"], site.assessments[f"{SHARED} blue"]
    path = f"{api}/{ids[SHARED]}/assessments"
    change = {"assessment": {"rationale": "mine"}, "update_mask": "rationale"}
    assert (await site.ask(red, "GET", f"{path}/{own}")).status_code == 200
    assert (await site.ask(red, "GET", f"{path}/{foreign}")).status_code == 404
    assert (await site.ask(red, "PATCH", f"{path}/{foreign}", json=change)).status_code == 404
    await site.ask(red, "DELETE", f"{path}/{foreign}")
    kept = await site.running.collector.assessments.get(f"{SHARED:032x}", foreign)
    assert kept.rationale == ""
    feedback = {"assessment_name": "new", "source": {"source_type": "HUMAN"}, "feedback": {"value": 1}}
    assert (
        await site.ask(red, "POST", f"{api}/{ids[BLUE]}/assessments", json={"assessment": feedback})
    ).status_code == 404
    made = await site.ask(red, "POST", path, json={"assessment": feedback})
    stored = await site.running.collector.assessments.get(f"{SHARED:032x}", made.json()["assessment"]["assessment_id"])
    assert stored.experiment_id == site.red
    await site.running.collector.assessments.delete(f"{SHARED:032x}", stored.assessment_id)


async def test_a_bound_key_and_pages(site: Site) -> None:
    red = await site.key("read", experiments=[site.red])
    everything, listed = await site.ask(await site.key("read"), "GET", "/"), await site.ask(red, "GET", "/")
    assert f"/experiments/{site.red}" in listed.text
    assert f"/experiments/{site.blue}" in everything.text
    assert f"/experiments/{site.blue}" not in listed.text
    for trace, experiment, status in (
        (RED, site.red, 200),
        (SHARED, site.red, 200),
        (BLUE, site.blue, 404),
        (SHARED, site.blue, 404),
        (BLUE, site.red, 404),
    ):
        span = f"/experiments/{experiment}/traces/{trace:032x}/spans/{trace:016x}"
        paths = [span, f"{span}?part=detail", span.rpartition("/spans")[0]]
        if status == 404 and experiment == site.blue:
            paths += [f"/experiments/{experiment}", f"/experiments/{experiment}/sessions"]
        for path in paths:
            answer = await site.ask(red, "GET", path)
            assert (answer.status_code, "by blue" in answer.text) == (status, False), path
    assert (await site.ask(red, "GET", f"/traces/{BLUE:032x}")).status_code == 404
    moved = await site.ask(red, "GET", f"/traces/{SHARED:032x}")
    assert moved.headers["location"] == f"/experiments/{site.red}/traces/{SHARED:032x}"


async def test_what_concerns_all_experiments_is_refused_to_a_bound_key(site: Site) -> None:
    red = await site.key("read", "write", experiments=[site.red])
    for method, path in (("GET", "/api/v1/scorers"), ("POST", "/api/v1/scorers"), ("GET", "/metrics"), ("GET", "/new")):
        answer = await site.ask(red, method, path)
        assert (answer.status_code, "bound to some" in answer.text) == (403, True)
    async with httpx.AsyncClient(headers=red) as http:
        answer = await http.get(site.running.sql_url, params={"query": "SELECT 1"})
    assert answer.status_code == 403
    assert answer.text.startswith("Code: 497. DB::Exception: ") and "bound to some" in answer.text


async def test_sql(site: Site) -> None:
    token = (await site.key("read"))["authorization"].removeprefix("Bearer ")
    ingest = (await site.key("ingest"))["authorization"].removeprefix("Bearer ")
    basic = base64.b64encode(f"default:{token}".encode()).decode()
    ways: list[tuple[dict[str, str], dict[str, str]]] = [
        ({"x-clickhouse-user": "default", "x-clickhouse-key": token}, {}),
        ({"x-clickhouse-user": token}, {}),
        ({"authorization": f"Basic {basic}"}, {}),
        (bearer(token), {}),
        ({"x-api-key": token}, {}),
        ({}, {"user": "default", "password": token}),
    ]
    async with httpx.AsyncClient() as http:
        for headers, params in ways:
            answer = await http.get(site.running.sql_url, params={"query": "SELECT 1", **params}, headers=headers)
            assert (answer.status_code, answer.text) == (200, "1\n"), (headers, params)
        none = await http.post(site.running.sql_url, content="SELECT 1")
        wrong = await http.get(site.running.sql_url, params={"query": "SELECT 1", "password": "x", "user": "default"})
        scope = await http.get(site.running.sql_url, params={"query": "SELECT 1"}, headers=bearer(ingest))
        ping = await http.get(f"{site.running.sql_url}/ping")
    assert (none.status_code, none.headers["x-clickhouse-exception-code"]) == (401, "194")
    assert none.text.startswith("Code: 194. DB::Exception: An API key is needed")
    assert (wrong.status_code, wrong.headers["x-clickhouse-exception-code"]) == (401, "516")
    assert "www-authenticate" in wrong.headers
    assert (scope.status_code, scope.headers["x-clickhouse-exception-code"]) == (403, "497")
    assert (ping.status_code, ping.text) == (200, "Ok.\n")


async def test_clickhouse_s_own_client(site: Site) -> None:
    token = (await site.key("read"))["authorization"].removeprefix("Bearer ")
    parts = urlsplit(site.running.sql_url)

    def count(password: str) -> int:
        client = clickhouse_connect.get_client(
            host=parts.hostname or "",
            port=parts.port or 0,
            username="grafana",
            password=password,
            database=site.running.columnar.database,
        )
        return int(client.query("SELECT count() FROM spans").first_row[0])

    assert await asyncio.to_thread(count, token) == 4
    with pytest.raises(DatabaseError, match="not an API key"):
        await asyncio.to_thread(count, "secret")


async def test_mlflow_s_own_client(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    token = (await site.key("read", "write", experiments=[site.red]))["authorization"].removeprefix("Bearer ")

    def names() -> list[str]:
        return [each.name for each in MlflowClient(site.running.url).search_experiments()]

    with pytest.raises(MlflowException):
        await asyncio.to_thread(names)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", token)
    assert await asyncio.to_thread(names) == ["red"]
    monkeypatch.delenv("MLFLOW_TRACKING_TOKEN")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "anyone")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", token)
    assert await asyncio.to_thread(names) == ["red"]
    mlflow.set_tracking_uri(None)


async def test_the_gate_of_a_running_collector_follows_postgres(site: Site) -> None:
    headers = await site.key("read")
    assert (await site.ask(headers, "GET", "/version")).status_code == 200
    await KeyStore(site.pool).revoke(keys.key_id_of(headers["authorization"].removeprefix("Bearer ")))
    async with asyncio.timeout(5):
        while (await site.ask(headers, "GET", "/version")).status_code != 401:
            await asyncio.sleep(0.1)
