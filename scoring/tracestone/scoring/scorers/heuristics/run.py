"""Heuristics that read how a trace ran: its duration, its errors. Pure."""

from tracestone.schema.scorers import ErrorFree, Latency
from tracestone.scoring.scorers.protocol import Finding, Subject


def latency(parameters: Latency, subject: Subject) -> Finding:
    """True when the trace took at most `max_ms`."""
    took_ms = subject.trace.info.duration_ns / 1e6
    return Finding(
        took_ms <= parameters.max_ms,
        f"The trace took {took_ms:.1f} ms; at most {parameters.max_ms:g} ms are allowed.",
    )


def error(parameters: ErrorFree, subject: Subject) -> Finding:
    """True when the trace, or any span of it, ended in an error."""
    del parameters
    info = subject.trace.info
    if info.state != "ERROR" and info.error_count == 0:
        return Finding(False, "No span ended in an error.")
    failed = next((span for span in subject.trace.spans if span.status_code == "ERROR"), None)
    if failed is None:
        return Finding(True, "The trace ended in an error.")
    reason = failed.error_type or failed.status_message or "no reason given"
    return Finding(
        True,
        f"{info.error_count} of {info.span_count} spans ended in an error; the first was {failed.name}: {reason}"[:500],
    )
