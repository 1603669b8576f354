"""Experiments over HTTP, as MLflow's client and pages call them."""

from typing import Any

import httpx
import pytest

from support.mlflow_server import refused

BASE = "/api/2.0/mlflow/experiments"


async def created(api: httpx.AsyncClient, name: str, **fields: Any) -> str:
    answer = await api.post(f"{BASE}/create", json={"name": name, **fields})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["experiment_id"])


async def test_shape_of_an_experiment(api: httpx.AsyncClient) -> None:
    experiment_id = await created(api, "checkout", tags=[{"key": "team", "value": "a"}])
    found = (await api.get(f"{BASE}/get", params={"experiment_id": experiment_id})).json()["experiment"]
    times = found.pop("creation_time"), found.pop("last_update_time")
    assert times[0] == times[1] > 1_600_000_000_000
    assert found == {
        "experiment_id": experiment_id,
        "name": "checkout",
        "artifact_location": f"mlflow-artifacts:/{experiment_id}",
        "lifecycle_stage": "active",
        "tags": [{"key": "team", "value": "a"}],
    }


@pytest.mark.parametrize("prefix", ["/api", "/ajax-api"])
async def test_both_prefixes(shared_api: httpx.AsyncClient, prefix: str) -> None:
    answer = await shared_api.get(f"{prefix}/2.0/mlflow/experiments/get", params={"experiment_id": "0"})
    assert answer.json()["experiment"]["name"] == "Default"


async def test_pages_of_a_search(api: httpx.AsyncClient) -> None:
    for number in range(5):
        await created(api, f"e{number}")
    question: dict[str, Any] = {"max_results": 2, "order_by": ["name DESC"], "filter": "name LIKE 'e%'"}
    names: list[str] = []
    while True:
        answer = (await api.post(f"{BASE}/search", json=question)).json()
        names += [found["name"] for found in answer["experiments"]]
        if "next_page_token" not in answer:
            break
        question["page_token"] = answer["next_page_token"]
    assert names == ["e4", "e3", "e2", "e1", "e0"]


async def test_search_with_get(api: httpx.AsyncClient) -> None:
    await created(api, "b")
    await created(api, "a")
    query = {"max_results": "10", "order_by": ["name", "experiment_id DESC"], "view_type": "ALL"}
    answer = await api.get(f"{BASE}/search", params=query)
    assert [found["name"] for found in answer.json()["experiments"]] == ["Default", "a", "b"]


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ({"max_results": 0}, "max_results"),
        ({"max_results": 50_001}, "max_results"),
        ({"max_results": "many"}, "max_results"),
        ({"max_results": 1.5}, "max_results"),
        ({"max_results": True}, "max_results"),
        ({"page_token": "zzz"}, "page_token"),
        ({"page_token": "W10="}, "page_token"),
        ({"page_token": "eyJvZmZzZXQiOiAtMX0="}, "page_token"),
        ({"order_by": ["colour"]}, "order_by"),
        ({"order_by": ["name UP"]}, "order_by"),
        ({"order_by": "name"}, "order_by"),
        ({"order_by": ["name"] * 4}, "order_by"),
        ({"view_type": "SOME"}, "view_type"),
        ({"filter": "colour = 'red'"}, "colour"),
        ({"filter": "metrics.a = 1"}, "metrics.a"),
        ({"filter": "name > 'a'"}, "name"),
        ({"filter": "name = 1"}, "name"),
        ({"filter": "creation_time = 'a'"}, "creation_time"),
        ({"filter": "creation_time LIKE 'a'"}, "creation_time"),
        ({"filter": "tags.k IN ('a')"}, "IN"),
        ({"filter": "name IS NULL"}, "IS NULL"),
        ({"filter": ["name"]}, "filter"),
    ],
)
async def test_bad_search_names_the_field(shared_api: httpx.AsyncClient, question: dict[str, Any], words: str) -> None:
    refused(await shared_api.post(f"{BASE}/search", json=question), 400, "INVALID_PARAMETER_VALUE", words)


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "words"),
    [
        ("create", {}, 400, "INVALID_PARAMETER_VALUE", "name"),
        ("create", {"name": 5}, 400, "INVALID_PARAMETER_VALUE", "name"),
        ("create", {"name": "x" * 501}, 400, "INVALID_PARAMETER_VALUE", "name"),
        ("create", {"name": "Default"}, 400, "RESOURCE_ALREADY_EXISTS", "Default"),
        ("create", {"name": "x", "tags": [{"value": "v"}]}, 400, "INVALID_PARAMETER_VALUE", "tags.key"),
        ("create", {"name": "x", "tags": {"k": "v"}}, 400, "INVALID_PARAMETER_VALUE", "tags"),
        ("update", {"experiment_id": "0"}, 400, "INVALID_PARAMETER_VALUE", "new_name"),
        ("update", {"new_name": "x"}, 400, "INVALID_PARAMETER_VALUE", "experiment_id"),
        ("update", {"experiment_id": "77", "new_name": "x"}, 404, "RESOURCE_DOES_NOT_EXIST", "77"),
        ("delete", {"experiment_id": "0"}, 400, "INVALID_PARAMETER_VALUE", "Default"),
        ("delete", {"experiment_id": "abc"}, 400, "INVALID_PARAMETER_VALUE", "experiment_id"),
        ("delete", {"experiment_id": "99999999999"}, 400, "INVALID_PARAMETER_VALUE", "experiment_id"),
        ("restore", {"experiment_id": "0"}, 404, "RESOURCE_DOES_NOT_EXIST", "0"),
        ("set-experiment-tag", {"experiment_id": "0"}, 400, "INVALID_PARAMETER_VALUE", "key"),
        ("delete-experiment-tag", {"experiment_id": "0", "key": "k"}, 404, "RESOURCE_DOES_NOT_EXIST", "k"),
    ],
)
async def test_refusals(
    shared_api: httpx.AsyncClient, path: str, body: dict[str, Any], status: int, code: str, words: str
) -> None:
    refused(await shared_api.post(f"{BASE}/{path}", json=body), status, code, words)


