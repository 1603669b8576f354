"""Which finished targets are chosen, and with what probability.

Decided inside ClickHouse; only chosen ids leave it.

A target is chosen when the upper 53 bits of sipHash64(salt, 0, key) are below rate * 2^53. So every
replica decides alike, a higher rate keeps every target that a lower rate chose, and a rate of 1 keeps all. The key is
the trace id, of a span followed by the span id, of a session its id. The rate is that of the first stratum whose
filter holds, else the configuration's. The probability stored with a verdict is exactly threshold / 2^53. The salt is
empty unless a configuration sets one: scorers share their sample, so that verdicts of two scorers can be compared on
the same targets; give a scorer a salt of its own to draw an independent sample.

A configuration that comes after another scorer chooses among the targets which that one has judged, when its verdict
has become visible. Its draw has the earlier scorer's name in front of the key, so it is independent of the earlier
draw, whatever rate and salt that had; and the verdict is a function of the target, not of the hash. So the probability
of a target is the product of the one stored with the earlier verdict and that of this stage.
"""

from dataclasses import dataclass, replace
from typing import Any

from tracestone.schema import sqlfiles
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.filter_sql import compose, compose_strata
from tracestone.schema.sampling import fairness, past
from tracestone.schema.sampling.rates import kept_by, sampling, threshold
from tracestone.schema.scorers.online import OnlineConfig
from tracestone.schema.stores.jobs import Cursor, Look, Target

# A row is stamped when the statement that writes it begins, and readable when it ends: usually sooner than this.
GRACE_MS = 1000
_SQL = sqlfiles.queries("clickhouse", "sampling")
# What becomes due by its age does so in steps, of at most so long and at most that part of the age.
_LONGEST_STEP_NS = 300 * 1_000_000_000
_STEPS_IN_AGE = 12


def _quiet(*, explicit: bool, aged: bool) -> tuple[str, str]:
    """What tells which traces and which sessions become due.

    Not `explicit` where none has said that it is over, not `aged` where no trace becomes due by its age.
    """
    traces = _SQL["due_traces"].replace("/* rows */", _SQL["lately_or_aged" if aged else "lately"])
    return (
        traces.replace("/* is over */", _SQL["trace_is_over"] if explicit else "0"),
        _SQL["quiet_sessions"].replace("/* is over */", _SQL["session_is_over"] if explicit else "0"),
    )


def _due(traces: str, quiet: str) -> dict[str, str]:
    """For each kind of target the SELECT of what becomes due."""
    spans = _SQL["due_spans"].replace("/* due traces */", traces)
    sessions = _SQL["due_sessions"].replace("/* quiet sessions */", quiet)
    return {"trace": traces, "span": spans, "session": sessions}


def _after() -> dict[str, str]:
    """The same where a verdict of an earlier scorer is what makes it due."""
    found = {}
    for target, query in (("trace", "judged_traces"), ("span", "judged_spans"), ("session", "judged_sessions")):
        statement = _SQL["due_after"].replace("/* judged targets */", _SQL[query])
        statement = statement.replace("/* earlier verdicts */", _SQL["earlier_verdicts"])
        found[target] = statement.replace("/* arrived verdicts */", _SQL["arrived_verdicts"])
    return found


_QUIET = {
    (explicit, aged): _quiet(explicit=explicit, aged=aged) for explicit in (False, True) for aged in (False, True)
}
_DUE = {which: _due(*quiet) for which, quiet in _QUIET.items()}
_AFTER = _after()
# What tells cheaply when something is due: of spans, their traces. Analysing the views costs more than most looks find.
_WHEN = {which: {"trace": traces, "span": traces, "session": quiet} for which, (traces, quiet) in _QUIET.items()}
# What said before this that it is over belongs to no row that a look reads.
_OVER_BEFORE_NS = 600 * 1_000_000_000


