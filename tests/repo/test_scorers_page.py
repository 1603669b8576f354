"""docs/scorers.md: its examples are defined, and it names every kind, parameter and error code."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tracestone.schema.scorers.builtin import BUILTINS
from tracestone.schema.scorers.definition import MODELS, define
from tracestone.schema.scorers.third_party import METRICS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/scorers.md").read_text(encoding="utf-8")
EXAMPLES = [item for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) for item in yaml.safe_load(block)]
ROWS = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE, re.MULTILINE))
JUDGES = (ROOT / "docs/judges.md").read_text(encoding="utf-8")
# Described in judges.md.
ELSEWHERE = {"judge", "builtin_judge"}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: str(example.get("name")))
def test_an_example_is_a_valid_definition(example: dict[str, Any]) -> None:
    assert set(example) == {"name", "kind", "parameters"}
    assert define(**example).kind == example["kind"]


def test_every_kind_has_an_example_and_a_row() -> None:
    assert {example["kind"] for example in EXAMPLES} == set(MODELS)
    assert set(MODELS) <= set(ROWS)


@pytest.mark.parametrize("kind", sorted(set(MODELS) - ELSEWHERE))
def test_a_row_names_every_parameter(kind: str) -> None:
    named = set(re.findall(r"`(\w+)`", ROWS[kind].split(" | ")[0]))
    assert set(MODELS[kind].model_fields) - named == set()


def test_the_page_names_every_error_of_a_heuristic() -> None:
    folder = ROOT / "scoring/tracestone/scoring/scorers"
    paths = [path for part in ("scorers", "code", "third_party") for path in (folder.parent / part).rglob("*.py")]
    code = "\n".join(path.read_text(encoding="utf-8") for path in paths)
    raised = set(re.findall(r'(?:nothing|AttemptFailed)\(\s*"([A-Z_]+)"', code))
    raised |= set(re.findall(r'"code": "([A-Z_]+)"', code))
    assert len(raised) >= 20
    assert {code for code in raised if f"`{code}`" not in PAGE} == set()


def test_the_page_names_every_metric_of_another_library() -> None:
    rows = {
        library: next(line for line in PAGE.splitlines() if f"tracestone[{library}]" in line) for library in METRICS
    }
    for library, metrics in METRICS.items():
        named = set(re.findall(r"`([A-Z]\w+)`", rows[library]))
        assert named == set(metrics), library
        required = {name for metric in metrics.values() for name in metric.requires}
        assert set(re.findall(r"\(`(\w+)`\)", rows[library])) == required


def test_the_judges_page_defines_its_examples_and_names_every_parameter_and_judge() -> None:
    examples = [item for block in re.findall(r"```yaml\n(.*?)```", JUDGES, re.DOTALL) for item in yaml.safe_load(block)]
    assert {define(**example).kind for example in examples} == ELSEWHERE
    named = set(re.findall(r"`(\w+)`", JUDGES))
    parameters = {name for kind in ELSEWHERE for name in MODELS[kind].model_fields}
    assert (parameters | set(BUILTINS)) - named == set()
