"""With what chance a span was kept at its source: OpenTelemetry's consistent probability sampling. Pure.

A sampler writes its threshold T into the entry `ot` of the span's trace state, as `th`: 1 to 14 hexadecimal digits,
to be padded with zeros on the right. The span was kept with the probability (2^56 - T) / 2^56. A span without `th` was
kept for reasons that it does not tell, so its chance is unknown, and not 1.
https://opentelemetry.io/docs/specs/otel/trace/tracestate-probability-sampling/
"""

import re

_WHOLE = 2**56
_THRESHOLD = re.compile(r"[0-9a-f]{1,14}")


def probability(trace_state: str) -> float | None:
    """The chance in (0, 1]; None when it is unknown."""
    for entry in trace_state.split(","):
        key, _, value = entry.strip().partition("=")
        if key != "ot":
            continue
        for part in value.split(";"):
            name, _, digits = part.partition(":")
            if name == "th" and _THRESHOLD.fullmatch(digits):
                return (_WHOLE - int(digits.ljust(14, "0"), 16)) / _WHOLE
    return None
