"""Every metric of ragas, deepeval and Phoenix that can be asked for, in an environment with the library, against a
local server that speaks OpenAI's protocol. Slow: the first run builds the environments.

    .venv/bin/pytest -q -m slow tests/third_party
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.openai_server import Answer, Failure, OpenAIServer, openai_server
from tracestone.schema.scorers.third_party import METRICS, Library

ROOT = Path(__file__).parents[2]
FOLDER = Path(os.environ.get("TRACESTONE_THIRD_PARTY", Path.home() / ".cache/tracestone-third-party"))
KEY = "sk-local-test-0123456789"
ARGUMENTS: dict[str, Any] = {
    "domain": "shoes",
    "advice_types": ["medical"],
    "prompt_instructions": ["Be brief."],
    "role": "a clerk of a shop",
    "chatbot_role": "a clerk of a shop",
}
EXPECTATIONS = {"expected_response": "Within thirty days."}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(params=sorted(METRICS), scope="module")
def library(request: pytest.FixtureRequest) -> Library:
    """A library that is installed in an environment of its own."""
    name: Library = request.param
    environment = FOLDER / name
    if not (environment / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        subprocess.run([environment / "bin/pip", "install", "-q", "-e", f"{ROOT}[{name}]"], check=True)
        (environment / "ready").touch()
    return name


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with openai_server(require_key=KEY) as server:
        server.answer = fitting
        yield server


def fitting(body: dict[str, Any]) -> Answer:
    """An answer of the schema that is asked for, with one item in each list."""
    schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
    return Answer("It is so.") if schema is None else Answer(json.dumps(example(schema, schema)))


def example(schema: dict[str, Any], whole: dict[str, Any], name: str = "") -> Any:
    if "$ref" in schema:
        return example(whole["$defs"][schema["$ref"].rpartition("/")[2]], whole, name)
    for choice in ("anyOf", "oneOf", "allOf"):
        if choice in schema:
            return example(schema[choice][0], whole, name)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            return {key: example(part, whole, key) for key, part in schema.get("properties", {}).items()}
        case "array":
            return [example(schema.get("items", {}), whole, name)]
        case "boolean":
            return True
        case "integer" | "number":
            return 2 if name == "rating" else max(1, schema.get("minimum", 1))
        case _:
            return "yes" if name == "verdict" else "Within thirty days."


def run(library: Library, server: OpenAIServer, asked: list[tuple[dict[str, Any], dict[str, Any]]]) -> list[Any]:
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "OPENAI_API_KEY": KEY}
    environment["PYTHONPATH"] = str(ROOT / "tests")
    answered = subprocess.run(
        [FOLDER / library / "bin/python", ROOT / "tests/third_party/program.py"],
        input=json.dumps([[parameters(library, server) | given, expected] for given, expected in asked]),
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=600,
    )
    assert answered.returncode == 0, answered.stderr[-4000:]
    told = json.loads(answered.stdout)
    assert told["called"] == ["127.0.0.1"]  # nobody is called home
    found: list[Any] = told["outcomes"]
    return found


def parameters(library: Library, server: OpenAIServer) -> dict[str, Any]:
    model = {"model": "openai/gpt-4o-mini", "embedding_model": "openai/text-embedding-3-small"}
    return {"library": library, "api_base": server.url} | model


def asking(library: Library, metric: str) -> dict[str, Any]:
    return {"metric": metric, "parameters": {name: ARGUMENTS[name] for name in METRICS[library][metric].requires}}


def test_every_metric_gives_a_score_and_what_it_cost(library: Library, server: OpenAIServer) -> None:
    metrics = list(METRICS[library])
    found = run(library, server, [(asking(library, metric), EXPECTATIONS) for metric in metrics])
    failed = {metric: outcome for metric, outcome in zip(metrics, found, strict=True) if "value" not in outcome}
    assert failed == {}
    for metric, outcome in zip(metrics, found, strict=True):
        assert isinstance(outcome["value"], float), metric
        assert outcome["source"] == ["LLM_JUDGE", f"{library}/{metric}"]
        assert outcome["metadata"]["model"] == "openai/gpt-4o-mini"
        assert outcome["calls"] > 0, metric
        assert outcome["input_tokens"] > 0, metric
    assert len(server.received) == sum(outcome["calls"] for outcome in found)


def test_bounds_make_the_score_a_bool_and_a_failure_keeps_its_code(library: Library, server: OpenAIServer) -> None:
    metric = next(iter(METRICS[library]))
    given = asking(library, metric)
    within, below = run(
        library, server, [(given | {"minimum": 0}, EXPECTATIONS), (given | {"maximum": -1}, EXPECTATIONS)]
    )
    assert (within["value"], below["value"]) == (True, False)
    server.answer = lambda body: Failure(429, "slow down")
    (limited,) = run(library, server, [(given, EXPECTATIONS)])
    assert limited["code"] == "RATE_LIMITED"
    server.answer = lambda body: Answer("not JSON at all")
    (broken,) = run(library, server, [(given, EXPECTATIONS)])
    assert (broken["code"], broken["calls"] > 0) == ("METRIC_FAILED", True)
