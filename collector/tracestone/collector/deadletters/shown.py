"""What a dead letter holds, as JSON for a person: one line an item, ids in hex as in OTLP's own JSON."""

import base64
from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError

from tracestone.collector.signals.signal import Signal

_HEX = ("traceId", "spanId", "parentSpanId")


def items(signal: Signal, records: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Each item with what it shares with others. What is no message is given as base64."""
    for record in records:
        try:
            message = signal.message.FromString(record)
        except DecodeError as error:
            yield {"unreadable": base64.b64encode(record).decode(), "problem": str(error)}
            continue
        for number, resource in enumerate(signal.resources(message)):
            known = message.experiment_ids[number] if number < len(message.experiment_ids) else None
            for scope in signal.scopes(resource):
                for item in signal.items(scope):
                    yield {
                        "experiment_id": known,
                        "received_at": message.received_at,
                        "resource": _plain(MessageToDict(resource.resource)),
                        "scope": _plain(MessageToDict(scope.scope)),
                        signal.item.replace(" ", "_"): _plain(MessageToDict(item)),
                    }


def _plain(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner, key) for inner in value]
    if key in _HEX and isinstance(value, str):
        return base64.b64decode(value).hex()
    return value
