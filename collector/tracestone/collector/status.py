"""`tracestone status`: how the Tracestone is that runs, in a screenful, from its /health and /metrics."""

import json
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import click
from prometheus_client.parser import text_string_to_metric_families

from tracestone.collector.running_one import ask
from tracestone.schema import clock
from tracestone.schema.errors import Rejected
from tracestone.schema.settings import Settings

_PREFIX = "tracestone_"
_MIB = 1 << 20
_FORBIDDEN = (401, 403)


@dataclass(frozen=True)
class Sample:
    """One metric's value, without our prefix."""

    name: str
    labels: Mapping[str, str]
    value: float


def show(settings: Settings, *, seconds: float, as_json: bool) -> None:
    """Prints it; rates are those of the next `seconds`. Ends the process with 1 when a part does not work.

    Raises StorageDown when none answers, Rejected when it tells nothing without a key.
    """
    before = _metrics(settings)
    began = clock.monotonic()
    time.sleep(seconds)
    after, passed = _metrics(settings), clock.monotonic() - began
    _, body = ask(settings, "/health")
    told = summary(json.loads(body), before, after, passed)
    if as_json:
        click.echo(json.dumps(told, indent=2))
    else:
        for line in lines(told):
            click.echo(line)
    if told["broken"]:
        sys.exit(1)


def summary(health: Mapping[str, Any], before: list[Sample], after: list[Sample], seconds: float) -> dict[str, Any]:
    """What is shown, as data. Sizes are bytes, ages and times seconds, rates a second."""
    signals = sorted({each.labels["signal"] for each in after if each.name == "wal_waiting_bytes"})
    return {
        "version": next((each.labels["version"] for each in after if each.name == "build_info"), ""),
        "broken": {name: part["problem"] for name, part in health.get("parts", {}).items() if not part["ok"]},
        "warnings": dict(health.get("warnings", {})),
        "signals": {signal: _signal(signal, before, after, seconds) for signal in signals},
        "dead_letters": int(_sum(after, "dead_letters")),
        "evaluations_waiting": int(_sum(after, "mirror_waiting_rows")),
        "jobs": {each.labels["state"]: int(each.value) for each in after if each.name == "scoring_jobs"},
        "dead_jobs": int(_sum(after, "scoring_dead_jobs")),
        "judge_calls": int(_sum(after, "judge_calls_total")),
        "judge_usd": _sum(after, "judge_cost_usd_total"),
        "budgets": list(_budgets(after)),
        "memory_bytes": int(_sum(after, "process_resident_memory_bytes")),
    }


def lines(told: Mapping[str, Any]) -> Iterator[str]:
    """The same for a person."""
    broken = told["broken"]
    yield f"Tracestone {told['version']}: {'NOT WORKING: ' + ', '.join(broken) if broken else 'all parts work'}"
    for name, problem in broken.items():
        yield f"  {name}: {problem}"
    for name, text in told["warnings"].items():
        yield f"  warning, {name}: {text}"
    yield f"  {told['memory_bytes'] / _MIB:,.0f} MiB of memory"
    yield ""
    yield f"{'':10} {'a second':>10} {'accepted':>14} {'rejected':>10} {'waiting':>12} {'of':>10} {'oldest':>8}"
    for signal, each in told["signals"].items():
        yield (
            f"{signal:10} {each['per_second']:>10,.0f} {each['accepted']:>14,} {each['rejected']:>10,}"
            f" {each['waiting_bytes'] / _MIB:>8,.1f} MiB {each['bound_bytes'] / _MIB:>6,.0f} MiB"
            f" {each['oldest_seconds']:>6,.0f} s"
        )
    yield ""
    if told["dead_letters"]:
        yield f"{told['dead_letters']} dead letters: tracestone deadletter list"
    jobs = ", ".join(f"{count:,} {state.replace('_', ' ')}" for state, count in told["jobs"].items() if count)
    yield f"scoring    {jobs or 'nothing to do'}; {told['judge_calls']:,} calls of models, {told['judge_usd']:,.4f} USD"
    if told["dead_jobs"]:
        yield f"           {told['dead_jobs']:,} given up: tracestone jobs dead list"
    for each in told["budgets"]:
        yield f"budget {each['budget']:>3} {each['spent']:,.4g} of {each['cap']:,.4g} {each['unit']} a {each['period']}"


def _signal(signal: str, before: list[Sample], after: list[Sample], seconds: float) -> dict[str, Any]:
    def count(samples: list[Sample], outcome: str) -> float:
        return _sum(samples, "receiver_items_total", signal=signal, outcome=outcome)

    accepted = count(after, "accepted")
    return {
        "per_second": max(0.0, accepted - count(before, "accepted")) / seconds,
        "accepted": int(accepted),
        "rejected": int(count(after, "rejected")),
        "waiting_bytes": int(_sum(after, "wal_waiting_bytes", signal=signal)),
        "bound_bytes": int(_sum(after, "wal_bound_bytes", signal=signal)),
        "oldest_seconds": _sum(after, "loader_oldest_seconds", signal=signal),
    }


def _budgets(samples: list[Sample]) -> Iterator[dict[str, Any]]:
    for cap in samples:
        if cap.name == "budget_cap":
            spent = _sum(samples, "budget_spent", budget=cap.labels["budget"])
            yield {**cap.labels, "cap": cap.value, "spent": spent}


def _sum(samples: list[Sample], name: str, **labels: str) -> float:
    return sum(each.value for each in samples if each.name == name and labels.items() <= each.labels.items())


def _metrics(settings: Settings) -> list[Sample]:
    status, body = ask(settings, "/metrics")
    if status in _FORBIDDEN:
        raise Rejected("It demands an API key that may read: give one with the setting api_key")
    if status != 200:
        raise Rejected(f"What answers at {settings.host}:{settings.port} tells no metrics (HTTP status {status})")
    return [
        Sample(sample.name.removeprefix(_PREFIX), sample.labels, sample.value)
        for family in text_string_to_metric_families(body.decode("utf-8"))
        for sample in family.samples
    ]
