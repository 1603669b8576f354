"""Ensembles: how verdicts of members become one, and what happens when members fail."""

from typing import Any

import pytest

from support.heuristics import said
from tracestone.schema.errors import MissingExtra, NotFound
from tracestone.schema.scorers.ensembles import Ensemble
from tracestone.schema.stores.jobs import Usage
from tracestone.scoring.scorers.ensemble import EnsembleScorer
from tracestone.scoring.scorers.protocol import AttemptFailed, Outcome, Subject, TargetScorer

SUBJECT = said("The answer")
COST = Usage(1, 0.01, 10, 2)


class Fixed:
    """A member that always says the same."""

    source_type = "LLM_JUDGE"
    source_id = "fixed"
    retries = 0

    def __init__(self, says: Any) -> None:
        self._says = says

    async def score(self, subject: Subject) -> Outcome:
        assert subject is SUBJECT
        if isinstance(self._says, BaseException):
            raise self._says
        return Outcome(self.source_type, self.source_id, self._says, f"I say {self._says}", usage=COST)


def failing(code: str = "NO_OUTPUT", *, retryable: bool = False, retry_after: float | None = None) -> AttemptFailed:
    return AttemptFailed(code, "no", retryable=retryable, retry_after=retry_after, usage=COST)


def ensemble(combine: Any, says: list[Any], quorum: int | None = None) -> EnsembleScorer:
    members = {f"m{number}": Fixed(each) for number, each in enumerate(says, 1)}

    async def find(name: str, version: int) -> TargetScorer:
        if version != 1:
            raise NotFound(f"there is no version {version} of {name}")
        return members[name]

    named: Any = tuple({"name": name, "version": 1} for name in members)
    return EnsembleScorer(Ensemble(combine=combine, members=named, quorum=quorum), find)


LOST = failing()


@pytest.mark.parametrize(
    ("combine", "says", "quorum", "value"),
    [
        ("majority", [True, True, False], None, True),
        ("majority", ["good", "bad", "good"], None, "good"),
        ("majority", ["yes", "yes", LOST], None, "yes"),
        ("majority", [1, 1, 2, LOST, LOST], 3, 1),
        ("mean", [1, 2, 6], None, 3.0),
        ("mean", [True, False], None, 0.5),
        ("mean", ["yes", "no", "yes", "yes"], None, 0.75),
        ("mean", [1, 3, LOST], 2, 2.0),
        ("min", [3, 1.5, 2], None, 1.5),
        ("max", [3, 1.5, 2], None, 3.0),
        ("all", [True, "yes", 1], None, True),
        ("all", [True, False], None, False),
        ("all", [LOST, False, LOST], None, False),
        ("all", [True, True, LOST], 2, True),
        ("any", [False, "no", 0], None, False),
        ("any", [False, True], None, True),
        ("any", [LOST, True, LOST], None, True),
        ("any", [False, False, LOST], 2, False),
    ],
)
async def test_verdicts_are_combined(combine: str, says: list[Any], quorum: int | None, value: Any) -> None:
    outcome = await ensemble(combine, says, quorum).score(SUBJECT)
    assert outcome.value == value
    assert type(outcome.value) is type(value)
    assert (outcome.source_type, outcome.source_id) == ("CODE", f"ensemble/{combine}")
    assert outcome.usage.calls == len(says)


@pytest.mark.parametrize(
    ("combine", "says", "quorum", "code"),
    [
        ("majority", [True, False], None, "NO_MAJORITY"),
        ("majority", ["a", "b", "c"], None, "NO_MAJORITY"),
        ("majority", [True, True, LOST, LOST], None, "MEMBER_FAILED"),
        ("mean", [1, 3, LOST], None, "MEMBER_FAILED"),
        ("mean", [1, LOST, LOST], 2, "MEMBER_FAILED"),
        ("min", [1, LOST], None, "MEMBER_FAILED"),
        ("all", [True, True, LOST], None, "MEMBER_FAILED"),
        ("any", [False, LOST], None, "MEMBER_FAILED"),
        ("mean", [1, "good"], None, "BAD_VALUE"),
        ("all", [True, 0.5], None, "BAD_VALUE"),
        ("any", [False, "maybe"], None, "BAD_VALUE"),
        ("mean", [1, MissingExtra("litellm", "judge")], None, "MEMBER_FAILED"),
        ("mean", [LOST, LOST], None, "MEMBER_FAILED"),
    ],
)
async def test_what_does_not_decide_is_an_error(combine: str, says: list[Any], quorum: int | None, code: str) -> None:
    with pytest.raises(AttemptFailed) as failed:
        await ensemble(combine, says, quorum).score(SUBJECT)
    assert (failed.value.code, failed.value.retryable) == (code, False)
    paid = sum(not isinstance(each, MissingExtra) for each in says)
    assert (failed.value.usage.calls, failed.value.usage.input_tokens) == (paid, 10 * paid)


async def test_the_metadata_holds_every_members_verdict() -> None:
    outcome = await ensemble("any", [True, "no", LOST]).score(SUBJECT)
    assert outcome.metadata == {"member m1 v1": "true", "member m2 v1": "no", "member m3 v1": "error NO_OUTPUT: no"}
    assert outcome.rationale.splitlines()[0] == "m1 v1: true (I say True)"
    assert outcome.usage == Usage(3, pytest.approx(0.03), 30, 6)


async def test_long_verdicts_do_not_fill_the_metadata() -> None:
    outcome = await ensemble("majority", ["x" * 200_000] * 20).score(SUBJECT)
    assert sum(map(len, outcome.metadata.values())) < 20_000
    assert len(outcome.rationale) < 30_000


async def test_a_member_that_may_succeed_later_makes_the_ensemble_wait() -> None:
    limited = [True, failing("RATE_LIMITED", retryable=True, retry_after=7), failing("TIMEOUT", retryable=True)]
    with pytest.raises(AttemptFailed) as failed:
        await ensemble("all", limited).score(SUBJECT)
    assert (failed.value.code, failed.value.retryable, failed.value.retry_after) == ("MEMBER_FAILED", True, 7)
    assert "RATE_LIMITED" in failed.value.message
    assert ensemble("all", [1, 1]).retries > 0


async def test_what_is_no_failure_of_a_member_goes_on_up() -> None:
    """A budget that is spent, say: the job waits."""
    with pytest.raises(ZeroDivisionError):
        await ensemble("any", [ZeroDivisionError(), True]).score(SUBJECT)


async def test_a_member_that_is_gone_is_told() -> None:
    async def find(name: str, version: int) -> TargetScorer:
        raise NotFound(f"there is no scorer {name}")

    members: Any = ({"name": "a", "version": 1}, {"name": "b", "version": 1})
    with pytest.raises(AttemptFailed) as failed:
        await EnsembleScorer(Ensemble(combine="any", members=members), find).score(SUBJECT)
    assert "SCORER_NOT_FOUND: there is no scorer a" in failed.value.message
