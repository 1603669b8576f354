"""All signals there are."""

from tracestone.collector.signals.logs import LOGS
from tracestone.collector.signals.metrics import METRICS
from tracestone.collector.signals.signal import Signal
from tracestone.collector.signals.traces import TRACES

SIGNALS: tuple[Signal, ...] = (TRACES, LOGS, METRICS)
