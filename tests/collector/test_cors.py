"""Browser exporters: preflights without a key, and answers that their pages may read, errors too."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from support.api_keys import bearer, new_key
from support.engines import fresh_stores
from support.running import Running, running
from tracestone.collector.cors import OtlpCors
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.errors import StartRefused

ORIGINS = ["https://app.example", "https://*.shop.example:8443", "http://localhost:*"]
ALLOWED = [
    "https://app.example",
    "https://eu.shop.example:8443",
    "https://a.b.shop.example:8443",
    "http://localhost:3000",
]
REFUSED = [
    "https://app.example.evil.example",
    "https://evil-app.example",
    "http://app.example",
    "https://app.example:444",
    "https://shop.example:8443",
    "https://evil.example/.shop.example:8443",
    "https://evil.example:1.shop.example:8443",
    "null",
    "",
]
WANTED = "content-type,authorization,content-encoding,traceparent,tracestate,baggage,x-api-key,x-mlflow-experiment-id"


@pytest_asyncio.fixture(scope="module")
async def site(
    postgres_server: str, chdb_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Running, Pool]]:
    """A collector that demands keys and lets some pages send."""
    folder: Path = tmp_path_factory.mktemp("collector")
    async with (
        fresh_stores(postgres_server, chdb_url) as (pool, columnar),
        running(pool, columnar, folder, auth="on", cors_allowed_origins=ORIGINS) as collector,
    ):
        yield collector, pool


def _preflight(origin: str, headers: str = WANTED) -> dict[str, str]:
    return {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": headers,
    }


@pytest.mark.parametrize("signal", ["traces", "logs", "metrics"])
async def test_a_preflight_needs_no_key(site: tuple[Running, Pool], signal: str) -> None:
    running, _ = site
    async with httpx.AsyncClient() as browser:
        for url in (running.traces_url.removesuffix("traces") + signal, f"{running.url}/v1/{signal}"):
            for origin in ALLOWED:
                answer = await browser.options(url, headers=_preflight(origin))
                assert answer.status_code == 200
                assert answer.headers["access-control-allow-origin"] == origin
                assert answer.headers["access-control-allow-methods"] == "POST"
                assert answer.headers["access-control-allow-credentials"] == "true"
                allowed = answer.headers["access-control-allow-headers"].lower().replace(" ", "").split(",")
                assert set(WANTED.split(",")) <= set(allowed)
                assert "Origin" in answer.headers["vary"]
            for origin in REFUSED:
                answer = await browser.options(url, headers=_preflight(origin))
                assert answer.status_code == 400
                assert "access-control-allow-origin" not in answer.headers


async def test_every_answer_may_be_read_by_the_page(site: tuple[Running, Pool]) -> None:
    running, pool = site
    token = await new_key(pool, "ingest")
    origin = {"origin": ALLOWED[1]}
    async with httpx.AsyncClient(headers=origin) as browser:
        for url in (running.traces_url, f"{running.url}/v1/traces"):
            answers = [
                await browser.post(url, json={"resourceSpans": []}, headers=bearer(token)),
                await browser.post(url, json={"resourceSpans": 1}, headers=bearer(token)),
                await browser.post(url, json={}),
                await browser.post(url, content=b"x", headers=bearer(token)),
                await browser.get(url, headers=bearer(token)),
            ]
            assert [answer.status_code for answer in answers] == [200, 400, 401, 415, 405]
            for answer in answers:
                assert answer.headers["access-control-allow-origin"] == ALLOWED[1]
                assert answer.headers["access-control-allow-credentials"] == "true"
                assert answer.headers["access-control-expose-headers"] == "Retry-After"
                assert "Origin" in answer.headers["vary"]


async def test_other_pages_and_paths_are_told_nothing(site: tuple[Running, Pool]) -> None:
    running, pool = site
    token = await new_key(pool, "admin")
    async with httpx.AsyncClient(headers=bearer(token)) as browser:
        sent = await browser.post(running.traces_url, json={}, headers={"origin": "https://evil.example"})
        assert "access-control-allow-origin" not in sent.headers
        for path in ("/", "/api/v1/scorers", "/api/v1/keys"):
            read = await browser.get(f"{running.url}{path}", headers={"origin": ALLOWED[0]})
            assert read.status_code == 200
            assert not [name for name in read.headers if name.startswith("access-control")]
    async with httpx.AsyncClient() as browser:
        asked = await browser.options(f"{running.url}/api/v1/scorers", headers=_preflight(ALLOWED[0]))
        assert asked.status_code == 401


@pytest.mark.parametrize("origin", ["*", "https://*", "https://*.*", "app.example", "https://app.example/", "https://"])
def test_what_is_no_origin(origin: str) -> None:
    async def app(*_: object) -> None:
        return

    with pytest.raises(StartRefused, match="cors_allowed_origins"):
        OtlpCors(app, origins=[origin])
