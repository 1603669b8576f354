"""Targets that are stored already, by when they began: the statement that reads them, and how many there are."""

from typing import Any

from tracestone.schema import sqlfiles
from tracestone.schema.assessments import TargetType
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.filter_sql import compose, compose_strata
from tracestone.schema.sampling.rates import sampling
from tracestone.schema.scorers.online import OnlineConfig

_SQL = sqlfiles.queries("clickhouse", "sampling")
_PAST: dict[TargetType, str] = {
    "trace": _SQL["past_traces"],
    "span": _SQL["past_spans"],
    "session": _SQL["past_sessions"],
}


def composed(query: str, config: OnlineConfig) -> str:
    """The named statement over past targets; its filter is still to be filled in."""
    return compose_strata(_SQL[query].replace("/* due */", _PAST[config.target_type]), [])


def span_of(config: OnlineConfig, from_ns: int, until_ns: int) -> dict[str, Any]:
    """The parameters that say which targets: those that began from `from_ns` on and before `until_ns`."""
    return {
        "from_ns": from_ns,
        "until_ns": until_ns,
        "every": int(config.experiment_id is None),
        "experiment_id": config.experiment_id or 0,
    }


async def count(columnar: Columnar, config: OnlineConfig, from_ns: int, until_ns: int) -> tuple[int, int]:
    """How many targets began in a range and pass the filter, and how many of them sampling chooses.

    Raises StatementFailed, StorageDown.
    """
    parameters = span_of(config, from_ns, until_ns) | sampling(config)
    rows = await columnar.query(compose(composed("count", config), config.filter), parameters)
    return int(rows[0]["found"]), int(rows[0]["chosen"])
