"""A read whose wait for what was acknowledged ends in vain says so: it never claims that something does not exist."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from support.faulty_columnar import FaultyColumnar
from support.load import Here, grpc_sender, requests
from support.running import running
from tracestone.collector.ingest import backoff
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool

UNKNOWN = "9" * 32
API = "/api/3.0/mlflow/traces"


@pytest_asyncio.fixture
async def faulty(columnar: Columnar) -> AsyncIterator[FaultyColumnar]:
    """A store that can be read while it takes no inserts."""
    store = FaultyColumnar(columnar.url, database=columnar.database)
    await store.open()
    yield store
    await store.close()


async def test_not_found_is_said_only_when_it_is_certain(
    pool: Pool, faulty: FaultyColumnar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backoff, "_FIRST_SECONDS", 0.02)
    monkeypatch.setattr(backoff, "_LAST_SECONDS", 0.1)
    early, late = next(requests(1, traces=1)), next(requests(2, traces=1))
    known, waiting = early.spans[0].trace_id.hex(), late.spans[0].trace_id.hex()
    async with running(pool, faulty, tmp_path, read_wait_ms=200) as here:
        async with httpx.AsyncClient(base_url=here.url, follow_redirects=True) as http:
            send, close = grpc_sender(Here(here))
            await send(early.data)
            assert (await _settled(http, known)).status_code == 200
            faulty.away = True
            await send(late.data)
            for trace_id in (waiting, UNKNOWN):
                answer = await http.get(f"{API}/{trace_id}")
                assert answer.status_code == 503
                assert answer.json()["error_code"] == "TEMPORARILY_UNAVAILABLE"
                assert int(answer.headers["retry-after"]) >= 1
                page = await http.get(f"/traces/{trace_id}")
                assert page.status_code == 503
                assert "still on its way" in page.text
            for path in (f"{API}/{known}", f"/traces/{known}"):
                answer = await http.get(path)
                assert (answer.status_code, answer.headers.get("tracestone-behind")) == (200, "1"), path
            answer = await http.post(f"{API}/batchGetInfos", json={"trace_ids": [known, waiting]})
            assert (len(answer.json()["trace_infos"]), answer.headers["tracestone-behind"]) == (1, "1")
            assert (await http.get(f"{API}/no-id")).status_code == 404
            faulty.away = False
            assert (await _settled(http, waiting)).status_code == 200
            assert (await _settled(http, UNKNOWN)).status_code == 404
            await close()


async def _settled(http: httpx.AsyncClient, trace_id: str) -> httpx.Response:
    """The answer as soon as it is one of a store that is not behind."""
    async with asyncio.timeout(30):
        while True:
            answer = await http.get(f"{API}/{trace_id}")
            if answer.status_code != 503 and "tracestone-behind" not in answer.headers:
                return answer
