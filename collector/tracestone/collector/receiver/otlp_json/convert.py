"""A request in OTLP's JSON form as the protobuf bytes of the same request.

Nearly every body is read by msgspec straight into the classes of `shapes`. Two kinds are read again by Python's own
parser, at several times the cost: those with keys in snake_case, which OTLP does not have and other receivers take, and
those that are no JSON for msgspec, because a text in them may merely not be UTF-8. Such a text costs its own record
alone, as it does in protobuf.
"""

import json
import math
import re
from dataclasses import dataclass
from typing import Any, cast

import msgspec
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from tracestone.collector.receiver.otlp_json.located import Located
from tracestone.collector.receiver.otlp_json.parts import Parts
from tracestone.collector.receiver.otlp_json.shapes import shape
from tracestone.collector.receiver.otlp_json.wire import message_writer
from tracestone.schema.errors import Invalid, TooLarge

_BOM = b"\xef\xbb\xbf"
# Objects, arrays and their members. Two bytes of JSON can become an object of two hundred.
MAX_VALUES = 4_000_000
_SNAKE = re.compile(rb'"[a-z_]+_(?:spans|logs|metrics|unix_nano)"')
_SNAKE_WITHIN = 4096
_PLACE = re.compile(r"(?P<reason>.*) - at `\$\.?(?P<path>[^`]*)`", re.DOTALL)
_PAIRS_HINT = 'must be an array of {"key": …, "value": {"stringValue": …}}, and is an object'
_TOO_DEEP = "The JSON is nested too deep."


@dataclass(frozen=True)
class Converted:
    """Protobuf bytes, and how many records are not in them with the reason for the first."""

    data: bytes
    rejected: int
    reason: str


class Form:
    """The JSON form of one of OTLP's requests."""

    def __init__(self, request: type[Message], max_values: int = MAX_VALUES) -> None:
        descriptor = cast(Descriptor, request.DESCRIPTOR)
        self._name = descriptor.name
        self._max_values = max_values
        self._shape = shape(descriptor)
        self._decoder = msgspec.json.Decoder(self._shape)
        self._write = message_writer(descriptor)

    def to_protobuf(self, body: bytes) -> Converted:
        """Raises Invalid, which names the place, when it is no such request; TooLarge over a limit."""
        most = self._max_values
        if len(body) > most and sum(map(body.count, (b"{", b"[", b","))) > most:
            raise TooLarge(f"The JSON has more than {most} values; send it in smaller parts.")
        if not body:
            return Converted(b"", 0, "")
        out = Parts()
        try:
            self._write(self._read(body.removeprefix(_BOM)), out)
        except Located as error:
            raise Invalid(error.path, error.reason) from error
        except RecursionError as error:
            raise Invalid("", _TOO_DEEP) from error
        return Converted(b"".join(out), out.rejected, out.reason)

    def _read(self, body: bytes) -> Any:
        try:
            if _SNAKE.search(body, 0, _SNAKE_WITHIN) is None:
                return self._decoder.decode(body)
            return self._read_leniently(body)
        except msgspec.ValidationError as error:
            raise self._invalid(error) from error
        except (msgspec.DecodeError, UnicodeDecodeError):
            return self._read_leniently(body)

    def _read_leniently(self, body: bytes) -> Any:
        """The same, where keys may be in snake_case, and texts keep what is not UTF-8 in them as lone surrogates."""
        try:
            found = json.loads(
                body.decode("utf-8", "surrogateescape"),
                object_pairs_hook=_camel,
                parse_constant=_refused,
                parse_float=_finite,
            )
            return msgspec.convert(found, self._shape)
        except msgspec.ValidationError as error:
            raise self._invalid(error) from error
        except ValueError as error:
            raise Invalid("", f"The body is not JSON: {error}.") from error

    def _invalid(self, error: msgspec.ValidationError) -> Invalid:
        place = _PLACE.fullmatch(str(error))
        if place is None:
            return Invalid("", f"The body is not an {self._name} in JSON: {error}.")
        path, reason = place["path"], place["reason"]
        if path.lower().endswith("attributes") and "got `object`" in reason:
            reason = _PAIRS_HINT
        return Invalid(path, reason)


def _camel(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = {_camel_key(key): value for key, value in pairs if "_" in key}
    found.update((key, value) for key, value in pairs if "_" not in key)
    return found


def _camel_key(key: str) -> str:
    first, *rest = key.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _refused(name: str) -> float:
    raise ValueError(f'{name} is not JSON; write "{name}"')


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"{digits[:40]} is out of range")
    return number
