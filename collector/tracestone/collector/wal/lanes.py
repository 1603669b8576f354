"""Reading what is new while much that is old still waits: where the new begins, and how far it is read and consumed.

It begins (`consider`) when a batch is handed out whose oldest record was written BEHIND_SECONDS ago and more than
BEHIND_BATCHES batches wait behind it: at the end of what is durable then. From then on every second batch is one of the
new, as long as there is enough of it for a batch, or PATIENCE_SECONDS have gone since the last; so the old has at
least half of the loader, the new at most half. It ends when the old has come as far as where the new began.

Nothing of it is durable: after a crash the old is all there is. Lives on the event loop. No I/O.
"""

from collections.abc import Iterable

from tracestone.collector.wal.ledger import Ledger, Segment
from tracestone.schema import clock

BEHIND_SECONDS = 30.0
BEHIND_BATCHES = 2
PATIENCE_SECONDS = 0.25


class Ahead:
    """What is new, of one log. Closed while nothing is behind; positions are meaningless then."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._mark: int | None = None
        self._ends: set[int] = set()
        self._last = 0.0
        self._waiting_since: float | None = None
        self._turn = False
        self.position = 0
        self.done = 0

    @property
    def is_open(self) -> bool:
        """Whether there is a difference between old and new."""
        return self._mark is not None

    @property
    def done_bytes(self) -> int:
        """How much of the new is consumed."""
        if self._mark is None:
            return 0
        return self._ledger.bytes_after(self._mark) - self._ledger.bytes_after(self.done)

    def has(self, end: int) -> bool:
        """Whether the batch that ends there is of the new, and out."""
        return end in self._ends

    def bounded(self, limit: int) -> int:
        """`limit`, or where the new begins."""
        return limit if self._mark is None else min(limit, self._mark)

    def unread(self, position: int, enough: int) -> int:
        """Bytes that were not handed out, where the old is read up to `position`; may stop counting at `enough`."""
        if self._mark is None:
            return self._ledger.bytes_after(position, enough)
        new = self._ledger.bytes_after(self.position, enough)
        return new + max(0, self._ledger.bytes_after(position) - self._ledger.bytes_after(self._mark))

    def consider(self, end: int, oldest: int, max_bytes: int) -> None:
        """A batch of the old was handed out: the new begins if that is far behind, and has the next turn if it has."""
        self._turn = True
        if self._mark is not None:
            return
        enough = BEHIND_BATCHES * max_bytes
        if self._ledger.bytes_after(end, enough) < enough:
            self._waiting_since = None
        elif self._is_behind(oldest):
            self._mark = self.position = self.done = self._ledger.synced
            self._last = clock.monotonic()

    def _is_behind(self, oldest: int) -> bool:
        if self._waiting_since is None:
            self._waiting_since = clock.monotonic()
        age = (clock.now_ns() - oldest) / 1e9
        if age < 0:  # the clock was put back since, so all that is known is for how long there was much
            age = clock.monotonic() - self._waiting_since
        return age >= BEHIND_SECONDS

    def is_due(self, max_bytes: int) -> bool:
        """Whether the next batch should be one of the new."""
        if self._mark is None or not self._turn:
            return False
        new = self._ledger.bytes_after(self.position, max_bytes)
        return new >= max_bytes or (new > 0 and clock.monotonic() - self._last >= PATIENCE_SECONDS)

    def segment(self) -> Segment | None:
        """The segment that the next frame of the new is in."""
        for segment in self._ledger.segments:
            if segment.limit > max(segment.start, self.position):
                return segment
        return None

    def handed_out(self, end: int) -> None:
        """A batch of the new is out."""
        self.position = end
        self._ends.add(end)
        self._last = clock.monotonic()
        self._turn = False

    def consumed(self, ends: Iterable[int]) -> None:
        """The batches that end there, some of them of the new, are consumed."""
        for end in ends:
            if end in self._ends:
                self._ends.remove(end)
                self.done = max(self.done, end)

    def rewind(self) -> None:
        """What is out and not consumed is to be read again."""
        self._ends.clear()
        self.position = self.done

    def close(self) -> int:
        """The old has caught up; how far all is read."""
        self._mark = None
        self._ends.clear()
        return self.position
