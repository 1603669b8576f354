"""A price: what the tokens of one model cost, from one day on; in USD per million tokens, as providers list it.

What a price leaves out falls back: the cache's tokens cost what input does, reasoning what output does, audio and
images what text does. So does litellm. Where images are what is paid for, tokens without a price are free.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal, get_args

from tracestone.schema.errors import Invalid

Scope = Literal["shipped", "deployment", "experiment"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

TOKENS = 1_000_000
ALWAYS = date(1970, 1, 1)
"""The day from which a price is in force that has always been."""
TIER_BUCKETS = ("input", "output", "cache_read", "cache_write", "reasoning", "input_audio", "output_audio")
BUCKETS = (*TIER_BUCKETS, "input_image", "output_image", "image")
"""What has a price; all but `image`, which is for each image made, are kinds of tokens."""

_MAX_NAME_CHARACTERS = 300
_MAX_TIERS = 20
# A million tokens for a million dollars, or one image for that.
_MOST_USD = 1e6
# ClickHouse's Date ends in 2149.
_LAST_DAY = date(2149, 1, 1)


@dataclass(frozen=True)
class Tier:
    """Prices of a whole request whose input has more than so many tokens; other buckets keep theirs."""

    above_tokens: int
    prices: Mapping[str, float]


@dataclass(frozen=True)
class Price:
    """What a model of a provider costs, in USD per million tokens, `image` in USD for each.

    A provider of "" means any. `experiment_id` is 0 but in the scope experiment.
    """

    provider: str
    model: str
    prices: Mapping[str, float]
    tiers: tuple[Tier, ...] = ()
    effective_from: date = ALWAYS
    scope: Scope = "shipped"
    experiment_id: int = 0
    source: str = field(default="", compare=False)

    @property
    def key(self) -> tuple[str, int, str, str, date]:
        """What a price is known by; a second one replaces the first."""
        return self.scope, self.experiment_id, self.provider, self.model, self.effective_from

    def costs_the_same(self, other: "Price") -> bool:
        """Whether both cost the same, whatever their days."""
        return (dict(self.prices), self.tiers) == (dict(other.prices), other.tiers)


def read_prices(
    given: Mapping[str, Any], field_name: str = "prices", buckets: tuple[str, ...] = BUCKETS
) -> dict[str, float]:
    """Prices as somebody gave them, those that are None left out. Raises Invalid that names the bucket."""
    read: dict[str, float] = {}
    for bucket, value in given.items():
        if bucket not in buckets:
            raise Invalid(field_name, f"knows no {str(bucket)[:50]!r}; they are {', '.join(buckets)}")
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise Invalid(f"{field_name}.{bucket}", "must be a number: USD per million tokens")
        if not 0 <= value <= _MOST_USD:
            raise Invalid(f"{field_name}.{bucket}", f"must be between 0 and {_MOST_USD:,.0f} USD per million tokens")
        read[bucket] = float(value)
    return read


def read_tiers(given: Any, field_name: str = "tiers") -> tuple[Tier, ...]:
    """Tiers as somebody gave them: a list of {above_tokens, input, output, …}. Raises Invalid."""
    if given is None:
        return ()
    if not isinstance(given, list) or len(given) > _MAX_TIERS:
        raise Invalid(field_name, f"must be a list of at most {_MAX_TIERS} tiers")
    tiers = []
    for number, entry in enumerate(given):
        name = f"{field_name}[{number}]"
        if not isinstance(entry, Mapping):
            raise Invalid(name, "must hold above_tokens and prices")
        above = entry.get("above_tokens")
        if isinstance(above, bool) or not isinstance(above, int) or not 0 < above < 2**31:
            raise Invalid(f"{name}.above_tokens", "must be a whole number of tokens above 0")
        prices = read_prices({k: v for k, v in entry.items() if k != "above_tokens"}, name, TIER_BUCKETS)
        if not prices:
            raise Invalid(name, f"must hold at least one of {', '.join(TIER_BUCKETS)}")
        tiers.append(Tier(above, prices))
    tiers.sort(key=lambda tier: tier.above_tokens)
    if len({tier.above_tokens for tier in tiers}) < len(tiers):
        raise Invalid(field_name, "must each begin above another number of tokens")
    return tuple(tiers)


def read_day(given: Any, field_name: str = "effective_from") -> date:
    """A day as YYYY-MM-DD; None or "" is always. Raises Invalid."""
    if given in (None, ""):
        return ALWAYS
    try:
        day = given if isinstance(given, date) else date.fromisoformat(given)
    except (TypeError, ValueError):
        raise Invalid(field_name, "must be a day such as 2026-08-01") from None
    if not ALWAYS <= day < _LAST_DAY:
        raise Invalid(field_name, f"must be a day from {ALWAYS} on and before {_LAST_DAY}")
    return day


def checked(price: Price) -> Price:
    """The price itself. Raises Invalid where it is none."""
    for name, text, least in (("provider", price.provider, 0), ("model", price.model, 1)):
        if not least <= len(text) <= _MAX_NAME_CHARACTERS or text != text.strip() or not text.isprintable():
            raise Invalid(name, f"must be a text of {least} to {_MAX_NAME_CHARACTERS} characters on one line")
    if "input" not in price.prices and "image" not in price.prices:
        raise Invalid("prices", "must hold one for input, or for each image")
    return price
