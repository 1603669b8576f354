"""The time of receipt: the wall clock, but never back.

The time of receipt decides which version of a span is the later one, and a trace's row and the progress of scoring are
ordered by such times too. So a clock that is put back must not put them back: not while a process runs, nor between the
processes that receive, nor across a restart. Until the clock has caught up, each time is the last one and a nanosecond.

**Processes** share memory with one word for each, the highest time it has given. A word is written before what it was
given for is acknowledged, so whoever sends a second version after the first was acknowledged gets a later time for it,
whichever process takes it. Times given at the same moment by two processes may be equal, as their order is nobody's.

**Restarts.** Each frame of a log is stamped with a time that none of its records' is above (`newest`); the cursor file
keeps the highest of those that were read. Opening the logs tells both (`at_least`).
"""

from tracestone.schema import clock


class ReceiptClock:
    """Gives times, in ns since the Unix epoch. Call everything from one event loop."""

    def __init__(self, words: memoryview, place: int) -> None:
        """`words` are 64-bit, one for each process; the one at `place` is this process's own."""
        self._words = words
        self._place = place

    @classmethod
    def alone(cls) -> "ReceiptClock":
        """For one process."""
        return cls(memoryview(bytearray(8)).cast("Q"), 0)

    def next(self) -> int:
        """A time above all that were given before, by any process."""
        given = max(clock.now_ns(), max(self._words) + 1)
        self._words[self._place] = given
        return given

    def newest(self) -> int:
        """Now, or if that is later the highest time that was given."""
        return max(clock.now_ns(), max(self._words))

    def at_least(self, time: int) -> None:
        """All times from now on are above `time`."""
        self._words[self._place] = max(self._words[self._place], time)

    def floor(self) -> int:
        """0, or while the wall clock is behind what was given, a time above that."""
        return self.next() if clock.now_ns() <= max(self._words) else 0