async def test_unknown_experiment_by_name(shared_api: httpx.AsyncClient) -> None:
    answer = await shared_api.get(f"{BASE}/get-by-name", params={"experiment_name": "no such"})
    refused(answer, 404, "RESOURCE_DOES_NOT_EXIST", "no such")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "not valid JSON"),
        (b"[]", "JSON object"),
        (b'{"name": NaN}', "not valid JSON"),
        (b'{"name": 1e999}', "number"),
        (b'{"name": "a\\u0000"}', "U+0000"),
        (b'{"name": "\\ud800"}', "surrogate"),
        (b'{"name": ' + b"[" * 5000 + b"]" * 5000 + b"}", ""),
        (b'{"name": ' + b"[" * 200 + b"]" * 200 + b"}", "nested"),
        (b'{"name": "\xff"}', "not valid JSON"),
        (b'{"name": ' + b"9" * 5000 + b"}", ""),
    ],
)
async def test_body_that_cannot_be_read(shared_api: httpx.AsyncClient, body: bytes, words: str) -> None:
    refused(await shared_api.post(f"{BASE}/create", content=body), 400, "INVALID_PARAMETER_VALUE", words)


async def test_query_that_cannot_be_stored(shared_api: httpx.AsyncClient) -> None:
    answer = await shared_api.get(f"{BASE}/get-by-name?experiment_name=a%00b")
    refused(answer, 400, "INVALID_PARAMETER_VALUE", "U+0000")
    answer = await shared_api.get(f"{BASE}/get-by-name", params={"experiment_name": "x" * 20_001})
    refused(answer, 400, "INVALID_PARAMETER_VALUE", "experiment_name")


async def test_body_over_the_limit(shared_api: httpx.AsyncClient) -> None:
    answer = await shared_api.post(f"{BASE}/create", content=b"x" * (4 * 1024 * 1024 + 1))
    refused(answer, 413, "INVALID_PARAMETER_VALUE", "4194304")


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", ["/api/2.0/mlflow/runs/create", "/ajax-api/3.0/nothing", "/api/"])
async def test_unknown_endpoint(shared_api: httpx.AsyncClient, method: str, path: str) -> None:
    refused(await shared_api.request(method, path), 404, "ENDPOINT_NOT_FOUND", method, path)


async def test_version(shared_api: httpx.AsyncClient) -> None:
    answer = await shared_api.get("/version")
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.text == "3.17.2"


async def test_postgres_away(api: httpx.AsyncClient, pool: Any) -> None:
    await pool.close()
    answer = await api.get(f"{BASE}/get", params={"experiment_id": "0"})
    refused(answer, 503, "TEMPORARILY_UNAVAILABLE")
    assert int(answer.headers["retry-after"]) >= 1
