"""A price as people give it, in the prices file and through the API: USD per million tokens, `image` USD for each.

    {"model": "gpt-4o", "provider": "openai", "input": 2.0, "output": 8.0, "cache_read": 1.0,
     "tiers": [{"above_tokens": 200000, "input": 4.0, "output": 12.0}], "from": "2026-08-01", "experiment": "support"}

Without a provider it is for any, without `from` for always, without an experiment for the whole deployment.
"""

from collections.abc import Mapping
from typing import Any

from tracestone.schema.errors import Invalid
from tracestone.schema.prices.price import ALWAYS, BUCKETS, Price, checked, read_day, read_prices, read_tiers
from tracestone.schema.prices.providers import provider_of, split

FIELDS = ("model", "provider", "from", "experiment", "tiers", *BUCKETS)


def read(entry: Any) -> tuple[Price, str]:
    """The price, and the id or name of its experiment, "" without. Raises Invalid that names the field."""
    if not isinstance(entry, Mapping):
        raise Invalid("", "must be an object with a model and prices")
    for name in entry:
        if name not in FIELDS:
            raise Invalid(str(name)[:100], f"is not known here; known are {', '.join(FIELDS)}")
    model, provider = _text(entry, "model"), _text(entry, "provider")
    if not provider:
        provider, model = split(model)
    price = Price(
        provider_of(provider),
        model,
        read_prices({bucket: entry[bucket] for bucket in BUCKETS if bucket in entry}),
        read_tiers(entry.get("tiers")),
        read_day(entry.get("from"), "from"),
        "deployment",
    )
    return checked(price), _text(entry, "experiment")


def shown(price: Price) -> dict[str, Any]:
    """A price as the API shows it."""
    return {
        "scope": price.scope,
        "experiment_id": price.experiment_id if price.scope == "experiment" else None,
        "provider": price.provider,
        "model": price.model,
        "from": None if price.effective_from == ALWAYS else price.effective_from.isoformat(),
        **price.prices,
        "tiers": [{"above_tokens": tier.above_tokens, **tier.prices} for tier in price.tiers],
        "source": price.source or "shipped",
    }


def _text(entry: Mapping[str, Any], name: str) -> str:
    value = entry.get(name)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise Invalid(name, "must be a text")
    return str(value)
