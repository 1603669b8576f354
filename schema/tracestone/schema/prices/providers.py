"""The providers that the price list knows, as providers.csv has them.

`alias` is a name that a provider is called by: OpenTelemetry's, litellm's, the one in front of a gateway's model names.
A `maker` makes the models that it sells: where a span tells no provider, the maker's price is taken, the lowest number
first. `sells_for` names another provider whose models this one sells too, `*` anybody's.
"""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True)
class Alias:
    """One name of a provider; `maker` is 0 for none."""

    alias: str
    provider: str
    maker: int
    sells_for: str


@cache
def aliases() -> tuple[Alias, ...]:
    """All names."""
    text = (files(__package__) / "providers.csv").read_text(encoding="utf-8")
    return tuple(
        Alias(row["alias"], row["provider"], int(row["maker"] or 0), row["sells_for"])
        for row in csv.DictReader(text.splitlines())
    )


@cache
def _by_alias() -> dict[str, str]:
    return {each.alias: each.provider for each in aliases()}


def provider_of(name: str) -> str:
    """The provider who is called so; a name that is not known is its own."""
    return _by_alias().get(name.lower(), name.lower())


def split(model: str) -> tuple[str, str]:
    """Provider and model of a name as gateways write it, `groq/llama-3.3-70b`; "" without a known provider."""
    front, slash, rest = model.partition("/")
    known = _by_alias().get(front.lower(), "")
    return (known, rest) if slash and rest and known else ("", model)
