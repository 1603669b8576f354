"""`GET /metrics`: everything in the text format of Prometheus. The table of all metrics is in docs/operations.md."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from tracestone.collector.ingest.loader import LoaderState
from tracestone.collector.ingest.pipeline import Backlog
from tracestone.collector.metrics.durations import BOUNDS
from tracestone.schema.budgets import BudgetState
from tracestone.schema.stores.dead_jobs import DeadCount

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# What receivers count: by the first word of a key, the metric, what the other words are, and help.
_COUNTED = {
    "requests": ("receiver_requests", ("transport", "signal", "outcome"), "OTLP requests answered, by outcome."),
    "bytes": ("receiver_bytes", ("transport", "signal"), "Bytes of acknowledged requests, decompressed."),
    "items": ("receiver_items", ("transport", "signal", "outcome"), "Spans, log records and data points."),
    "truncated": ("receiver_truncated_items", ("signal",), "Items of which something was cut off or left out."),
    "senders": ("receiver_senders", ("family",), "Requests by the exporter that sent them."),
    "given_up": ("receiver_bodies_given_up", (), "Bodies that came too slowly."),
}
_STATES = {
    "body_bytes": ("receiver_body_bytes", "Bytes of the requests in work."),
    "pending_bytes": ("wal_pending_bytes", "Bytes taken that are not on the disk yet."),
}


@dataclass(frozen=True)
class Facts:
    """What there is to tell. `receiver` is added up over processes; None is what could not be found out."""

    receiver: Mapping[str, float]
    backlogs: Sequence[Backlog]
    loaders: Mapping[str, LoaderState]
    letters: Mapping[tuple[str, str], int]
    letters_kept: int
    evaluations: Mapping[str, int]
    problems: Mapping[str, str]
    mirror_waiting: int | None = None
    jobs: Mapping[str, int] | None = None
    judges: Mapping[str, float] = field(default_factory=dict)
    budgets: Sequence[BudgetState] = ()
    dead_jobs: Sequence[DeadCount] = ()
    reviews: Mapping[str, int] = field(default_factory=dict)
    emitted: Mapping[str, int] = field(default_factory=dict)
    webhooks: Mapping[str, int] = field(default_factory=dict)


def exposition(facts: Facts) -> bytes:
    """The facts as Prometheus reads them."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Told(facts))
    ProcessCollector(registry=registry)
    return generate_latest(registry)


class _Told(Collector):
    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    def collect(self) -> Iterator[Metric]:
        facts = self._facts
        yield _gauge("build_info", "The version that runs.", ("version",), [((version("tracestone"),), 1)])
        up = [((part,), float(not problem)) for part, problem in facts.problems.items()]
        yield _gauge("part_up", "1 for each part of /health that works.", ("part",), up)
        yield from _receiver(facts.receiver)
        yield from _logs(facts.backlogs)
        yield from _loaders(facts.loaders)
        yield _gauge("dead_letters", "Dead letters in the data folder.", ("signal", "kind"), facts.letters.items())
        yield _counter("dead_letters_kept", "Dead letters made since the start.", (), [((), facts.letters_kept)])
        events = [((outcome,), count) for outcome, count in facts.evaluations.items()]
        yield _counter("evaluations", "Evaluation events of log records, by what became of them.", ("outcome",), events)
        emitted = [((outcome,), count) for outcome, count in facts.emitted.items()]
        yield _counter("evaluations_emitted", "Assessments as events to an OTLP endpoint.", ("outcome",), emitted)
        tries = [((outcome,), count) for outcome, count in facts.webhooks.items()]
        yield _counter("webhook_tries", "Deliveries to webhooks, by what became of a try.", ("outcome",), tries)
        if facts.mirror_waiting is not None:
            help_text = "Rows of assessments and experiments that ClickHouse does not have yet."
            yield _gauge("mirror_waiting_rows", help_text, (), [((), facts.mirror_waiting)])
        if facts.jobs is not None:
            rows = [((state,), count) for state, count in facts.jobs.items()]
            yield _gauge("scoring_jobs", "Scoring jobs that are not done.", ("state",), rows)
        judges = facts.judges
        if judges:
            calls = [((outcome,), judges[outcome]) for outcome in ("ok", "failed")]
            yield _counter("judge_calls", "Calls of judges to models, since the start.", ("outcome",), calls)
            yield _counter("judge_cost_usd", "What these calls cost, where known.", (), [((), judges["cost_usd"])])
        yield from _budgets(facts.budgets)
        dead = [((each.scorer_name, each.code), each.jobs) for each in facts.dead_jobs]
        yield _gauge("scoring_dead_jobs", "Scoring jobs that were given up.", ("scorer", "code"), dead)
        reviews = [((scorer,), count) for scorer, count in facts.reviews.items()]
        yield _gauge("reviews_waiting", "Targets that wait for a person's answer.", ("scorer",), reviews)


