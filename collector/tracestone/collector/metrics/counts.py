"""What a receiver counts: requests and what was in them, by transport, signal and outcome.

As numbers under keys of a few words, so that those of several processes are added up key by key. Per request, never
per item; every word comes from a list that is known beforehand, whatever a sender says.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from tracestone.schema.errors import (
    Forbidden,
    Invalid,
    LogFull,
    Rejected,
    Stopping,
    StorageDown,
    TooLarge,
    Unauthenticated,
    Unavailable,
)

# The first that fits.
_OUTCOMES: tuple[tuple[type[Exception], str], ...] = (
    (TooLarge, "too_large"),
    (Unauthenticated, "unauthenticated"),
    (Forbidden, "forbidden"),
    (Invalid, "invalid"),
    (Rejected, "invalid"),
    (LogFull, "log_full"),
    (Stopping, "stopping"),
    (StorageDown, "storage_down"),
    (Unavailable, "overloaded"),
)
# How exporters begin their user agents, in lower case; the first that fits.
_SENDERS = (
    ("otel-otlp-exporter-python", "otel-python"),
    ("otlp-http-exporter-python", "otel-python"),
    ("opentelemetry-python", "otel-python"),
    ("otel-otlp-exporter-javascript", "otel-js"),
    ("otel-otlp-exporter-java", "otel-java"),
    ("otel-otlp-exporter-dotnet", "otel-dotnet"),
    ("otel-otlp-exporter-ruby", "otel-ruby"),
    ("otel-otlp-exporter-rust", "otel-rust"),
    ("otel-otlp-exporter-cpp", "otel-cpp"),
    ("otel otlp exporter go", "otel-go"),
    ("otel-go-otlp", "otel-go"),
    ("opentelemetry collector", "otel-collector"),
    ("mlflow", "mlflow"),
    ("grpc-", "grpc"),
    ("python-", "python"),
    ("curl/", "curl"),
    ("mozilla/", "browser"),
)
_MAX_AGENTS = 1000


class Counts:
    """The numbers of one process. Used on the event loop alone."""

    def __init__(self) -> None:
        self._numbers: defaultdict[str, float] = defaultdict(float)
        self._families: dict[str, str] = {}

    def took(self, transport: str, signal: str, size: int, items: int, rejected: int) -> None:
        """A request of `size` bytes, decompressed, was acknowledged with so many items taken and left out."""
        numbers, where = self._numbers, f"{transport} {signal}"
        numbers[f"requests {where} ok"] += 1
        numbers[f"bytes {where}"] += size
        numbers[f"items {where} accepted"] += items
        if rejected:
            numbers[f"items {where} rejected"] += rejected

    def refused(self, transport: str, signal: str, error: Exception) -> None:
        """A request was answered with an error."""
        outcome = next((name for kind, name in _OUTCOMES if isinstance(error, kind)), "failed")
        self._numbers[f"requests {transport} {signal} {outcome}"] += 1

    def sender(self, user_agent: str) -> None:
        """A request came from whoever calls itself that."""
        family = self._families.get(user_agent)
        if family is None:
            family = _family(user_agent)
            if len(self._families) < _MAX_AGENTS:
                self._families[user_agent] = family
        self._numbers[f"senders {family}"] += 1

    def numbers(self) -> dict[str, float]:
        """All of them, to be added up with those of other processes."""
        return dict(self._numbers)


def added_up(counters: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The numbers of several processes as one."""
    total: defaultdict[str, float] = defaultdict(float)
    for counted in counters:
        for key, value in counted.items():
            total[key] += value
    return dict(total)


def _family(user_agent: str) -> str:
    text = user_agent.lower()
    return next((family for start, family in _SENDERS if text.startswith(start)), "other" if text else "none")
