"""A circuit breaker for one provider: when nearly all calls fail, nobody calls for a while, then one tries.

Closed, it watches the last calls; open, it refuses; half open, it lets one call through at a time, whose success closes
it and whose failure opens it for twice as long.
"""

from collections import deque

from tracestone.schema import clock

WINDOW = 40
_LEAST_CALLS = 10
_FAILED_SHARE = 0.9
_OPEN_SECONDS = 10.0
_LONGEST_OPEN_SECONDS = 300.0


class Breaker:
    """Counts what became of calls. For one event loop."""

    def __init__(self, *, open_seconds: float = _OPEN_SECONDS) -> None:
        self._first_open = open_seconds
        self._open_for = open_seconds
        self._outcomes: deque[bool] = deque(maxlen=WINDOW)
        self._open_until: float | None = None
        self._trying = False
        self.problem = ""

    @property
    def closed(self) -> bool:
        """Whether calls are made as usual."""
        return self._open_until is None

    def refuses_for(self) -> float:
        """Seconds until another call may be made; 0 when this one may be, which `worked` or `failed` then must end."""
        if self._open_until is None:
            return 0.0
        left = self._open_until - clock.monotonic()
        if left > 0:
            return left
        if self._trying:
            return 1.0
        self._trying = True
        return 0.0

    def worked(self) -> None:
        """A provider answered, be it with a refusal of what was asked."""
        self._outcomes.append(True)
        if self._trying:
            self._close()

    def failed(self, problem: str) -> None:
        """A provider did not answer, or with an error of its own."""
        self._outcomes.append(False)
        self.problem = problem
        if self._trying:
            self._trying = False
            self._open_for = min(2 * self._open_for, _LONGEST_OPEN_SECONDS)
            self._open_until = clock.monotonic() + self._open_for
        elif self._open_until is None and len(self._outcomes) >= _LEAST_CALLS:
            if self._outcomes.count(False) >= _FAILED_SHARE * len(self._outcomes):
                self._open_until = clock.monotonic() + self._open_for

    def gave_up(self) -> None:
        """The call ended without telling anything of the provider."""
        self._trying = False

    def _close(self) -> None:
        self._trying = False
        self._open_until = None
        self._open_for = self._first_open
        self._outcomes.clear()
        self.problem = ""
