"""What writers write to."""

from collections.abc import Callable
from typing import Any

from tracestone.collector.receiver.otlp_json.located import Unusable


class Parts(list[bytes]):
    """The bytes of a request, and the records that were left out of it."""

    def __init__(self) -> None:
        super().__init__()
        self.rejected = 0
        self.reason = ""

    def leave_out(self, error: Unusable) -> None:
        """Counts a record whose bytes are not here."""
        self.rejected += 1
        self.reason = self.reason or str(error)


# Appends the bytes of a value and returns how many they are.
Writer = Callable[[Any, Parts], int]
