"""Spans stored through the map of attributes: what the fixtures `stored` and `stored_many` are."""

from collections.abc import Awaitable, Callable
from typing import Any

START = 1_790_000_000_000_000_000
Stored = Callable[..., Awaitable[dict[str, Any]]]
StoredMany = Callable[[list[dict[str, Any]]], Awaitable[list[dict[str, Any]]]]
