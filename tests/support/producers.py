"""What real instrumentation packages sent, recorded by `python -m producers.record`, and how it must be read.

See tests/producers/README.md for the files' form.
"""

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

RECORDED = Path(__file__).parents[1] / "producers/recorded"
_KINDS = {"traces": ExportTraceServiceRequest, "logs": ExportLogsServiceRequest}
_IDS = {"traceId", "spanId", "parentSpanId"}


@dataclass(frozen=True)
class Request:
    """One OTLP request; `signal` is traces or logs, `body` its JSON form, `path` and `headers` as it came."""

    signal: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    def message(self) -> ExportTraceServiceRequest | ExportLogsServiceRequest:
        """The request as protobuf; raises ParseError when the body is no OTLP."""
        return ParseDict(_with_bytes(self.body), _KINDS[self.signal]())


@dataclass(frozen=True)
class Recording:
    """One producer's run. `expected` holds calls, tools, retrievals, traces and spans; `meta` versions and the date."""

    name: str
    meta: dict[str, Any]
    requests: list[Request]
    expected: dict[str, Any]


def names() -> list[str]:
    """Of all recordings, sorted."""
    return sorted(folder.name for folder in RECORDED.iterdir() if folder.is_dir())


def recording(name: str) -> Recording:
    """One of them."""
    requests = [Request(one["signal"], one["path"], one["headers"], one["body"]) for one in _read(name, "requests")]
    return Recording(name, _read(name, "meta"), requests, _read(name, "expected"))


def _read(name: str, part: str) -> Any:
    return json.loads((RECORDED / name / f"{part}.json").read_text(encoding="utf-8"))


def _with_bytes(value: Any) -> Any:
    """OTLP's hex ids as protobuf's JSON has them, in base64."""
    if isinstance(value, list):
        return [_with_bytes(item) for item in value]
    if isinstance(value, dict):
        return {
            key: base64.b64encode(bytes.fromhex(item)).decode() if key in _IDS else _with_bytes(item)
            for key, item in value.items()
        }
    return value
