"""A share for each user, or whatever a configuration is fair by, so that few with much traffic do not fill a sample.

With the rate r of a target's stratum, k targets wanted of a member in an hour, and V targets that the member had in the
clock hour before the one in which the target became due, the target is chosen with the probability

    p = min(r, k / V)

V is counted once, when the hour is first looked at, and kept in ClickHouse, so every look and every replica takes the
same. It is known before the target is drawn and has nothing to do with the hash, so p is exact whatever the member does
in the hour itself; what a member has more of than in the hour before is chosen more often in proportion.
"""

import hashlib
import json
from typing import Any

from tracestone.schema import sqlfiles
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.filter_sql import compose, compose_fair
from tracestone.schema.sampling import past
from tracestone.schema.scorers.online import OnlineConfig

_SQL = sqlfiles.queries("clickhouse", "sampling")
_HOUR_NS = 3600 * 10**9


def bounded(due: str, config: OnlineConfig) -> str:
    """The SELECT of due targets, with the bound of each."""
    return compose_fair(
        _SQL["fair_due"].replace("/* due */", due.replace(", 9007199254740992 AS cap", "")), config.fair_by
    )


def parameters(config: OnlineConfig, due_ns: int) -> dict[str, Any]:
    """The parameters of that SELECT for targets of one hour of due times, and of what counts the hour before."""
    # Who had no more than this is chosen at the rate, whatever its stratum.
    least = (config.fair_per_hour or 0) / (max(config.rates) or 1)
    said = [config.target_type, config.experiment_id, config.fair_by, least, config.filter]
    return {
        "basis": hashlib.sha256(json.dumps(said).encode()).hexdigest(),
        "hour_ns": due_ns // _HOUR_NS * _HOUR_NS,
        "fair_per_hour": config.fair_per_hour,
        "least_volume": least,
    }


async def count_hour(columnar: Columnar, config: OnlineConfig, due_ns: int) -> int:
    """Counts the hour before the one of a due time, unless that was done; when the hour ends.

    Raises StatementFailed, StorageDown.
    """
    known = parameters(config, due_ns)
    hour_ns: int = known["hour_ns"]
    rows = await columnar.query(_SQL["volumes_known"], known)
    if not rows[0]["known"]:
        statement = compose_fair(past.composed("take_volumes", config), config.fair_by)
        await columnar.command(
            compose(statement, config.filter), known | past.span_of(config, hour_ns - _HOUR_NS, hour_ns)
        )
    return hour_ns + _HOUR_NS
