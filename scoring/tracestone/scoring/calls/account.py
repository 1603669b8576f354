"""On whose account calls are made: set around one attempt of a job, read wherever a call is about to be paid.

A scorer need not know of it. Tasks and threads that an attempt starts share its account.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from tracestone.schema.stores.jobs import Usage, Wait
from tracestone.scoring.calls.made import Made


@dataclass
class Account:
    """One attempt: who pays, what its calls have cost so far, and how many answers were there from before.

    `made` are its calls, where they are noted (`noted.Noted`).
    """

    scorer: str
    experiment_id: int
    spent: Usage = field(default_factory=Usage)
    cached: int = 0
    made: list[Made] = field(default_factory=list)
    when_it_ends_well: list[Callable[[], object]] = field(default_factory=list)

    def add(self, usage: Usage) -> None:
        """Notes what a call cost."""
        self.spent = self.spent.plus(usage)

    def ended_well(self) -> None:
        """The attempt came to a verdict, or will be gone on with."""
        for each in self.when_it_ends_well:
            each()


class Deferred(Exception):
    """A call cannot be made yet, through no fault of the job, which waits without using up a try."""

    def __init__(self, wait: Wait) -> None:
        super().__init__(wait.reason)
        self.wait = wait


_NOBODY = Account("", 0)
_CURRENT: ContextVar[Account] = ContextVar("account", default=_NOBODY)


@contextmanager
def charged(scorer: str, experiment_id: int) -> Iterator[Account]:
    """Calls made within the block are on this account."""
    account = Account(scorer, experiment_id)
    token = _CURRENT.set(account)
    try:
        yield account
    finally:
        _CURRENT.reset(token)


@contextmanager
def part() -> Iterator[None]:
    """A part of an attempt that comes to a verdict of its own, whatever becomes of the others.

    Its calls are on the attempt's account too. What it was answered is known when the attempt is made again.
    """
    whole = current()
    own = Account(whole.scorer, whole.experiment_id, made=whole.made)
    token = _CURRENT.set(own)
    try:
        yield
    except Deferred:
        whole.when_it_ends_well += own.when_it_ends_well
        raise
    else:
        own.ended_well()
    finally:
        _CURRENT.reset(token)
        whole.add(own.spent)
        whole.cached += own.cached


def current() -> Account:
    """The account of the call that is about to be made; one without a scorer when nobody set it."""
    found = _CURRENT.get()
    return Account("", 0) if found is _NOBODY else found
