"""Assessments over HTTP: shapes and refusals. What MLflow's client does is in tests/conformance."""

from dataclasses import replace
from typing import Any

import httpx
import pytest

from support.mlflow_server import StoredTrace, mlflow_server, real_deps, refused, store_trace
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool

FEEDBACK: dict[str, Any] = {
    "assessment_name": "quality",
    "source": {"source_type": "HUMAN", "source_id": "ada"},
    "feedback": {"value": 0.5},
}


def path(trace_id: str, assessment_id: str = "", prefix: str = "/api") -> str:
    base = f"{prefix}/3.0/mlflow/traces/{trace_id}/assessments"
    return f"{base}/{assessment_id}" if assessment_id else base


async def create(api: httpx.AsyncClient, trace_id: str, **changes: Any) -> dict[str, Any]:
    answer = await api.post(path(trace_id), json={"assessment": {**FEEDBACK, **changes}})
    assert answer.status_code == 200, answer.text
    created: dict[str, Any] = answer.json()["assessment"]
    return created


async def test_shape_of_an_assessment(api: httpx.AsyncClient, stored_trace: StoredTrace) -> None:
    created = await create(
        api, f"tr-{stored_trace.trace_id}", create_time="2026-01-31T12:00:00.123456789Z", rationale="why"
    )
    assert created.pop("assessment_id").startswith("a-")
    assert created.pop("last_update_time") > "2026-01-31T12:00:00.123Z"
    assert created == {
        "assessment_name": "quality",
        "trace_id": f"tr-{stored_trace.trace_id}",
        "source": {"source_type": "HUMAN", "source_id": "ada"},
        "create_time": "2026-01-31T12:00:00.123Z",
        "feedback": {"value": 0.5},
        "rationale": "why",
        "metadata": {},
        "valid": True,
    }


async def test_trace_id_in_any_form(api: httpx.AsyncClient, stored_trace: StoredTrace) -> None:
    bare = stored_trace.trace_id
    created = await create(api, bare)
    for form in (bare, bare.upper(), f"tr-{bare}"):
        found = await api.get(path(form, created["assessment_id"], prefix="/ajax-api"))
        assert found.json()["assessment"]["trace_id"] == f"tr-{bare}"


@pytest.mark.parametrize("mask", ["assessmentName,feedback", "assessment_name,feedback"])
async def test_only_masked_fields_change(api: httpx.AsyncClient, stored_trace: StoredTrace, mask: str) -> None:
    created = await create(api, stored_trace.trace_id, rationale="before")
    change = {"assessment_name": "tone", "feedback": {"value": "kind"}, "rationale": "after"}
    answer = await api.patch(
        path(stored_trace.trace_id, created["assessment_id"]), json={"assessment": change, "update_mask": mask}
    )
    changed = answer.json()["assessment"]
    assert (changed["assessment_name"], changed["feedback"]) == ("tone", {"value": "kind"})
    assert changed["rationale"] == "before"


async def test_legacy_source_type(api: httpx.AsyncClient, stored_trace: StoredTrace) -> None:
    created = await create(api, stored_trace.trace_id, source={"source_type": "ai_judge"})
    assert created["source"]["source_type"] == "LLM_JUDGE"


async def test_deleting_twice(api: httpx.AsyncClient, stored_trace: StoredTrace) -> None:
    created = await create(api, stored_trace.trace_id)
    for _ in range(2):
        answer = await api.request("DELETE", path(stored_trace.trace_id, created["assessment_id"]), json={})
        assert (answer.status_code, answer.json()) == (200, {})


async def test_experiment_is_the_traces(api: httpx.AsyncClient, columnar: Columnar, pool: Pool) -> None:
    trace = await store_trace(columnar, experiment_id=7)
    await create(api, trace.trace_id)
    assert await pool.fetchval("SELECT experiment_id FROM tracestone.assessments") == 7


async def test_a_trace_still_on_its_way_is_waited_for(pool: Pool, columnar: Columnar) -> None:
    arrived: list[StoredTrace] = []

    async def barrier() -> None:
        if not arrived:
            arrived.append(await store_trace(columnar))

    trace = await store_trace(columnar)
    deps = replace(real_deps(pool, columnar), barrier=barrier)
    async with mlflow_server(deps) as url, httpx.AsyncClient(base_url=url, timeout=60) as api:
        await create(api, trace.trace_id)
        assert arrived == [], "a trace that is there is not waited for"
        await api.post(path("9" * 32), json={"assessment": FEEDBACK})
        await create(api, arrived[0].trace_id)


