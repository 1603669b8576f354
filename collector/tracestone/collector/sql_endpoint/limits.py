"""The limits every reader's statement runs under, and which settings a reader may add to them.

A limit may be lowered. Above the limit, a SETTINGS clause is refused, since a person wrote it; a URL
parameter is cut to the limit, since drivers send their own time-outs with every request. Settings that only
shape the answer are passed on; all others are refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tracestone.collector.sql_endpoint.allowed import (
    IGNORED_PARAMETERS,
    LOWERABLE,
    SETTING_PREFIXES,
    SETTINGS,
    SETTINGS_REFUSED,
)
from tracestone.collector.sql_endpoint.refusals import Kind, Refused
from tracestone.schema.settings import Settings

MAX_STATEMENT_BYTES = 256 * 1024
_MAX_VALUE_CHARS = 256
# What our views are to be read with. They say so themselves, but `readonly = 1` keeps settings of a view from being
# applied, and without this one a read of a trace by its id took three times as long.
VIEWS = {"optimize_move_to_prewhere_if_final": "1"}


@dataclass(frozen=True)
class Limits:
    """One statement's bounds: seconds, bytes of memory, rows and bytes of its answer."""

    seconds: int
    memory_bytes: int
    rows: int
    answer_bytes: int

    @classmethod
    def of(cls, settings: Settings) -> "Limits":
        """The limits the operator chose. An answer is held in memory whole, so it has its own bound."""
        return cls(
            seconds=settings.sql_max_seconds,
            memory_bytes=settings.sql_max_memory_bytes,
            rows=settings.sql_max_rows,
            answer_bytes=settings.sql_max_answer_bytes,
        )

    def while_parsing(self) -> dict[str, str]:
        """What holds from the first byte: time, memory, size and depth."""
        return {
            "max_execution_time": str(self.seconds),
            "max_memory_usage": str(self.memory_bytes),
            "max_query_size": str(MAX_STATEMENT_BYTES),
            # The engine analyses a statement before it looks at the clock.
            "max_expanded_ast_elements": "100000",
            "allow_introspection_functions": "0",
            "allow_ddl": "0",
            "timeout_overflow_mode": "throw",
        }

    def while_running(self, *, at_least_rows: int = 0) -> dict[str, str]:
        """What is added for the statement itself. Nothing spills to disk, so memory is the only thing to bound."""
        return {
            **VIEWS,
            "max_result_rows": str(max(self.rows, at_least_rows)),
            "max_result_bytes": str(self.answer_bytes),
            "result_overflow_mode": "throw",
            "max_bytes_before_external_group_by": "0",
            "max_bytes_before_external_sort": "0",
            "max_bytes_ratio_before_external_group_by": "0",
            "max_bytes_ratio_before_external_sort": "0",
        }

    def caps(self) -> dict[str, float]:
        """The limits that have a value here, by the engine's name."""
        return {
            "max_execution_time": self.seconds,
            "max_memory_usage": self.memory_bytes,
            "max_result_rows": self.rows,
            "max_result_bytes": self.answer_bytes,
            "max_query_size": MAX_STATEMENT_BYTES,
            "max_block_size": 65_536,
            "max_threads": 64,
        }


def chosen(
    limits: Limits, known: frozenset[str], from_url: Mapping[str, str], from_clause: Mapping[str, str | None]
) -> dict[str, str]:
    """The settings to run with, on top of the limits. Raises Refused naming the setting and the reason."""
    result: dict[str, str] = {}
    caps = limits.caps()
    for name, value in from_url.items():
        if name in IGNORED_PARAMETERS:
            continue
        _check(name, value, known)
        result[name] = value if name not in LOWERABLE else _lowered(name, value, caps.get(name), cut=True)
    for name, given in from_clause.items():
        _check(name, given or "", known)
        if given is None:
            result.pop(name, None)
        else:
            result[name] = given if name not in LOWERABLE else _lowered(name, given, caps.get(name), cut=False)
    return result


def _check(name: str, value: str, known: frozenset[str]) -> None:
    if name not in known:
        raise Refused(Kind.UNKNOWN_SETTING, f"Unknown setting '{name[:100]}'")
    shapes_answer = name.startswith(SETTING_PREFIXES) and name not in SETTINGS_REFUSED
    if not (shapes_answer or name in SETTINGS or name in LOWERABLE):
        raise Refused(
            Kind.SETTING_CONSTRAINT_VIOLATION,
            f"The setting {name} must not be changed by readers of this endpoint",
        )
    if len(value) > _MAX_VALUE_CHARS or not value.isprintable() and value not in ("\t", "\n"):
        raise Refused(Kind.BAD_ARGUMENTS, f"The value of the setting {name} is not short plain text")


def _lowered(name: str, value: str, cap: float | None, *, cut: bool) -> str:
    try:
        number = float(value)
    except ValueError:
        raise Refused(Kind.BAD_ARGUMENTS, f"The setting {name} must be a number, not '{value}'") from None
    if not 0 <= number < 2**63:
        raise Refused(Kind.BAD_ARGUMENTS, f"The setting {name} must be a number from 0")
    if cap is None or 0 < number <= cap:
        return value
    if cut:
        return str(int(cap))
    raise Refused(
        Kind.SETTING_CONSTRAINT_VIOLATION,
        f"The setting {name} may be lowered but not raised: the limit here is {int(cap)}, and 0 would mean none",
    )