@dataclass(frozen=True)
class Chosen:
    """One page of chosen targets.

    `cursor` is where the next page begins, `more` whether there may be one now. `hashes` are those that chose them.
    """

    targets: list[Target]
    cursor: Cursor
    more: bool
    hashes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Window:
    """Due times from a cursor on and before `until_ns`.

    `left_out` are experiments that a configuration for all leaves to their own.
    """

    after: Cursor
    until_ns: int
    look: Look
    left_out: tuple[int, ...] = ()


def _deciding(config: OnlineConfig, version: int) -> dict[str, Any]:
    scorer = {"scorer_name": config.scorer_name, "scorer_version": version, "target_type": config.target_type}
    return scorer | sampling(config)


class Sampler:
    """Chooses among the targets of one window of due times; see `watch` for what `due` means."""

    def __init__(
        self, columnar: Columnar, *, settle_ms: int, max_trace_age_ms: int, page: int = 5000, grace_ms: int = GRACE_MS
    ) -> None:
        self._columnar = columnar
        self._settle_ns = settle_ms * 1_000_000
        self._age_ns = max_trace_age_ms * 1_000_000
        self._step_ns = max(1, min(_LONGEST_STEP_NS, self._age_ns // _STEPS_IN_AGE))
        self._grace_ns = grace_ms * 1_000_000
        self._page = page
        self._ended_ns = 2**63

    async def now_ns(self) -> int:
        """ClickHouse's clock, which also stamps when a trace became visible. Nanoseconds since the epoch."""
        rows = await self._columnar.query(_SQL["now"])
        # What is due before this moment and has said so has done it by now: a row is due a second after its writing.
        self._ended_ns = int(rows[0]["ended_ns"])
        return int(rows[0]["now_ns"])

    async def first_due(self, config: OnlineConfig, window: Window) -> int | None:
        """When the first target of a window is due, sampled or not; None when none is. Raises StorageDown."""
        if window.after.due_ns >= window.until_ns:
            return None
        parameters = self._parameters(config, window)
        which = self._which(window, parameters)
        when = _SQL["arrived_verdicts"] if config.after else _WHEN[which][config.target_type]
        rows = await self._columnar.query(_SQL["first_due"].replace("/* due */", when), parameters)
        return int(rows[0]["due_ns"]) or None

    async def prepare(self, config: OnlineConfig, window: Window) -> Window:
        """The window, or its first hour where the configuration is fair by something; then that hour is counted.

        Raises StatementFailed, StorageDown.
        """
        if not config.fair_by:
            return window
        until_ns = await fairness.count_hour(self._columnar, config, window.after.due_ns)
        return replace(window, until_ns=min(window.until_ns, until_ns))

    async def choose(self, config: OnlineConfig, window: Window) -> Chosen:
        """The next page of chosen targets of a window, in a stable order.

        Raises StatementFailed when a filter fails on a value, StorageDown.
        """
        after, until_ns = window.after, window.until_ns
        if after.due_ns >= until_ns or not any(map(threshold, config.rates)):
            return Chosen([], max(after, Cursor(until_ns)), False)
        parameters = self._parameters(config, window)
        statement = self._composed("choose", config, window, parameters)
        return await self._chosen(statement, config, window, parameters)

    async def choose_past(self, config: OnlineConfig, window: Window, page: int | None = None) -> Chosen:
        """The next page of chosen targets that began in a window, finished or not, in order of their beginning.

        Raises StatementFailed when a filter fails on a value, StorageDown.
        """
        parameters = past.span_of(config, window.after.due_ns, window.until_ns)
        return await self._chosen(past.composed("choose", config), config, window, parameters, page)

    async def _chosen(
        self, statement: str, config: OnlineConfig, window: Window, parameters: dict[str, Any], page: int | None = None
    ) -> Chosen:
        page = page or self._page
        rows = await self._columnar.query(
            compose(statement, config.filter),
            parameters
            | {"after_ns": window.after.due_ns, "after_key": window.after.key, "page": page}
            | sampling(config),
        )
        targets = [
            Target(
                int(row["experiment_id"]),
                str(row["trace_id"]),
                str(row["span_id"]),
                str(row["session_id"]),
                int(row["seen_ns"]),
                row["prior"] * kept_by(row["threshold"]),
                config.stratum(row["stratum"]),
            )
            for row in rows
        ]
        hashes = tuple(int(row["hash"]) for row in rows)
        if len(rows) < page:
            return Chosen(targets, Cursor(window.until_ns), False, hashes)
        return Chosen(targets, Cursor(int(rows[-1]["due_ns"]), str(rows[-1]["key"])), True, hashes)

    async def account(self, config: OnlineConfig, version: int, window: Window) -> None:
        """Writes down what is decided of every target of a window, chosen or not. Safe to repeat.

        Raises StatementFailed, StorageDown.
        """
        parameters = self._parameters(config, window)
        await self._columnar.command(
            compose(self._composed("account", config, window, parameters), config.filter),
            parameters
            | {"strata": [config.stratum(number) for number in range(len(config.rates))]}
            | _deciding(config, version),
        )

    async def account_past(self, config: OnlineConfig, version: int, window: Window, chosen: Chosen) -> None:
        """Writes down what a page that `choose_past` gave decided of every target up to its end. Safe to repeat.

        A target of which more was decided before is still counted once. Raises StatementFailed, StorageDown.
        """
        after, last = window.after, chosen.cursor
        page = {"after_ns": after.due_ns, "after_key": after.key, "last_ns": last.due_ns, "last_key": last.key}
        until_ns = min(window.until_ns, last.due_ns + 1)
        await self._columnar.command(
            compose(past.composed("account_past", config), config.filter),
            past.span_of(config, after.due_ns, until_ns)
            | page
            | {"chosen": list(chosen.hashes)}
            | _deciding(config, version),
        )

    def _which(self, window: Window, parameters: dict[str, Any]) -> tuple[bool, bool]:
        """Whether a target may have said that it is over, and whether one may become due by its age in a window."""
        explicit = self._ended_ns > parameters.get("written_after_ns", 0) - _OVER_BEFORE_NS
        last_step_ns = (window.until_ns - 1) // self._step_ns * self._step_ns
        return explicit, window.look == "sweep" and last_step_ns >= window.after.due_ns

    def _composed(self, query: str, config: OnlineConfig, window: Window, parameters: dict[str, Any]) -> str:
        due = (_AFTER if config.after else _DUE[self._which(window, parameters)])[config.target_type]
        if config.fair_by:
            due = fairness.bounded(due, config)
        statement = _SQL[query].replace("/* due */", due)
        return compose_strata(statement, [stratum.filter for stratum in config.strata])

    def _parameters(self, config: OnlineConfig, window: Window) -> dict[str, Any]:
        which = {
            "grace_ns": self._grace_ns,
            "from_ns": window.after.due_ns,
            "until_ns": window.until_ns,
            "every": int(config.experiment_id is None),
            "experiment_id": config.experiment_id or 0,
            "left_out": list(window.left_out),
        }
        if config.after:
            before = {"after": config.after, "after_version": config.after_version or 0}
            return which | before | {"target_type": config.target_type}
        fair = fairness.parameters(config, window.after.due_ns) if config.fair_by else {}
        return which | self._waits(config, window) | fair

    def _waits(self, config: OnlineConfig, window: Window) -> dict[str, int]:
        idle_ns = int(config.idle_seconds * 1e9)
        # A row due from t on was written no earlier than t less the wait, whatever collectors take the time to be.
        longest_wait = max(idle_ns if config.target_type == "session" else self._settle_ns, self._grace_ns)
        times = (
            {"idle_ns": idle_ns}
            if config.target_type == "session"
            else {
                "settle_ns": self._settle_ns,
                "age_ns": self._age_ns,
                "step_ns": self._step_ns,
                "prompt": int(window.look == "prompt"),
            }
        )
        aged_wait = max(longest_wait, self._age_ns + self._step_ns)
        since = {"written_after_ns": longest_wait, "aged_after_ns": aged_wait}
        return times | {name: window.after.due_ns - wait - 1 for name, wait in since.items()}
