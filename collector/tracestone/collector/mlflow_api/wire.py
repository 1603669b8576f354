"""What all of MLflow's JSON has in common: reading requests field by field, ids, times.

Names are MLflow's protobuf names in snake case; absent and null mean the same, and unknown fields are
ignored, as protobuf does. Every complaint names the field.
"""

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

from starlette.requests import Request

from tracestone.schema.errors import Invalid, NotFound, TooLarge
from tracestone.schema.experiments import MAX_EXPERIMENT_ID, Experiment

MAX_BODY_BYTES = 4 * 1024 * 1024
MAX_PARAMETER_CHARACTERS = 20_000
MAX_NESTING = 100
MAX_MOMENT_MS = 7_258_118_400_000  # the year 2200, well inside ClickHouse's DateTime64

_HEX_TRACE = re.compile(r"[0-9a-f]{32}")
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Fields:
    """A JSON object of a request, or its query parameters, read field by field; `path` is for complaints."""

    def __init__(self, values: Mapping[str, Any], path: str = "") -> None:
        self._values = values
        self._path = path

    def text(self, name: str, *, required: bool = False) -> str:
        """A string; "" when it is absent and may be."""
        value = self._values.get(name)
        if value is not None and not isinstance(value, str):
            raise Invalid(self._path + name, "must be a string")
        if required and not value:
            raise Invalid(self._path + name, "is required")
        return value or ""

    def integer(self, name: str, default: int) -> int:
        """An integer, which may come as a string, as in protobuf's JSON."""
        value = self._values.get(name)
        if value is None or value == "":
            return default
        try:
            if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
                raise ValueError
            return int(value)
        except (ValueError, TypeError):
            raise Invalid(self._path + name, "must be an integer") from None

    def texts(self, name: str) -> list[str]:
        """A list of strings; empty when it is absent."""
        value = self._values.get(name)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise Invalid(self._path + name, "must be a list of strings")
        return value

    def object(self, name: str) -> "Fields | None":
        """A nested object, or None when it is absent."""
        value = self._values.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise Invalid(self._path + name, "must be an object")
        return Fields(value, f"{self._path}{name}.")

    def objects(self, name: str) -> "list[Fields]":
        """A list of nested objects; empty when it is absent."""
        value = self._values.get(name)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise Invalid(self._path + name, "must be a list of objects")
        return [Fields(item, f"{self._path}{name}.") for item in value]

    def text_map(self, name: str) -> dict[str, str] | None:
        """An object whose values are strings, or None when it is absent."""
        value = self._values.get(name)
        if value is None:
            return None
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            raise Invalid(self._path + name, "must be an object whose values are strings")
        return value

    def anything(self, name: str) -> Any:
        """Any JSON value."""
        return self._values.get(name)

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self._values.get(name) is not None


async def read_body(request: Request) -> Fields:
    """The JSON object of a request. Raises TooLarge, Invalid."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise TooLarge(f"The request body is over {MAX_BODY_BYTES} bytes")
    parsed = parse_json(bytes(body) or b"{}", "The request body")
    if not isinstance(parsed, dict):
        raise Invalid("", "The request body must be a JSON object")
    return Fields(parsed)


def parse_json(text: str | bytes, what: str) -> Any:
    """A JSON value that every store can hold. Raises Invalid, naming `what` was given."""
    try:
        parsed = json.loads(text, parse_constant=_no_constant)
        _check_storable(parsed)
    except (ValueError, RecursionError):
        raise Invalid("", f"{what} is not valid JSON") from None
    return parsed


def read_query(request: Request, lists: frozenset[str] = frozenset()) -> Fields:
    """The query parameters; those named in `lists` may repeat. Raises Invalid."""
    found: dict[str, Any] = {}
    for name, value in request.query_params.multi_items():
        if len(value) > MAX_PARAMETER_CHARACTERS:
            raise Invalid(name[:100], f"is over {MAX_PARAMETER_CHARACTERS} characters")
        _check_storable(value)
        if name in lists:
            found.setdefault(name, []).append(value)
        else:
            found[name] = value
    return Fields(found)


def read_trace_id(text: str) -> str:
    """The hex trace id behind MLflow's `tr-` form or the bare one. Raises NotFound for anything else."""
    bare = text.removeprefix("tr-").lower()
    if not _HEX_TRACE.fullmatch(bare):
        raise no_trace(text)
    return bare


def no_trace(trace_id: str) -> NotFound:
    """The complaint about a trace that is not there."""
    shown = trace_id if trace_id.startswith("tr-") else f"tr-{trace_id}"
    return NotFound(f"Trace with ID '{shown[:100]}' not found")


def read_experiment_id(fields: Fields) -> int:
    """The `experiment_id` of a request. Raises Invalid."""
    text = fields.anything("experiment_id")
    number = fields.integer("experiment_id", -1)
    if text in (None, ""):
        raise Invalid("experiment_id", "is required")
    if not 0 <= number <= MAX_EXPERIMENT_ID:
        raise Invalid("experiment_id", f"must be between 0 and {MAX_EXPERIMENT_ID}")
    return number


def experiment_json(experiment: Experiment) -> dict[str, Any]:
    """MLflow's Experiment."""
    return {
        "experiment_id": str(experiment.experiment_id),
        "name": experiment.name,
        "artifact_location": experiment.artifact_location,
        "lifecycle_stage": experiment.lifecycle_stage,
        "creation_time": experiment.creation_time_ms,
        "last_update_time": experiment.last_update_time_ms,
        "tags": [{"key": key, "value": value} for key, value in experiment.tags.items()],
    }


def moment_text(milliseconds: int) -> str:
    """A protobuf Timestamp."""
    moment = _EPOCH + timedelta(milliseconds=milliseconds)
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + f".{milliseconds % 1000:03}Z"


def read_moment(fields: Fields, name: str) -> int:
    """Milliseconds of a protobuf Timestamp; 0 when it is absent. Raises Invalid."""
    text = fields.text(name)
    if not text:
        return 0
    match = _MOMENT.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        seconds = datetime.fromisoformat(match[1] + match[3]) - _EPOCH
    except ValueError:
        raise Invalid(name, "must be a time such as 2026-01-31T12:00:00.000Z") from None
    milliseconds = int(seconds.total_seconds()) * 1000 + int((match[2] or "0").ljust(9, "0")[:3])
    if not 0 <= milliseconds < MAX_MOMENT_MS:
        raise Invalid(name, "must be between the years 1970 and 2200")
    return milliseconds


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _check_storable(value: Any, depth: int = 0) -> None:
    """Refuses what JSON can write and no store can hold: U+0000, half a surrogate pair, too deep nesting."""
    if depth > MAX_NESTING:
        raise Invalid("", f"The request is nested deeper than {MAX_NESTING} levels")
    if isinstance(value, str):
        if "\x00" in value:
            raise Invalid("", "The request holds the character U+0000, which cannot be stored")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Invalid("", "The request holds half a surrogate pair, which cannot be stored") from None
    elif isinstance(value, float) and not math.isfinite(value):
        raise Invalid("", "The request holds a number beyond a double")
    elif isinstance(value, list):
        for item in value:
            _check_storable(item, depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_storable(key)
            _check_storable(item, depth + 1)
