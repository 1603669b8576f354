"""The only clock. Everything that needs the time takes it from here, so tests can tell where time enters."""

import time
from datetime import UTC, date, datetime


def now_ns() -> int:
    """Wall clock, nanoseconds since the Unix epoch."""
    return time.time_ns()


def now_ms() -> int:
    """Wall clock, milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


def at_ms(milliseconds: int) -> datetime:
    """A time given in milliseconds since the Unix epoch, timezone-aware, UTC."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def now() -> datetime:
    """Wall clock, timezone-aware, UTC."""
    return datetime.now(UTC)


def today() -> date:
    """The day of the wall clock, in UTC."""
    return now().date()


def monotonic() -> float:
    """Seconds of a clock that never goes back; for intervals only."""
    return time.monotonic()
