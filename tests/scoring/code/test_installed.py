"""Functions of installed packages, by their entry points."""

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from support.heuristics import said, talk
from tracestone.schema.scorers.code import ARGUMENTS, Code
from tracestone.scoring.code import functions
from tracestone.scoring.code.scorer import InstalledScorer
from tracestone.scoring.scorers.protocol import AttemptFailed

SOURCE = """
import time
from mlflow.entities import AssessmentError, Feedback

def brief(outputs): return len(outputs) < 20
def turns(session): return len(session)
def mlflows(outputs): return Feedback(name="tone", value="yes", rationale="It is kind.")
def mlflows_error(): return Feedback(error=AssessmentError("NO_DATA", "nothing was said"))
def broken(outputs): return outputs.nope
def slow(): time.sleep(0.5); return True
def strange(outputs, verdicts): return True
async def later(outputs): return True
"""


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package with scorers."""
    names = ["brief", "turns", "mlflows", "mlflows_error", "broken", "slow", "strange", "later"]
    entries = "\n".join(f"{name} = our_scorers:{name}" for name in names)
    folder = tmp_path / "our_scorers-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: our-scorers\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(f"[tracestone.scorers]\n{entries}\nmissing = our_scorers:missing\n")
    (tmp_path / "our_scorers.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "our_scorers", raising=False)
    importlib.invalidate_caches()


async def score(name: str, of: Any = None, **parameters: Any) -> Any:
    scorer = InstalledScorer(Code(entry_point=name, **parameters))
    return await scorer.score(of or said("The answer"))


async def test_an_installed_function_scores() -> None:
    outcome = await score("brief")
    assert (outcome.value, outcome.source_type, outcome.source_id) == (True, "CODE", "tracestone.scorers/brief")
    assert (await score("turns", talk("a", "b", "c"))).value == 3


async def test_mlflows_own_feedback_is_understood() -> None:
    outcome = await score("mlflows")
    assert (outcome.value, outcome.rationale) == ("yes", "It is kind.")


@pytest.mark.parametrize(
    ("name", "parameters", "code", "message"),
    [
        ("nobody", {}, "ENTRY_POINT_NOT_FOUND", "no installed package has an entry point nobody"),
        ("missing", {}, "SCORER_FAILED", "cannot be loaded: AttributeError"),
        ("broken", {}, "SCORER_FAILED", "AttributeError"),
        ("mlflows_error", {}, "SCORER_FAILED", "nothing was said"),
        ("strange", {}, "SCORER_FAILED", "verdicts is none of inputs"),
        ("later", {}, "SCORER_FAILED", "async"),
        ("slow", {"timeout": 0.1}, "TIMEOUT", "more than 0.1 seconds"),
    ],
)
async def test_one_that_gives_no_verdict_says_why(
    name: str, parameters: dict[str, Any], code: str, message: str
) -> None:
    with pytest.raises(AttemptFailed) as failed:
        await score(name, **parameters)
    assert (failed.value.code, failed.value.retryable) == (code, False)
    assert message in failed.value.message


def test_both_sides_know_the_same_arguments() -> None:
    assert functions.ARGUMENTS == ARGUMENTS
