"""Heuristics that read how a trace ran: its duration, its errors. Pure."""

from tracestone.schema.scorers.heuristics import ErrorFree, Latency
from tracestone.scoring.scorers.protocol import Finding, Subject


def latency(parameters: Latency, subject: Subject) -> Finding:
    """True when it took at most `max_ms`."""
    took_ms = subject.duration_ns / 1e6
    return Finding(
        took_ms <= parameters.max_ms,
        f"The {subject.target_type} took {took_ms:.1f} ms; at most {parameters.max_ms:g} ms are allowed.",
    )


def error(parameters: ErrorFree, subject: Subject) -> Finding:
    """True when the target, or any span of it, ended in an error."""
    del parameters
    infos = [turn.trace.info for turn in subject.turns]
    if subject.span is not None:
        spans, failures = 1, int(subject.span.status_code == "ERROR")
    else:
        spans, failures = sum(info.span_count for info in infos), sum(info.error_count for info in infos)
        failures = failures or int(any(info.state == "ERROR" for info in infos))
    if not failures:
        return Finding(False, "No span ended in an error.")
    failed = next((span for span in subject.spans if span.status_code == "ERROR"), None)
    if failed is None:
        return Finding(True, f"The {subject.target_type} ended in an error.")
    reason = failed.error_type or failed.status_message or "no reason given"
    return Finding(
        True,
        f"{failures} of {spans} spans ended in an error; the first was {failed.name}: {reason}"[:500],
    )
