"""What a rewrite does with a slice of spans."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from string import Template
from typing import Any

from tracestone.schema import sqlfiles
from tracestone.schema.errors import Invalid
from tracestone.schema.mapping.generate import told
from tracestone.schema.prices.cost import STORED, around

_SLICE_SECONDS = 5
# ClickHouse keeps nanoseconds from 1900 to 2262.
_FIRST_NS, _LAST_NS = -(2**60), 2**63 - 1


@dataclass(frozen=True)
class Kind:
    """Statements over the slices of one experiment, bound as the queries of reprice.sql bind theirs.

    `changed` counts the spans that the rewrite would change, as `changed`; those of `rewrite` write them anew, as rows
    of the same key that replace the ones before. They are repeated after a crash, and must change nothing the second
    time.
    """

    changed: str
    rewrite: tuple[str, ...]


def _reprice() -> Kind:
    queries = sqlfiles.queries("clickhouse", "reprice")
    priced = around(STORED)
    changed, rewrite = (Template(queries[name]).substitute(priced) for name in ("changed", "rewrite"))
    return Kind(changed, (rewrite,))


def _renormalise() -> Kind:
    queries = sqlfiles.queries("clickhouse", "renormalise")
    rewrite = Template(queries["rewrite"]).substitute(told("log_events"))
    return Kind(queries["changed"], (rewrite, queries["hide_moved"]))


KINDS: Mapping[str, Kind] = {"reprice": _reprice(), "renormalise": _renormalise()}


def parameters(
    *, experiment: int | None = None, since: str | None = None, until: str | None = None, model: str = ""
) -> dict[str, Any]:
    """What to rewrite, as it is kept: spans of one experiment, that began in a time, of one model; all without.

    Times are ISO 8601, without a zone in UTC; the second is not part of it. Raises Invalid.
    """
    first = _FIRST_NS if since is None else _nanoseconds("--from", since)
    last = _LAST_NS if until is None else _nanoseconds("--to", until)
    if first >= last:
        raise Invalid("--to", "must be later than --from")
    return {"experiment": -1 if experiment is None else experiment, "from_ns": first, "to_ns": last, "model": model}


def slices(values: Mapping[str, Any]) -> tuple[int, int]:
    """The first and the last slice of time that these parameters reach."""
    first, last = (int(values[name]) // 1_000_000_000 // _SLICE_SECONDS for name in ("from_ns", "to_ns"))
    return first, last


def _nanoseconds(name: str, text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Invalid(name, "must be a day or time such as 2026-08-01 or 2026-08-01T12:00:00+00:00") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(_FIRST_NS, min(_LAST_NS, int(moment.timestamp() * 1000) * 1_000_000))
