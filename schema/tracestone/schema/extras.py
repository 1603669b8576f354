"""Libraries that only some installations have."""

import importlib
from functools import cache
from typing import Any

from tracestone.schema.errors import MissingExtra


@cache
def optional(module: str, package: str, extra: str) -> Any:
    """The imported module. Raises MissingExtra, naming the package and the extra that brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtra(package, extra) from error
