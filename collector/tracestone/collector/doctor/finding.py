"""What a check found."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """One sentence about one subject. `advice` says what to do, and is empty where nothing is to be done."""

    subject: str
    state: State
    says: str
    advice: str = ""


def ok(subject: str, says: str) -> Finding:
    """Nothing is wrong."""
    return Finding(subject, "ok", says)


def warning(subject: str, says: str, advice: str) -> Finding:
    """It works, and may not for long."""
    return Finding(subject, "warning", says, advice)


def problem(subject: str, says: str, advice: str) -> Finding:
    """It does not work."""
    return Finding(subject, "problem", says, advice)
