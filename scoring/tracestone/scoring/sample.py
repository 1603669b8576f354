"""Which finished traces are chosen, and with what probability.

Decided inside ClickHouse; only chosen ids leave it.

A trace is chosen when the upper 53 bits of sipHash64(salt, 0, trace_id) are below rate * 2^53. So every
replica decides alike, a higher rate keeps every trace that a lower rate chose, and a rate of 1 keeps all.
The probability stored with a verdict is exactly threshold / 2^53. The salt is empty unless a configuration
sets one: scorers share their sample, so that verdicts of two scorers can be compared on the same traces;
give a scorer a salt of its own to draw an independent sample.
"""

import math
from dataclasses import dataclass

from tracestone.schema import sqlfiles
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.filter_sql import compose
from tracestone.schema.scorers.online import OnlineConfig
from tracestone.schema.stores.jobs import Cursor, Look, Target

_BUCKETS = 2**53
# A row is stamped when the statement that writes it begins, and readable when it ends: usually sooner than this.
GRACE_MS = 1000
# How far the clocks of a collector (last_seen) and of ClickHouse (when a row was written) may be apart.
_CLOCK_SKEW_NS = 60 * 1_000_000_000


@dataclass(frozen=True)
class Chosen:
    """One page of chosen traces.

    `cursor` is where the next page begins, `more` whether there may be one now.
    """

    targets: list[Target]
    cursor: Cursor
    more: bool


def threshold(rate: float) -> int:
    """How many of the 2^53 hash buckets are kept at a rate in [0, 1]."""
    return min(_BUCKETS, math.ceil(rate * _BUCKETS))


def probability(rate: float) -> float:
    """The exact probability with which a rate keeps a trace."""
    return threshold(rate) / _BUCKETS


class Sampler:
    """Chooses among the traces of one window of due times; see `watch` for what `due` means."""

    def __init__(
        self, columnar: Columnar, *, settle_ms: int, max_trace_age_ms: int, page: int = 5000, grace_ms: int = GRACE_MS
    ) -> None:
        self._columnar = columnar
        self._settle_ns = settle_ms * 1_000_000
        self._age_ns = max_trace_age_ms * 1_000_000
        self._grace_ns = grace_ms * 1_000_000
        self._page = page
        self._sql = sqlfiles.queries("clickhouse", "sampling")

    async def now_ns(self) -> int:
        """ClickHouse's clock, which also stamps when a trace became visible. Nanoseconds since the epoch."""
        rows = await self._columnar.query(self._sql["now"])
        return int(rows[0]["now_ns"])

    async def choose(
        self, config: OnlineConfig, look: Look, after: Cursor, until_ns: int, left_out: list[int]
    ) -> Chosen:
        """The next page of chosen traces due from `after` on and before `until_ns`, in a stable order.

        `left_out` are experiments that a configuration for all leaves to their own.
        Raises StatementFailed when the filter fails on a value, StorageDown.
        """
        if after.due_ns >= until_ns or threshold(config.sample_rate) == 0:
            return Chosen([], max(after, Cursor(until_ns)), False)
        # A row due after t was written after t less the wait, give or take the difference of two clocks.
        longest_wait = self._settle_ns if look == "prompt" else max(self._settle_ns, self._age_ns)
        longest_wait = max(longest_wait, self._grace_ns)
        rows = await self._columnar.query(
            compose(self._sql["choose"], config.filter),
            {
                "settle_ns": self._settle_ns,
                "age_ns": self._age_ns,
                "grace_ns": self._grace_ns,
                "prompt": int(look == "prompt"),
                "after_ns": after.due_ns,
                "written_after_ns": after.due_ns - longest_wait - _CLOCK_SKEW_NS,
                "after_id": after.trace_id,
                "until_ns": until_ns,
                "every": int(config.experiment_id is None),
                "experiment_id": config.experiment_id or 0,
                "left_out": left_out,
                "salt": config.salt,
                "threshold": threshold(config.sample_rate),
                "page": self._page,
            },
        )
        targets = [Target(int(row["experiment_id"]), str(row["trace_id"])) for row in rows]
        if len(rows) < self._page:
            return Chosen(targets, Cursor(until_ns), False)
        return Chosen(targets, Cursor(int(rows[-1]["due_ns"]), str(rows[-1]["trace_id"])), True)
