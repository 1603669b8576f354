"""Traces over HTTP. What MLflow's client reads is in tests/conformance."""

from dataclasses import replace

import httpx
import pytest

from support.mlflow_server import StoredTrace, mlflow_server, real_deps, refused, store_trace
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.stores import spans

BASE = "/api/3.0/mlflow/traces"
UNKNOWN = "9" * 32


async def test_every_read_waits_for_what_was_acknowledged(pool: Pool, columnar: Columnar) -> None:
    waits: list[StoredTrace] = []

    async def barrier() -> None:
        waits.append(await store_trace(columnar))

    deps = replace(real_deps(pool, columnar), barrier=barrier)
    async with mlflow_server(deps) as url, httpx.AsyncClient(base_url=url, timeout=60) as api:
        await api.get(f"{BASE}/{UNKNOWN}")
        await api.get(f"{BASE}/get", params={"trace_id": UNKNOWN})
        await api.get(f"{BASE}/batchGet", params={"trace_ids": [UNKNOWN]})
        await api.post(f"{BASE}/batchGetInfos", json={"trace_ids": [UNKNOWN]})
        assert len(waits) == 4
        answer = await api.get(f"{BASE}/{waits[0].trace_id}")
        assert answer.json()["trace"]["trace_info"]["trace_id"] == f"tr-{waits[0].trace_id}"


@pytest.mark.parametrize("trace_id", [UNKNOWN, f"tr-{UNKNOWN}", "tr-xyz", "search"])
async def test_unknown_trace(shared_api: httpx.AsyncClient, trace_id: str) -> None:
    refused(await shared_api.get(f"{BASE}/{trace_id}"), 404, "RESOURCE_DOES_NOT_EXIST", trace_id)
    answer = await shared_api.get(f"{BASE}/get", params={"trace_id": trace_id})
    refused(answer, 404, "RESOURCE_DOES_NOT_EXIST", trace_id)


async def test_get_needs_an_id(shared_api: httpx.AsyncClient) -> None:
    refused(await shared_api.get(f"{BASE}/get"), 400, "INVALID_PARAMETER_VALUE", "trace_id")


async def test_batch_leaves_out_what_is_unknown(shared_api: httpx.AsyncClient, shared_trace: StoredTrace) -> None:
    ids = [UNKNOWN, shared_trace.trace_id, f"tr-{shared_trace.trace_id}"]
    answer = await shared_api.get(f"{BASE}/batchGet", params={"trace_ids": ids})
    (trace,) = answer.json()["traces"]
    assert len(trace["spans"]) == 3
    infos = await shared_api.post(f"{BASE}/batchGetInfos", json={"trace_ids": ids})
    assert infos.json()["trace_infos"] == [trace["trace_info"]]


@pytest.mark.parametrize(("experiments", "found"), [(["0"], 1), (["1"], 0), (["1", "0"], 1)])
async def test_batch_of_some_experiments(
    shared_api: httpx.AsyncClient, shared_trace: StoredTrace, experiments: list[str], found: int
) -> None:
    question = {"trace_ids": [shared_trace.trace_id], "experiment_ids": experiments}
    answer = await shared_api.post(f"{BASE}/batchGetInfos", json=question)
    assert len(answer.json()["trace_infos"]) == found


async def test_batch_is_bounded(shared_api: httpx.AsyncClient) -> None:
    ids = [f"{number:032x}" for number in range(101)]
    answer = await shared_api.post(f"{BASE}/batchGetInfos", json={"trace_ids": ids})
    refused(answer, 400, "INVALID_PARAMETER_VALUE", "trace_ids")


async def test_batch_of_bad_experiments(shared_api: httpx.AsyncClient) -> None:
    answer = await shared_api.post(f"{BASE}/batchGetInfos", json={"trace_ids": [UNKNOWN], "experiment_ids": ["x"]})
    refused(answer, 400, "INVALID_PARAMETER_VALUE", "experiment_ids")


async def test_a_trace_of_too_many_spans_is_refused_not_cut(
    shared_api: httpx.AsyncClient, shared_trace: StoredTrace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spans, "MAX_SPANS", 2)
    whole = f"{BASE}/get", {"trace_id": shared_trace.trace_id}
    batch = f"{BASE}/batchGet", {"trace_ids": [shared_trace.trace_id]}
    for path, question in (whole, batch):
        refused(await shared_api.get(path, params=question), 413, "INVALID_PARAMETER_VALUE", "3 spans, of which 2")
    monkeypatch.setattr(spans, "MAX_SPANS", 3)
    assert (await shared_api.get(whole[0], params=whole[1])).status_code == 200
