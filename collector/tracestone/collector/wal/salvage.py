"""Finds every whole frame in a segment that was set aside, before the damage and behind it. Blocking.

A frame counts when its checksums are right and its position fits its place in the file, where the segment is
known to start at the position its name says or its header says. Content is never guessed.
"""

import errno
from collections.abc import Iterator
from pathlib import Path

from tracestone.collector.wal import frames
from tracestone.collector.wal.filesystem import Filesystem, read_whole

SEARCH_BYTES = 64 * 1024
SECTOR_BYTES = 512
_NAME_DIGITS = 20


def whole_frames(filesystem: Filesystem, path: Path) -> Iterator[bytes]:
    """The bodies of the frames in the file at `path`, in order: each record behind its length. Raises OSError."""
    descriptor = filesystem.open(path)
    try:
        size = filesystem.size(descriptor)
        firsts = _firsts(path, _read(filesystem, descriptor, frames.SEGMENT_HEADER_BYTES, 0))
        offset = 0
        while (found := _next_frame(filesystem, descriptor, size, offset, firsts)) is not None:
            offset, header = found
            data = _read(filesystem, descriptor, header.size, offset)
            if len(data) == header.size and frames.intact(data):
                yield data[frames.FRAME_HEADER_BYTES : frames.FRAME_HEADER_BYTES + header.body_bytes]
                offset += header.size
            else:
                offset += 1
    finally:
        filesystem.close(descriptor)


def _firsts(path: Path, data: bytes) -> set[int]:
    """The positions at which the segment may start."""
    firsts = set()
    if path.name[:_NAME_DIGITS].isdigit():
        firsts.add(int(path.name[:_NAME_DIGITS]))
    stated = frames.stated_first(data)
    return firsts if stated is None else {*firsts, stated}


def _next_frame(
    filesystem: Filesystem, descriptor: int, size: int, offset: int, firsts: set[int]
) -> tuple[int, frames.FrameHeader] | None:
    """Where the next frame header stands at or behind `offset`, and the header."""
    window = frames.FRAME_HEADER_BYTES  # usually it stands right there
    while offset + frames.FRAME_HEADER_BYTES <= size:
        data = _read(filesystem, descriptor, window, offset)
        at = data.find(frames.FRAME_MAGIC)
        while 0 <= at <= len(data) - frames.FRAME_HEADER_BYTES:
            for first in firsts:
                header = frames.decode_frame_header(data, at, first + offset + at)
                if header is not None and offset + at + header.size <= size:
                    return offset + at, header
            at = data.find(frames.FRAME_MAGIC, at + 1)
        if len(data) < window:
            return None
        offset += len(data) - frames.FRAME_HEADER_BYTES + 1
        window = SEARCH_BYTES
    return None


def _read(filesystem: Filesystem, descriptor: int, size: int, offset: int) -> bytes:
    """What is there, with zeros for what the disk cannot read."""
    try:
        return read_whole(filesystem, descriptor, size, offset)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
    end = offset + size
    if offset // SECTOR_BYTES == (end - 1) // SECTOR_BYTES:
        return bytes(size)
    out = b""
    while offset < end:
        stop = min(end, (offset // SECTOR_BYTES + 1) * SECTOR_BYTES)
        out += _read(filesystem, descriptor, stop - offset, offset)
        offset = stop
    return out
