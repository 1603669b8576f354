"""Where the batches of a signal go, as its loader sees it."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

Follow = Callable[[Sequence[str], int, int], Awaitable[None]]
Touched = Callable[[Sequence[str], int, int], Awaitable[list[tuple[int, str]]]]
Touch = Callable[[str, Sequence[tuple[int, str]]], Awaitable[None]]


@dataclass(frozen=True)
class Destination:
    """An insert, and what follows it.

    `insert` stores length-delimited messages under a batch's name, all or part of it. `follow` then does what inserted
    batches call for, by their names, for one share of several. Both are safe to repeat, and raise StatementFailed or
    Unavailable. `computed` says what `follow` makes and `shared_by` how its work is shared out.

    `touched` tells the experiments and ids that `follow` would work on, and `touch` notes such for a batch of another
    name, so that `follow` can be done for it at any later time.
    """

    insert: Callable[[bytes, str], Awaitable[None]]
    follow: Follow | None = None
    touched: Touched | None = None
    touch: Touch | None = None
    computed: str = ""
    shared_by: str = ""
