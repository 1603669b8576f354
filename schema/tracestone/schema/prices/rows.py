"""A price as the stores keep it: in Postgres as people gave it, in ClickHouse in USD per token."""

from collections.abc import Mapping
from datetime import date
from typing import Any, cast

from tracestone.schema.prices.price import BUCKETS, TIER_BUCKETS, TOKENS, Price, Scope, read_day, read_tiers


def postgres_row(price: Price) -> dict[str, Any]:
    """The row of tracestone.model_prices."""
    return {
        "scope": price.scope,
        "experiment_id": price.experiment_id,
        "provider": price.provider,
        "model": price.model,
        "effective_from": price.effective_from.isoformat(),
        "prices": dict(price.prices),
        "tiers": [{"above_tokens": tier.above_tokens, **tier.prices} for tier in price.tiers],
        "source": price.source,
    }


def price_of(row: Mapping[str, Any]) -> Price:
    """The price of a row of tracestone.model_prices."""
    return Price(
        row["provider"],
        row["model"],
        row["prices"],
        read_tiers(row["tiers"]),
        read_day(row["effective_from"]),
        cast(Scope, row["scope"]),
        row["experiment_id"],
        row["source"],
    )


def clickhouse_row(price: Price, *, own: bool) -> dict[str, Any]:
    """The row of model_price_rows, but for its version; `own` says that it is also in Postgres."""
    return {
        "scope": price.scope,
        "experiment_id": price.experiment_id,
        "provider": price.provider,
        "model": price.model,
        "effective_from": price.effective_from.isoformat(),
        "own": own,
        **_per_token(price.prices),
        "tiers": [{"above_tokens": tier.above_tokens, **_per_token(tier.prices)} for tier in price.tiers],
        "source": price.source,
    }


def price_of_columns(row: Mapping[str, Any]) -> Price:
    """The price of a row of model_price_rows."""
    tiers = [
        {"above_tokens": tier["above_tokens"], **_per_million({bucket: tier[bucket] for bucket in TIER_BUCKETS})}
        for tier in row["tiers"]
    ]
    prices = _per_million({bucket: row[bucket] for bucket in BUCKETS})
    return price_of({**row, "prices": prices, "tiers": tiers})


def _per_million(prices: Mapping[str, float | None]) -> dict[str, float]:
    # A price was at most of so many digits before it was divided.
    return {
        bucket: price if bucket == "image" else float(f"{price * TOKENS:.12g}")
        for bucket, price in prices.items()
        if price is not None
    }


def _per_token(prices: Mapping[str, float]) -> dict[str, float]:
    return {bucket: price if bucket == "image" else price / TOKENS for bucket, price in prices.items()}


def day_text(day: date) -> str:
    """A day as people read it, "" for always."""
    return "" if day == read_day(None) else day.isoformat()
