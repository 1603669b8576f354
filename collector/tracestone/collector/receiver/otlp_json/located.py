"""What can be wrong with a value, and where it stands: the path grows as the error leaves the messages around it."""

from typing import Self


class Located(Exception):
    """A value that cannot be taken; `str` is its path and the reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self._path: list[str] = []

    @property
    def path(self) -> str:
        """Where it stands, as `spans[3].attributes[0].value`."""
        return "".join(reversed(self._path)).removeprefix(".")

    def inside(self, name: str) -> Self:
        """The same error, seen from the message that has it in the field `name`."""
        self._path.append(f".{name}")
        return self

    def at(self, number: int) -> Self:
        """The same error, seen from the list that has it at this place, from 0."""
        self._path.append(f"[{number}]")
        return self

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class Wrong(Located):
    """The request is none in OTLP's JSON form."""


class Unusable(Located):
    """One record cannot be taken; the others can."""
