"""Pure display functions of the pages: numbers and times to short text. A missing value is an en dash."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

MISSING = "–"
PRETTY_BOUND = 200_000  # characters; longer JSON is shown as it arrived
SECOND = 1_000_000_000

_TYPE_NAMES = {
    str: "string",
    int: "int",
    float: "double",
    bytes: "bytes",
    list: "array",
    tuple: "array",
    dict: "map",
}


def duration(ns: int | None) -> str:
    """A length of time with about three digits: `850 µs`, `12.4 ms`, `1.24 s`, `2 m 05 s`, `3 h 20 m`."""
    if ns is None:
        return MISSING
    for unit, size in (("ns", 1), ("µs", 1_000), ("ms", 1_000_000), ("s", SECOND)):
        top = 60 if unit == "s" else 999.5
        if ns / size < top:
            return f"{_three_digits(ns / size)} {unit}"
    seconds = round(ns / SECOND)
    if seconds < 3600:
        return f"{seconds // 60} m {seconds % 60:02} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02} m"


def count(number: int | None) -> str:
    """A whole number with separators: `1,234,567`."""
    return MISSING if number is None else f"{number:,}"


def tokens(number: int | None) -> str:
    """Exact below ten thousand, then short: `9,999`, `12.3k`, `4.56M`."""
    if number is None:
        return MISSING
    if number < 10_000:
        return f"{number:,}"
    for unit, size in (("k", 1_000), ("M", 1_000_000), ("G", 1_000_000_000)):
        if number / size < 999.5:
            return f"{_three_digits(number / size)}{unit}"
    return f"{number / 1e9:,.0f}G"


def cost(usd: float | None) -> str:
    """US dollars, more decimals the smaller the sum: `$12.30`, `$0.123`, `$0.0012`, `<$0.0001`."""
    if usd is None:
        return MISSING
    if usd == 0:
        return "$0"
    if usd < 0:
        return f"-{cost(-usd)}"
    if usd < 0.0001:
        return "<$0.0001"
    decimals = 4 if usd < 0.01 else 3 if usd < 1 else 2
    return f"${usd:,.{decimals}f}"


def relative(ns: int, now_ns: int) -> str:
    """How long ago: `now`, `12 s ago`, `5 min ago`, `3 h ago`, `2 d ago`; older than 30 days, the date.

    A moment that lies ahead (a sender's clock is wrong) is given as its date and time.
    """
    seconds = (now_ns - ns) // SECOND
    if seconds < -1:
        return exact(ns)
    if seconds < 2:
        return "now"
    for unit, size, until in (("s", 1, 60), ("min", 60, 60), ("h", 3600, 24), ("d", 86_400, 30)):
        if seconds < size * until:
            return f"{seconds // size} {unit} ago"
    return exact(ns)[:10]


def exact(ns: int) -> str:
    """Date and time with milliseconds: `2026-08-02 10:11:12.345 UTC`."""
    return f"{_moment(ns):%Y-%m-%d %H:%M:%S}.{ns % SECOND // 1_000_000:03} UTC"


def iso(ns: int) -> str:
    """The same for a machine: `2026-08-02T10:11:12.345Z`."""
    return f"{_moment(ns):%Y-%m-%dT%H:%M:%S}.{ns % SECOND // 1_000_000:03}Z"


def number(value: float) -> str:
    """A score: whole numbers without a point, others with at most four digits."""
    return f"{value:.0f}" if value == int(value) and abs(value) < 1e15 else f"{value:.4g}"


def short_id(identifier: str) -> str:
    """The beginning of a long id."""
    return identifier if len(identifier) <= 12 else f"{identifier[:8]}…"


def one_line(text: str, limit: int) -> str:
    """White space folded, cut at `limit` characters with an ellipsis."""
    folded = " ".join(text[: limit * 4].split())
    return folded if len(folded) <= limit and len(text) <= limit * 4 else f"{folded[: limit - 1]}…"


@dataclass(frozen=True)
class Clipped:
    """The beginning of a text and how many characters follow it."""

    text: str
    hidden: int


def clip(text: str, limit: int) -> Clipped:
    """At most `limit` characters; a remainder of less than a tenth is not worth hiding."""
    if len(text) <= limit + limit // 10:
        return Clipped(text, 0)
    return Clipped(text[:limit], len(text) - limit)


def pretty(text: str) -> str:
    """JSON objects and arrays indented; everything else unchanged."""
    if len(text) > PRETTY_BOUND or text.lstrip()[:1] not in ("{", "["):
        return text
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


def type_name(value: Any) -> str:
    """The name OpenTelemetry gives the type of an attribute's value."""
    if isinstance(value, bool):
        return "bool"
    return _TYPE_NAMES.get(type(value), "none" if value is None else type(value).__name__)


def shown(value: Any) -> str:
    """An attribute's value as text: strings as they are, everything else as JSON."""
    if isinstance(value, str):
        return pretty(value)
    if isinstance(value, bytes):
        return value.hex()
    return json.dumps(value, ensure_ascii=False, default=str)


def _three_digits(value: float) -> str:
    if value >= 99.95 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def _moment(ns: int) -> datetime:
    # Not a float: seconds since 1970 with nanoseconds need more digits than one has.
    return datetime.fromtimestamp(min(max(ns // SECOND, 0), 253_402_300_799), UTC)
