"""Nested attribute values as JSON text, for the requests that have one.

ClickHouse reads a fixed set of columns; a value that holds values of its own (a key-value list, an array of arrays) has
no place there. It becomes JSON text in `AnyValue.json_value`: bytes as base64, NaN and infinities quoted, 64-bit
integers as numbers, an empty value as null (OpenTelemetry specification, common, "Attribute collections"). A key-value
list with a key twice, which the specification forbids, becomes an array of [key, value] pairs, so that none is lost.
"""

import base64
import json
import math
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from tracestone.collector.receiver.deep import TOO_DEEP, unfolded
from tracestone.collector.receiver.fields import delimited
from tracestone.collector.signals.signal import Signal


def rewritten(signal: Signal, request: Any, max_nesting: int) -> Any:
    """A request of OTLP's own class with every nested value as JSON text, as the class of what the log stores.

    A value deeper than `max_nesting` is cut there, visibly.
    """
    found = list(signal.nested(request))
    texts = [json.dumps(_plain(value, max_nesting), ensure_ascii=False, separators=(",", ":")) for value in found]
    for value, text in zip(found, texts, strict=True):
        # The number of `AnyValue.json_value`, which OTLP's own class keeps as unknown.
        value.ParseFromString(delimited(100, text.encode()))
    return signal.message.FromString(request.SerializeToString())


def _plain(value: AnyValue, depth: int) -> Any:
    kind = value.WhichOneof("value")
    if kind == "kvlist_value":
        if depth == 0:
            return TOO_DEEP
        pairs = [(pair.key, _plain(pair.value, depth - 1)) for pair in value.kvlist_value.values]
        found = dict(pairs)
        return found if len(found) == len(pairs) else pairs
    if kind == "array_value":
        if depth == 0:
            return TOO_DEEP
        return [_plain(item, depth - 1) for item in value.array_value.values]
    if kind == "bytes_value":
        inner = unfolded(value.bytes_value)
        return base64.b64encode(value.bytes_value).decode() if inner is None else _plain(inner, depth)
    if kind == "double_value":
        return _number(value.double_value)
    return getattr(value, kind) if kind in ("string_value", "bool_value", "int_value") else None


def _number(value: float) -> float | str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value
