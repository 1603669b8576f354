"""Reads litellm's price map, `model_prices_and_context_window.json`: an object of models, each with prices per token.

https://github.com/BerriAI/litellm (MIT). Taken are prices per token and per image. Not taken: what is paid by second,
character, page, query or session; prices of batches and of other service tiers; prices at certain hours. A model whose
tokens cost nothing but something else does is left out, for its cost is not known from tokens; so is one that costs
nothing at all, unless its provider is known for that: the map also has zeros for prices that nobody knew.
"""

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from tracestone.schema.errors import Invalid
from tracestone.schema.prices.price import TOKENS, Price, Tier, checked
from tracestone.schema.prices.providers import provider_of

_KEYS = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cache_read": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost",
    "reasoning": "output_cost_per_reasoning_token",
    "input_audio": "input_cost_per_audio_token",
    "output_audio": "output_cost_per_audio_token",
    "input_image": "input_cost_per_image_token",
    "output_image": "output_cost_per_image_token",
}
_IMAGE = "output_cost_per_image"
_FREE = ("ollama", "lemonade", "llamafile", "lm_studio", "gcp.gemini")
_TIER = re.compile(r"^(?P<key>.+)_above_(?P<tokens>\d+)(?P<thousand>k?)_tokens$")
# litellm's providers for one price list each, and what stands in front of their models.
_PROVIDER_PREFIX = re.compile(r"^(?P<provider>[a-z0-9_]+?)(?:-[a-z0-9_]+[-_]models)?$")
# These bill the higher tier from the threshold on, not above it.
_FROM_THRESHOLD = ("x_ai",)
# Sizes and qualities of pictures, which no span tells.
_PICTURE = re.compile(r"(?:^|/)(?:\d+-x-\d+|\d+x\d+|low|medium|high|hd|standard|auto|max-x-max|\d+-steps)/")


def read(text: str) -> list[Price]:
    """The prices in a map, one for each provider and model, the first where several say the same name.

    Raises Invalid when it is no such map.
    """
    try:
        models = json.loads(text, parse_float=Decimal)
    except ValueError as error:
        raise Invalid("file", f"is not JSON: {error}") from None
    if not isinstance(models, dict) or not all(isinstance(entry, dict) for entry in models.values()):
        raise Invalid("file", "must be an object of models, each an object")
    found: dict[tuple[str, str], Price] = {}
    for name, entry in models.items():
        price = None if name == "sample_spec" or _PICTURE.search(name) else _price(name, entry)
        if price is not None:
            found.setdefault((price.provider, price.model.lower()), price)
    return sorted(found.values(), key=lambda price: (price.provider, price.model))


def _price(name: str, entry: Mapping[str, Any]) -> Price | None:
    given = entry.get("litellm_provider")
    front, slash, rest = name.partition("/")
    if not isinstance(given, str) or not given:
        given = front if slash else ""
    match = _PROVIDER_PREFIX.match(given)
    provider = provider_of(match["provider"] if match else given)
    model = rest if slash and (front.lower() == given.lower() or provider_of(front) == provider) else name
    prices = {bucket: _per_million(entry.get(key)) for bucket, key in _KEYS.items()}
    prices["image"] = float(entry[_IMAGE]) if _is_number(entry.get(_IMAGE)) else None
    tiers = _tiers(entry, provider)
    if tiers and not tiers[0][0]:
        (_, base), *tiers = tiers
        prices |= base
    kept = {bucket: price for bucket, price in prices.items() if price is not None}
    if "output" not in kept and "output_image" in kept:
        kept["output"] = kept["output_image"]  # it answers with pictures only
    if not provider or not ("input" in kept or kept.get("image")):
        return None
    if not any(kept.values()) and not any(any(each.values()) for _, each in tiers):
        if provider not in _FREE or _costs_otherwise(entry):
            return None
    return checked(Price(provider, model, kept, tuple(Tier(above, each) for above, each in tiers)))


def _tiers(entry: Mapping[str, Any], provider: str) -> list[tuple[int, dict[str, float]]]:
    """Prices by the tokens above which they hold, 0 for the base of a list of ranges."""
    tiers: dict[int, dict[str, float]] = {}
    buckets = {key: bucket for bucket, key in _KEYS.items() if bucket not in ("input_image", "output_image")}
    for key, value in entry.items():
        match = _TIER.match(key)
        if match and match["key"] in buckets and _is_number(value):
            above = int(match["tokens"]) * (1000 if match["thousand"] else 1) - (provider in _FROM_THRESHOLD)
            tiers.setdefault(above, {})[buckets[match["key"]]] = _million(value)
    for each in entry.get("tiered_pricing") or []:
        prices = {bucket: _million(each[key]) for key, bucket in buckets.items() if _is_number(each.get(key))}
        if prices and each.get("range"):
            tiers[int(each["range"][0])] = prices
    return sorted(tiers.items())


def _costs_otherwise(entry: Mapping[str, Any]) -> bool:
    return any("cost" in key and _is_number(value) and value > 0 for key, value in entry.items())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def _per_million(value: Any) -> float | None:
    return _million(value) if _is_number(value) else None


def _million(value: Any) -> float:
    return float(Decimal(value) * TOKENS)
