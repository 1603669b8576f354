"""The cursor file: how far the log is consumed, and the ends of the batches that are out.

Rewritten in place, so it needs no new disk space and can be kept on a full disk. A batch's end is durable
before the batch is handed out, so after a crash the same batches are handed out again, with the same
identities. Blocking; used by one thread at a time.
"""

import contextlib
import dataclasses
import secrets
from pathlib import Path

from tracestone.collector.wal import frames
from tracestone.collector.wal.filesystem import Filesystem

CURSOR_NAME = "cursor"


class Cursor:
    """An open cursor file. `state` is what is durable; `fresh` is true if the file was missing or
    unreadable."""

    def __init__(self, filesystem: Filesystem, folder: Path) -> None:
        self._filesystem = filesystem
        path = folder / CURSOR_NAME
        found = self._load(path) if CURSOR_NAME in filesystem.names(folder) else None
        self.fresh = found is None
        if found is None:
            self.state, self._slot = frames.CursorState(secrets.token_bytes(16), 0, 0, 0), 0
            self._make(folder)
        else:
            self.state, self._slot = found
        self._descriptor = filesystem.open(path)

    def save(self, *, acknowledged: int, floor: int, batch_ends: tuple[int, ...]) -> None:
        """Make this durable. On OSError the old state still stands, here and on disk."""
        state = dataclasses.replace(
            self.state,
            generation=self.state.generation + 1,
            acknowledged=acknowledged,
            floor=floor,
            batch_ends=batch_ends,
        )
        offset = frames.CURSOR_SLOT_OFFSETS[self._slot]
        self._filesystem.write_at(self._descriptor, frames.encode_cursor(state), offset)
        self._filesystem.sync(self._descriptor)
        self.state = state
        self._slot = 1 - self._slot  # only now: after a failure the other slot is the only good one

    def close(self) -> None:
        """Close the file."""
        self._filesystem.close(self._descriptor)

    def _load(self, path: Path) -> tuple[frames.CursorState, int] | None:
        descriptor = self._filesystem.open(path)
        try:
            slots = [
                frames.decode_cursor(self._filesystem.read_at(descriptor, frames.CURSOR_SLOT_BYTES, offset))
                for offset in frames.CURSOR_SLOT_OFFSETS
            ]
        finally:
            self._filesystem.close(descriptor)
        valid = [(state.generation, number, state) for number, state in enumerate(slots) if state is not None]
        if not valid:
            return None
        _, number, state = max(valid, key=lambda entry: entry[0])
        return state, 1 - number

    def _make(self, folder: Path) -> None:
        new = folder / f"{CURSOR_NAME}.new"
        with contextlib.suppress(FileNotFoundError):
            self._filesystem.remove(new)
        first = frames.encode_cursor(self.state)
        descriptor = self._filesystem.create(new)
        try:
            self._filesystem.write_at(descriptor, first.ljust(frames.CURSOR_FILE_BYTES, b"\0"), 0)
            self._filesystem.sync(descriptor)
        finally:
            self._filesystem.close(descriptor)
        self._filesystem.rename(new, folder / CURSOR_NAME)
        self._filesystem.sync_folder(folder)
        self._slot = 1
