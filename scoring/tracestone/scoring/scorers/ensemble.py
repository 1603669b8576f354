"""Several scorers of one target, one verdict."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tracestone.schema.assessments import value_number, value_text
from tracestone.schema.errors import MissingExtra, NotFound
from tracestone.schema.scorers.ensembles import Ensemble, Member
from tracestone.schema.stores.jobs import Usage
from tracestone.scoring.calls import account
from tracestone.scoring.scorers.protocol import AttemptFailed, Outcome, Subject, TargetScorer

_MOST_SHOWN = 500


@dataclass(frozen=True)
class _Said:
    """What a member came to: an outcome or a failure."""

    member: Member
    outcome: Outcome | None = None
    failure: AttemptFailed | None = None

    @property
    def name(self) -> str:
        return f"{self.member.name} v{self.member.version}"


class EnsembleScorer:
    """Asks every member at the same time. `find` gives the scorer of a name and version and raises NotFound."""

    source_type = "CODE"
    retries = 3

    def __init__(self, parameters: Ensemble, find: Callable[[str, int], Awaitable[TargetScorer]]) -> None:
        self._parameters = parameters
        self._find = find
        self.source_id = f"ensemble/{parameters.combine}"

    async def score(self, subject: Subject) -> Outcome:
        """The members' verdicts combined, with the usage of all of them. Raises AttemptFailed."""
        asked = [self._one(member, subject) for member in self._parameters.members]
        found = await asyncio.gather(*asked, return_exceptions=True)
        # A budget that is spent, a store that is away: the whole job waits, once everybody has come to an end.
        for each in found:
            if isinstance(each, BaseException):
                raise each
        said = [each for each in found if isinstance(each, _Said)]
        usage = _usage(said)
        try:
            value = combined(self._parameters, [each.outcome.value for each in said if each.outcome is not None])
        except ValueError as error:
            raise AttemptFailed("BAD_VALUE", str(error), retryable=False, usage=usage) from error
        if value is None:
            raise _failed(self._parameters, said, usage)
        return Outcome(
            self.source_type,
            self.source_id,
            value,
            "\n".join(_told(each) for each in said),
            usage=usage,
            metadata={f"member {each.name}": _verdict(each)[:_MOST_SHOWN] for each in said},
        )

    async def _one(self, member: Member, subject: Subject) -> _Said:
        try:
            scorer = await self._find(member.name, member.version)
            with account.part():
                outcome = await scorer.score(subject)
        except AttemptFailed as failure:
            return _Said(member, failure=failure)
        except MissingExtra as error:
            return _Said(member, failure=AttemptFailed("NOT_INSTALLED", str(error), retryable=False))
        except NotFound as error:
            return _Said(member, failure=AttemptFailed("SCORER_NOT_FOUND", str(error), retryable=False))
        if outcome.named:
            reason = f"{member.name} answers several questions, of which an ensemble cannot choose one"
            return _Said(member, failure=AttemptFailed("BAD_VALUE", reason, retryable=False, usage=outcome.usage))
        return _Said(member, outcome)


def combined(parameters: Ensemble, values: Sequence[Any]) -> Any:
    """The verdict that these values make; None when they are too few, or no value has a majority.

    Raises ValueError when a value is none that can be combined so.
    """
    total, enough = len(parameters.members), len(values) >= (parameters.quorum or len(parameters.members))
    if parameters.combine == "majority":
        return _majority(values, total, enough)
    if parameters.combine in ("all", "any"):
        decisive = parameters.combine == "any"
        truths = [_truth(value) for value in values]
        if decisive in truths:
            return decisive
        return (not decisive) if enough else None
    numbers = [_number(value) for value in values]
    if not enough:
        return None
    if parameters.combine == "mean":
        return sum(numbers) / len(numbers)
    return min(numbers) if parameters.combine == "min" else max(numbers)


def _majority(values: Sequence[Any], total: int, enough: bool) -> Any:
    """The value of more than half of all members; with a quorum, of more than half of those that said one."""
    counts = Counter(value_text(value) for value in values)
    for text, count in counts.most_common(1):
        if 2 * count > (len(values) if enough else total):
            return next(value for value in values if value_text(value) == text)
    return None


def _number(value: Any) -> float:
    number = value_number(value)
    if number is None:
        raise ValueError(f"a member's value is no number: {value_text(value)[:100]}")
    return number


def _truth(value: Any) -> bool:
    number = value_number(value)
    if number not in (0.0, 1.0):
        raise ValueError(f"a member's value is neither true nor false: {value_text(value)[:100]}")
    return number == 1.0


def _usage(said: Sequence[_Said]) -> Usage:
    usage = Usage()
    for each in said:
        usage = usage.plus(
            each.outcome.usage if each.outcome is not None else each.failure.usage if each.failure else Usage()
        )
    return usage


def _failed(parameters: Ensemble, said: Sequence[_Said], usage: Usage) -> AttemptFailed:
    failures = [each for each in said if each.failure is not None]
    if not failures:
        reason = "no value has a majority: " + ", ".join(_verdict(each)[:100] for each in said)
        return AttemptFailed("NO_MAJORITY", reason, retryable=False, usage=usage)
    verdicts = len(said) - len(failures)
    needed = parameters.quorum or len(said)
    told = "; ".join(f"{each.name}: {each.failure}"[:200] for each in failures)
    later = [each.failure for each in failures if each.failure is not None and each.failure.retryable]
    return AttemptFailed(
        "MEMBER_FAILED",
        f"{verdicts} of {len(said)} members gave a verdict and {needed} are needed: {told}",
        retryable=bool(later),
        retry_after=max((failure.retry_after for failure in later if failure.retry_after), default=None),
        usage=usage,
    )


def _verdict(said: _Said) -> str:
    return value_text(said.outcome.value) if said.outcome is not None else f"error {said.failure}"


def _told(said: _Said) -> str:
    rationale = said.outcome.rationale if said.outcome is not None else ""
    return f"{said.name}: {_verdict(said)[:_MOST_SHOWN]}" + (f" ({rationale[:_MOST_SHOWN]})" if rationale else "")
