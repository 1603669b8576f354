"""What a web page somewhere else makes a browser send: refused in each API's own shape, with nothing changed."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import pytest_asyncio

from support.api_keys import bearer, new_key
from support.running import Running, running
from tracestone.collector.visitors import names_of
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.settings import Settings

SCORER = {"name": "polite", "kind": "regex_match", "parameters": {"pattern": "please"}}
CREATE = "/api/2.0/mlflow/experiments/create"
FOREIGN = [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1"},
    {"Origin": "http://[nonsense"},
    {"Sec-Fetch-Site": "cross-site"},
]


@pytest_asyncio.fixture
async def site(pool: Pool, columnar: Columnar, tmp_path: Path) -> AsyncIterator[Running]:
    """A collector on loopback that also goes by the name of a proxy in front of it."""
    async with running(pool, columnar, tmp_path, allowed_hosts=["traces.example"]) as started:
        yield started


@pytest.mark.parametrize("headers", FOREIGN)
async def test_a_page_of_another_site_changes_nothing(site: Running, headers: dict[str, str]) -> None:
    async with httpx.AsyncClient(headers=headers) as browser:
        scoring = await browser.post(f"{site.url}/api/v1/scorers", json=SCORER)
        mlflow = await browser.post(f"{site.url}{CREATE}", json={"name": "stolen"})
        sql = await browser.get(site.sql_url, params={"query": "SELECT 1"})
        listed = await browser.get(f"{site.url}/api/v1/scorers")
    assert (scoring.status_code, scoring.headers["content-type"]) == (403, "application/problem+json")
    assert (mlflow.status_code, mlflow.json()["error_code"]) == (403, "PERMISSION_DENIED")
    assert sql.status_code == 403
    assert sql.text.startswith("Code: 497. DB::Exception: ") and sql.headers["X-ClickHouse-Exception-Code"] == "497"
    assert listed.json() == {"scorers": []}


@pytest.mark.parametrize("own", ["http", "proxy", "none"])
async def test_the_own_page_and_programs_are_served(site: Running, own: str) -> None:
    origins = {
        "http": {"Origin": site.url, "Sec-Fetch-Site": "same-origin"},
        "proxy": {"Origin": "https://traces.example"},
    }
    async with httpx.AsyncClient(headers=origins.get(own, {})) as browser:
        assert (await browser.post(f"{site.url}/api/v1/scorers", json=SCORER)).status_code == 201
        assert (await browser.post(f"{site.url}{CREATE}", json={"name": "mine"})).status_code == 200


async def test_a_name_made_to_point_here_is_refused(site: Running) -> None:
    async with httpx.AsyncClient(headers={"Host": "evil.example:5000"}) as browser:
        page = await browser.get(f"{site.url}/")
        scorers = await browser.get(f"{site.url}/api/v1/scorers")
        mlflow = await browser.get(f"{site.url}/api/2.0/mlflow/experiments/search")
        sql = await browser.get(site.sql_url, params={"query": "SELECT 1"})
        metrics = await browser.get(f"{site.url}/metrics")
        health = await browser.get(f"{site.url}/health")
    assert [answer.status_code for answer in (page, scorers, mlflow, sql, metrics)] == [403] * 5
    assert "allowed_hosts" in scorers.json()["detail"]
    assert (health.status_code, health.json()) == (200, {"status": "ok"})  # a probe may come by any name


@pytest.mark.parametrize("name", ["traces.example", "traces.example:5000", "10.1.2.3:5000", "[2001:db8::1]:5000"])
async def test_a_scraper_reaches_metrics_and_health_by_an_allowed_name_or_an_address(site: Running, name: str) -> None:
    async with httpx.AsyncClient(headers={"Host": name}) as scraper:
        metrics = await scraper.get(f"{site.url}/metrics")
        health = await scraper.get(f"{site.url}/health")
    assert metrics.status_code == 200 and "tracestone_build_info" in metrics.text
    assert "parts" in health.json()


async def test_a_scraper_with_a_key_reaches_them_by_any_name(site: Running, pool: Pool) -> None:
    token = bearer(await new_key(pool, "read"))
    strangers = [{"Host": "tracestone.monitoring.svc"}, {"Host": "tracestone.monitoring.svc", **bearer("ts_no_key")}]
    async with httpx.AsyncClient(headers={"Host": "tracestone.monitoring.svc", **token}) as scraper:
        async with asyncio.timeout(10):
            while not site.collector.doors.gate.demanded:
                await asyncio.sleep(0.05)
        assert (await scraper.get(f"{site.url}/metrics")).status_code == 200
        assert "parts" in (await scraper.get(f"{site.url}/health")).json()
        assert (await scraper.get(f"{site.url}/api/v1/scorers")).status_code == 403
    for headers in strangers:
        async with httpx.AsyncClient(headers=headers) as stranger:
            assert (await stranger.get(f"{site.url}/metrics")).status_code == 401
            assert (await stranger.get(f"{site.url}/health")).json() == {"status": "ok"}


async def test_the_names_of_this_process_are_served(site: Running) -> None:
    for url in (f"{site.url}/api/v1/scorers", f"{site.sql_url}/?query=SELECT+1"):
        port = urlsplit(url).port
        for name in ("localhost", f"LOCALHOST.:{port}", f"127.0.0.1:{port}", f"[::1]:{port}", "traces.example"):
            async with httpx.AsyncClient(headers={"Host": name}) as program:
                assert (await program.get(url)).status_code == 200, name


def test_beyond_loopback_every_name_is_served_until_some_are_given() -> None:
    assert names_of(Settings(host="0.0.0.0")) is None
    assert names_of(Settings(host="0.0.0.0", allowed_hosts=["a.example"])) == {"localhost", "0.0.0.0", "a.example"}
    assert names_of(Settings(host="::1")) == {"localhost", "::1"}
