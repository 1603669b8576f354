"""How long something took, counted in buckets."""

from bisect import bisect_left

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Durations:
    """A histogram of seconds. Used by one thread at a time."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS) + 1)
        self._sum = 0.0

    def add(self, seconds: float) -> None:
        """Counts one."""
        self._counts[bisect_left(BOUNDS, seconds)] += 1
        self._sum += seconds

    def numbers(self, name: str) -> dict[str, float]:
        """What was counted, under keys that begin with `name`: one for each bucket that has any, and the sum."""
        buckets = {f"{name} {place}": float(count) for place, count in enumerate(self._counts) if count}
        return {**buckets, f"{name} sum": self._sum}