def _budgets(states: Sequence[BudgetState]) -> Iterator[Metric]:
    labels = ("budget", "scorer", "experiment", "unit", "period")
    values: dict[str, list[tuple[tuple[str, ...], float]]] = {"cap": [], "spent": [], "reserved": []}
    for state in states:
        budget = state.budget
        experiment = "" if budget.experiment_id is None else str(budget.experiment_id)
        row = (str(budget.budget_id), budget.scorer, experiment, budget.unit, budget.period)
        for name, value in (("cap", budget.cap), ("spent", state.spent), ("reserved", state.reserved)):
            values[name].append((row, value))
    yield _gauge("budget_cap", "What judges may spend in a period, in the budget's unit.", labels, values["cap"])
    yield _gauge("budget_spent", "What they have spent in this period.", labels, values["spent"])
    yield _gauge("budget_reserved", "What calls under way may spend at most.", labels, values["reserved"])


def _receiver(numbers: Mapping[str, float]) -> Iterator[Metric]:
    words = [(key.split(" "), value) for key, value in sorted(numbers.items())]
    for first, (name, labels, help_text) in _COUNTED.items():
        rows = [(tuple(rest), value) for (start, *rest), value in words if start == first]
        yield _counter(name, help_text, labels, rows)
    for state, (name, help_text) in _STATES.items():
        yield _gauge(name, help_text, (), [((), numbers.get(f"now {state}", 0))])
    syncs = HistogramMetricFamily(
        "tracestone_wal_sync_seconds", "How long making a group of requests durable took.", labels=("signal",)
    )
    for signal in sorted({rest[0] for (start, *rest), _ in words if start == "log_sync"}):
        _add_histogram(syncs, signal, numbers, f"log_sync {signal}")
    yield syncs


def _logs(backlogs: Sequence[Backlog]) -> Iterator[Metric]:
    for name, attribute, help_text in (
        ("wal_waiting_bytes", "waiting_bytes", "Bytes in the write-ahead log that are not stored."),
        ("wal_disk_bytes", "disk_bytes", "Bytes that the segments of the log hold."),
        ("wal_bound_bytes", "bound_bytes", "Bytes that they may hold before senders must wait."),
        ("wal_segments", "segments", "Segments of the log."),
        ("wal_quarantined_segments", "quarantined", "Segments that were set aside because they are damaged."),
        ("wal_missing_bytes", "missing_bytes", "Bytes that were acknowledged and are lost."),
        ("loader_oldest_seconds", "oldest_seconds", "Age of the oldest record in work that is not stored."),
    ):
        rows = [((each.signal,), float(getattr(each, attribute))) for each in backlogs]
        yield _gauge(name, help_text, ("signal",), rows)


def _loaders(loaders: Mapping[str, LoaderState]) -> Iterator[Metric]:
    for name, attribute, help_text in (
        ("loader_batches", "batches", "Batches stored."),
        ("loader_requests", "records", "Requests stored."),
        ("loader_bytes", "payload_bytes", "Bytes stored, as received."),
        ("loader_failures", "failures", "Tries that failed, of any step; they are made again."),
    ):
        rows = [((signal,), float(getattr(state, attribute))) for signal, state in loaders.items()]
        yield _counter(name, help_text, ("signal",), rows)
    for name, attribute, help_text in (
        ("loader_insert_seconds", "inserts", "How long an insert into ClickHouse took."),
        ("loader_follow_seconds", "follows", "How long what follows inserts took: for spans, computing traces."),
    ):
        family = HistogramMetricFamily(f"tracestone_{name}", help_text, labels=("signal",))
        for signal, state in loaders.items():
            _add_histogram(family, signal, getattr(state, attribute).numbers("all"), "all")
        yield family


def _add_histogram(family: HistogramMetricFamily, signal: str, numbers: Mapping[str, float], name: str) -> None:
    """Adds what `Durations.numbers` gave, which counts each bucket for itself; Prometheus wants them added up."""
    count = 0.0
    buckets = []
    for place, bound in enumerate([*map(str, BOUNDS), "+Inf"]):
        count += numbers.get(f"{name} {place}", 0)
        buckets.append((bound, count))
    family.add_metric((signal,), buckets, numbers.get(f"{name} sum", 0.0))


Rows = Iterable[tuple[Sequence[str], float]]


def _counter(name: str, help_text: str, labels: Sequence[str], rows: Rows) -> Metric:
    family = CounterMetricFamily(f"tracestone_{name}", help_text, labels=labels)
    for values, value in rows:
        family.add_metric(values, value)
    return family


def _gauge(name: str, help_text: str, labels: Sequence[str], rows: Rows) -> Metric:
    family = GaugeMetricFamily(f"tracestone_{name}", help_text, labels=labels)
    for values, value in rows:
        family.add_metric(values, value)
    return family
