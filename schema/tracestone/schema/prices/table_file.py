"""The file form of a list of prices: CSV, USD per million tokens, one price a row; `#` lines in front tell its origin.

    provider,model,effective_from,input,output,cache_read,cache_write,reasoning,…,image,tiers
    gcp.gemini,gemini-2.5-pro,,1.25,10,0.125,,,…,,200000 input=2.5 output=15 cache_read=0.25

An empty effective_from is always; tiers are separated by `;`, each the tokens above which it holds, then its prices.
"""

import csv
import io
from collections.abc import Iterable

from tracestone.schema.errors import Invalid
from tracestone.schema.prices.price import (
    ALWAYS,
    BUCKETS,
    Price,
    Tier,
    checked,
    read_day,
    read_prices,
    read_tiers,
)
from tracestone.schema.prices.providers import provider_of

COLUMNS = ("provider", "model", "effective_from", *BUCKETS, "tiers")


def read(text: str) -> list[Price]:
    """The prices in a file. Raises Invalid that names the row."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    rows = csv.DictReader(lines, strict=True)
    unknown = set(rows.fieldnames or ()) - set(COLUMNS)
    if unknown or not {"provider", "model"} <= set(rows.fieldnames or ()):
        raise Invalid("file", f"must be CSV with the columns {', '.join(COLUMNS)}; only the first two are demanded")
    found: dict[tuple[object, ...], Price] = {}
    try:
        for row in rows:
            price = _row(row)
            found[price.key] = price
    except Invalid as error:
        raise Invalid("file", f"line {rows.line_num}: {error}") from None
    except csv.Error as error:
        raise Invalid("file", f"line {rows.line_num}: {error}") from None
    return list(found.values())


def write(prices: Iterable[Price], about: Iterable[str] = ()) -> str:
    """The file, rows in order of provider, model and day."""
    text = io.StringIO()
    for line in about:
        text.write(f"# {line}\n")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    for price in sorted(prices, key=lambda price: price.key):
        day = "" if price.effective_from == ALWAYS else price.effective_from.isoformat()
        numbers = [_number(price.prices[bucket]) if bucket in price.prices else "" for bucket in BUCKETS]
        rows.writerow([price.provider, price.model, day, *numbers, "; ".join(map(_tier_text, price.tiers))])
    return text.getvalue()


def _row(row: dict[str, str]) -> Price:
    if None in row or any(value is None for value in row.values()):
        raise Invalid("row", "has more or fewer cells than the first line")
    prices = read_prices({bucket: _float(row[bucket], bucket) for bucket in BUCKETS if row.get(bucket)})
    price = Price(
        provider_of(row["provider"]),
        row["model"],
        prices,
        read_tiers([read_tier(text) for text in (row.get("tiers") or "").split(";") if text.strip()]),
        read_day(row.get("effective_from")),
    )
    return checked(price)


def read_tier(text: str) -> dict[str, float | int]:
    """A tier as it is written: the tokens above which it holds, then its prices. Raises Invalid."""
    above, *pairs = text.split() or [""]
    split = [pair.partition("=") for pair in pairs]
    if not above.isdigit() or not all(equals for _, equals, _ in split):
        raise Invalid("tiers", "must be of the form: 200000 input=2.5 output=15; …")
    return {"above_tokens": int(above), **{bucket: _float(number, bucket) for bucket, _, number in split}}


def _tier_text(tier: Tier) -> str:
    prices = " ".join(f"{bucket}={_number(price)}" for bucket, price in tier.prices.items())
    return f"{tier.above_tokens} {prices}"


def _float(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise Invalid(name, "must be a number: USD per million tokens") from None


def _number(value: float) -> str:
    return repr(int(value)) if value == int(value) else repr(value)
