"""Where the batches of a signal go, as its loader sees it."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

Follow = Callable[[Sequence[str], int, int], Awaitable[None]]


@dataclass(frozen=True)
class Destination:
    """An insert, and what follows it.

    `insert` stores length-delimited messages under a batch's name, all or part of it. `follow` then does what inserted
    batches call for, by their names, for one share of several. Both are safe to repeat, and raise StatementFailed or
    Unavailable. `computed` says what `follow` makes and `shared_by` how its work is shared out.
    """

    insert: Callable[[bytes, str], Awaitable[None]]
    follow: Follow | None = None
    computed: str = ""
    shared_by: str = ""
