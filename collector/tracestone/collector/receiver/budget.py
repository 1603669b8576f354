"""One bound on the bytes of all request bodies that are in the receiver at once, whatever the transport.

A body counts from when it is read, and again as it is decompressed, until its request is answered. Beyond the bound
requests are told to come back.
"""

import threading
from types import TracebackType

from tracestone.schema.errors import Unavailable

_RETRY_SECONDS = 1.0


class Budget:
    """The bound, shared by both transports; may be used from any thread."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._lock = threading.Lock()
        self.bytes = 0

    def request(self) -> "Held":
        """The share of one request; a context that gives back at its end."""
        return Held(self)

    def add(self, size: int) -> None:
        """Counts bytes. Raises Unavailable, and counts nothing, when they are too many."""
        with self._lock:
            # One body alone is always let in: whether it is too large is for the limit of a request to say.
            if self.bytes and self.bytes + size > self.limit:
                raise Unavailable("Too many requests at once; try again.", retry_after=_RETRY_SECONDS)
            self.bytes += size

    def give_back(self, size: int) -> None:
        """Bytes that are no longer held."""
        with self._lock:
            self.bytes -= size


class Held:
    """What one request holds of the budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._bytes = 0

    def __enter__(self) -> "Held":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.give_back()

    def give_back(self) -> None:
        """Holds nothing any more."""
        self._budget.give_back(self._bytes)
        self._bytes = 0

    def take(self, size: int) -> None:
        """Raises Unavailable when there is no room."""
        self._budget.add(size)
        self._bytes += size
