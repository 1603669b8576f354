"""The cursor file: how far the log is consumed, and the ends of the batches that are out.

Rewritten in place, so it needs no new disk space and can be kept on a full disk. A batch's end is durable
before the batch is handed out, so after a crash the same batches are handed out again, under the same names.

Two slots at offsets 0 and 4096 are written in turn; the valid one with the higher generation counts.

    slot, 160 bytes, integers little-endian
        magic            8   b"TSWALCUR"
        version          2   1
        batches          2   how many of the ends below are used
        reserved         4   0
        generation       8
        log id          16   random, drawn when the file is made
        acknowledged     8   all before this position is consumed
        floor            8   no segment made from now on may start below this position
        batch ends   8 x 8   of the batches handed out and not acknowledged, ascending
        newest           8   the highest time of a frame that was handed out, ns; see `receipt`
        reserved        28   0
        crc              4   of the 156 bytes before, as in `frames`

Blocking; used by one thread at a time.
"""

import contextlib
import dataclasses
import secrets
import struct
from pathlib import Path

from tracestone.collector.wal import frames
from tracestone.collector.wal.filesystem import Filesystem, read_whole

CURSOR_NAME = "cursor"
MAX_OPEN_BATCHES = 8
SLOT_OFFSETS = (0, 4096)
SLOT_BYTES = 160
FILE_BYTES = 8192

_MAGIC = b"TSWALCUR"
_VERSION = 1
_SLOT = struct.Struct("<8sHHIQ16sQQ8QQ28x")


@dataclasses.dataclass(frozen=True, slots=True)
class CursorState:
    """What the cursor file keeps. `batch_ends` are ascending and above `acknowledged`."""

    log_id: bytes
    generation: int
    acknowledged: int
    floor: int
    batch_ends: tuple[int, ...] = ()
    newest: int = 0


def encode_cursor(state: CursorState) -> bytes:
    """One slot of the cursor file."""
    ends = state.batch_ends + (0,) * (MAX_OPEN_BATCHES - len(state.batch_ends))
    return frames.sealed(
        _SLOT.pack(
            _MAGIC,
            _VERSION,
            len(state.batch_ends),
            0,
            state.generation,
            state.log_id,
            state.acknowledged,
            state.floor,
            *ends,
            state.newest,
        )
    )


def decode_cursor(data: bytes) -> CursorState | None:
    """The state in one slot; None if the slot is unused, damaged or of another version."""
    if len(data) != SLOT_BYTES or not frames.intact(data):
        return None
    magic, version, batches, _, generation, log_id, acknowledged, floor, *ends, newest = _SLOT.unpack_from(data)
    if magic != _MAGIC or version != _VERSION or batches > MAX_OPEN_BATCHES:
        return None
    return CursorState(log_id, generation, acknowledged, floor, tuple(ends[:batches]), newest)


class Cursor:
    """An open cursor file. `state` is what is durable; `fresh` is true if the file was missing or
    unreadable."""

    def __init__(self, filesystem: Filesystem, folder: Path) -> None:
        self._filesystem = filesystem
        self._folder = folder
        self._path = folder / CURSOR_NAME
        found = self._load() if CURSOR_NAME in filesystem.names(folder) else None
        self.fresh = found is None
        if found is None:
            self.state, self._slot = CursorState(secrets.token_bytes(16), 0, 0, 0), 1
            self._make(self.state)
        else:
            self.state, self._slot = found
        self._descriptor = filesystem.open(self._path)

    def save(self, *, acknowledged: int, floor: int, batch_ends: tuple[int, ...], newest: int) -> None:
        """Make this durable. On OSError the old state still stands, here and on disk."""
        state = dataclasses.replace(
            self.state,
            generation=self.state.generation + 1,
            acknowledged=acknowledged,
            floor=floor,
            batch_ends=batch_ends,
            newest=max(self.state.newest, newest),
        )
        offset = SLOT_OFFSETS[self._slot]
        self._filesystem.write_at(self._descriptor, encode_cursor(state), offset)
        self._filesystem.sync(self._descriptor)
        if self._filesystem.is_at(self._descriptor, self._path):
            self._slot = 1 - self._slot  # only now: after a failure the other slot is the only good one
        else:
            self._replace(state)
        self.state = state

    def close(self) -> None:
        """Close the file."""
        self._filesystem.close(self._descriptor)

    def _load(self) -> tuple[CursorState, int] | None:
        descriptor = self._filesystem.open(self._path)
        try:
            slots = [
                decode_cursor(read_whole(self._filesystem, descriptor, SLOT_BYTES, offset)) for offset in SLOT_OFFSETS
            ]
        finally:
            self._filesystem.close(descriptor)
        valid = [(state.generation, number, state) for number, state in enumerate(slots) if state is not None]
        if not valid:
            return None
        _, number, state = max(valid, key=lambda entry: entry[0])
        return state, 1 - number

    def _replace(self, state: CursorState) -> None:
        """Put the file back that somebody removed."""
        self._make(state)
        descriptor = self._filesystem.open(self._path)
        with contextlib.suppress(OSError):
            self._filesystem.close(self._descriptor)
        self._descriptor, self._slot = descriptor, 1

    def _make(self, state: CursorState) -> None:
        new = self._folder / f"{CURSOR_NAME}.new"
        with contextlib.suppress(FileNotFoundError):
            self._filesystem.remove(new)
        first = encode_cursor(state)
        descriptor = self._filesystem.create(new)
        try:
            self._filesystem.write_at(descriptor, first.ljust(FILE_BYTES, b"\0"), 0)
            self._filesystem.sync(descriptor)
        finally:
            self._filesystem.close(descriptor)
        self._filesystem.rename(new, self._path)
        self._filesystem.sync_folder(self._folder)