@pytest.mark.parametrize("trace_id", ["9" * 32, "tr-" + "9" * 32, "tr-xyz", "a" * 31, "tr-" + "0" * 33])
@pytest.mark.parametrize("method", ["POST", "GET", "PATCH", "DELETE"])
async def test_unknown_trace(shared_api: httpx.AsyncClient, method: str, trace_id: str) -> None:
    where = path(trace_id, "" if method == "POST" else "a-1")
    answer = await shared_api.request(method, where, json={"assessment": FEEDBACK, "update_mask": "feedback"})
    refused(answer, 404, "RESOURCE_DOES_NOT_EXIST", trace_id)


@pytest.mark.parametrize(
    ("assessment", "words"),
    [
        (None, "assessment"),
        ("text", "assessment"),
        ({**FEEDBACK, "feedback": None}, "exactly one"),
        ({**FEEDBACK, "expectation": {"value": 1}}, "exactly one"),
        ({**FEEDBACK, "feedback": None, "expectation": {}}, "expectation"),
        ({**FEEDBACK, "feedback": None, "issue": {"issue_name": "x"}}, "issue"),
        ({**FEEDBACK, "assessment_name": ""}, "assessment_name"),
        ({**FEEDBACK, "assessment_name": 3}, "assessment_name"),
        ({**FEEDBACK, "assessment_name": "x" * 251}, "assessment_name"),
        ({**FEEDBACK, "source": {"source_type": "ROBOT"}}, "source_type"),
        ({**FEEDBACK, "source": "me"}, "source"),
        ({**FEEDBACK, "span_id": "xyz"}, "span_id"),
        ({**FEEDBACK, "metadata": {"a": 1}}, "metadata"),
        ({**FEEDBACK, "metadata": {"a": "x" * 70_000}}, "metadata"),
        ({**FEEDBACK, "create_time": "yesterday"}, "create_time"),
        ({**FEEDBACK, "create_time": "2026-13-01T00:00:00Z"}, "create_time"),
        ({**FEEDBACK, "create_time": "2999-01-01T00:00:00Z"}, "create_time"),
        ({**FEEDBACK, "create_time": "1812-01-01T00:00:00Z"}, "create_time"),
        ({**FEEDBACK, "feedback": {"error": "broken"}}, "error"),
        (
            {**FEEDBACK, "feedback": None, "expectation": {"serialized_value": {"value": "1"}}},
            "serialization_format",
        ),
        (
            {
                **FEEDBACK,
                "feedback": None,
                "expectation": {"serialized_value": {"serialization_format": "JSON_FORMAT", "value": "{"}},
            },
            "serialized_value",
        ),
    ],
)
async def test_bad_assessment_names_the_field(
    shared_api: httpx.AsyncClient, shared_trace: StoredTrace, assessment: Any, words: str
) -> None:
    answer = await shared_api.post(path(shared_trace.trace_id), json={"assessment": assessment})
    refused(answer, 400, "INVALID_PARAMETER_VALUE", words)


async def test_overriding_something_unknown(shared_api: httpx.AsyncClient, shared_trace: StoredTrace) -> None:
    body = {"assessment": {**FEEDBACK, "overrides": "a-nothing"}}
    refused(await shared_api.post(path(shared_trace.trace_id), json=body), 404, "RESOURCE_DOES_NOT_EXIST", "a-nothing")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"update_mask": "feedback"}, "assessment"),
        ({"assessment": FEEDBACK}, "update_mask"),
        ({"assessment": FEEDBACK, "update_mask": ""}, "update_mask"),
        ({"assessment": FEEDBACK, "update_mask": ["feedback"]}, "update_mask"),
        ({"assessment": FEEDBACK, "update_mask": "valid"}, "valid"),
        ({"assessment": FEEDBACK, "update_mask": "feedback,source"}, "source"),
        ({"assessment": FEEDBACK, "update_mask": "expectation"}, "expectation"),
    ],
)
async def test_bad_update_names_the_field(
    shared_api: httpx.AsyncClient, shared_trace: StoredTrace, body: dict[str, Any], words: str
) -> None:
    answer = await shared_api.patch(path(shared_trace.trace_id, "a-1"), json=body)
    refused(answer, 400, "INVALID_PARAMETER_VALUE", words)


async def test_unknown_assessment(shared_api: httpx.AsyncClient, shared_trace: StoredTrace) -> None:
    where = path(shared_trace.trace_id, "a-nothing")
    refused(await shared_api.get(where), 404, "RESOURCE_DOES_NOT_EXIST", "a-nothing")
    change = {"assessment": FEEDBACK, "update_mask": "feedback"}
    refused(await shared_api.patch(where, json=change), 404, "RESOURCE_DOES_NOT_EXIST", "a-nothing")
