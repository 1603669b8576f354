"""What must hold of the receiver for any bytes at all. Each target takes one input and raises when it does not hold.

The first byte of an input chooses the signal or the encoding, the rest is the body.
"""

from collections.abc import Callable

from google.protobuf.message import DecodeError

from tracestone.collector.receiver import encoding
from tracestone.collector.receiver.admission import Admitted, admit, plain
from tracestone.collector.receiver.budget import Budget
from tracestone.collector.receiver.otlp_json.convert import Form
from tracestone.collector.receiver.pieces import Limits
from tracestone.collector.signals.known import SIGNALS
from tracestone.collector.signals.signal import Signal
from tracestone.schema.errors import Invalid, TooLarge

LIMITS = Limits(groups=50, items=200)
LARGEST = 64 * 1024
FORMS = {signal: Form(signal.request) for signal in SIGNALS}
ENCODINGS = ("gzip", "deflate", "zstd", "zlib", "x-gzip")


def fuzz_admit(data: bytes) -> None:
    """A body in protobuf is refused as a whole, or what is kept of it can be stored, and is all valid."""
    if data:
        _admit(SIGNALS[data[0] % len(SIGNALS)], data[1:])


def fuzz_json(data: bytes) -> None:
    """A body in JSON is refused as a whole, or becomes a body in protobuf that is taken."""
    if not data:
        return
    signal = SIGNALS[data[0] % len(SIGNALS)]
    try:
        converted = FORMS[signal].to_protobuf(data[1:])
    except (Invalid, TooLarge) as refusal:
        assert str(refusal).isprintable() or "\n" in str(refusal), refusal
        return
    assert bool(converted.rejected) == bool(converted.reason)
    try:
        signal.request.FromString(converted.data)
    except DecodeError as error:
        # Written right, but deeper than protobuf's own parser goes; admission says what becomes of it.
        assert converted.data.count(b"\x0a") > 30, error
    _admit(signal, converted.data)


def fuzz_decompress(data: bytes) -> None:
    """A compressed body is refused, or no longer than the limit; either way nothing stays counted."""
    if not data:
        return
    budget = Budget(4 * LARGEST)
    with budget.request() as held:
        try:
            body = encoding.decompressed(data[1:], ENCODINGS[data[0] % len(ENCODINGS)], LARGEST, held)
        except (Invalid, TooLarge):
            pass
        else:
            assert len(body) <= max(LARGEST, len(data))
    assert budget.bytes == 0


def _admit(signal: Signal, body: bytes) -> None:
    try:
        quick = plain(signal, body, LIMITS)
        thorough = admit(signal, body, LIMITS)
    except (Invalid, TooLarge) as refusal:
        assert str(refusal)
        return
    if quick is not None:
        assert quick.items == thorough.items
        assert thorough.rejected == 0
    _check(signal, thorough)


def _check(signal: Signal, admitted: Admitted) -> None:
    assert not admitted.rejected or admitted.reason
    stored = signal.message.FromString(admitted.data)
    assert stored.IsInitialized()
    assert not stored.experiment_ids
    assert not stored.received_at
    assert sum(map(signal.weight, signal.all_items(stored))) == admitted.items
    assert not any(signal.problem(item) for item in signal.all_items(stored))
    assert len(signal.resources(stored)) == len(admitted.resources)
    if admitted.items:
        again = admit(signal, admitted.data, LIMITS)
        assert (again.items, again.rejected) == (admitted.items, 0), (admitted, again)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "admit": fuzz_admit,
    "json": fuzz_json,
    "decompress": fuzz_decompress,
}
