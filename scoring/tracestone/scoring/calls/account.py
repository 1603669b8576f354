"""On whose account calls are made: set around one attempt of a job, read wherever a call is about to be paid.

A scorer need not know of it. Tasks and threads that an attempt starts share its account.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from tracestone.schema.stores.jobs import Usage, Wait


@dataclass
class Account:
    """One attempt: who pays, and what its calls have cost so far."""

    scorer: str
    experiment_id: int
    spent: Usage = field(default_factory=Usage)

    def add(self, usage: Usage) -> None:
        """Notes what a call cost."""
        self.spent = self.spent.plus(usage)


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


def current() -> Account:
    """The account of the call that is about to be made; one without a scorer when nobody set it."""
    found = _CURRENT.get()
    return Account("", 0) if found is _NOBODY else found
