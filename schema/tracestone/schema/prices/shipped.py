"""The prices that come with the package: shipped.csv, made by `python -m tracestone.schema.prices.make`."""

import hashlib
from functools import cache
from importlib.resources import files

from tracestone.schema.prices import table_file
from tracestone.schema.prices.price import Price


@cache
def text() -> str:
    """The file as it is."""
    return (files(__package__) / "shipped.csv").read_text(encoding="utf-8")


@cache
def prices() -> tuple[Price, ...]:
    """All rows."""
    return tuple(table_file.read(text()))


@cache
def version() -> str:
    """Names the content of this file and of the list of providers: two that differ have two names."""
    providers = (files(__package__) / "providers.csv").read_bytes()
    return "shipped " + hashlib.sha256(text().encode() + providers).hexdigest()[:16]
