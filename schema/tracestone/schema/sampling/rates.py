"""From a rate to the hash buckets that it keeps. Pure."""

import math
from typing import Any

from tracestone.schema.scorers.online import OnlineConfig

_BUCKETS = 2**53


def threshold(rate: float) -> int:
    """How many of the 2^53 hash buckets are kept at a rate in [0, 1]."""
    return min(_BUCKETS, math.ceil(rate * _BUCKETS))


def probability(rate: float) -> float:
    """The exact probability with which a rate keeps a target."""
    return kept_by(threshold(rate))


def kept_by(buckets: int) -> float:
    """The probability with which so many of the 2^53 buckets keep a target; exact."""
    return buckets / _BUCKETS


def sampling(config: OnlineConfig) -> dict[str, Any]:
    """The parameters of a statement that samples by a configuration."""
    # What comes after a scorer draws anew, or its rate would be one of what that scorer's draw has let through already.
    stage = f"{config.after}:" if config.after else ""
    return {"salt": config.salt, "stage": stage, "thresholds": [threshold(rate) for rate in config.rates]}
