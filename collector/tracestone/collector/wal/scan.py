"""Reads through one segment to find out what of it is whole. `descriptor` is the segment's file, open."""

import errno
from dataclasses import dataclass

from tracestone.collector.wal import frames
from tracestone.collector.wal.filesystem import Filesystem, read_whole
from tracestone.collector.wal.ledger import Segment

READ_BYTES = 4 * 1024 * 1024
UNREADABLE = "the disk cannot read it"


@dataclass(frozen=True, slots=True)
class Intact:
    """Frames are whole up to `end`; `last` is where the last of them starts, `newest` the highest time in any, `fault`
    what is wrong with the next."""

    end: int
    last: int
    newest: int
    fault: str


def intact(filesystem: Filesystem, segment: Segment, descriptor: int, position: int) -> Intact:
    """What is whole from `position` on."""
    wanted = READ_BYTES
    last = position
    newest = 0
    while position < segment.end:
        size = min(max(wanted, READ_BYTES), segment.end - position)
        data = _readable(filesystem, segment, descriptor, position, size)
        if data is None:
            return Intact(position, last, newest, UNREADABLE)
        run = frames.read_run(memoryview(data), position, READ_BYTES)
        position += run.size
        newest = max(newest, run.newest)
        if run.bodies:
            last = position - frames.FRAME_OVERHEAD_BYTES - len(run.bodies[-1])
        if run.fault:
            return Intact(position, last, newest, run.fault)
        if not run.size and run.wanted <= size:
            return Intact(position, last, newest, "the segment cannot be read to its end")
        if run.wanted > segment.end - position:
            return Intact(position, last, newest, "the segment ends inside a frame")
        wanted = run.wanted
    return Intact(position, last, newest, "")


def header_at(filesystem: Filesystem, segment: Segment, descriptor: int, position: int) -> frames.FrameHeader | None:
    """The frame header at `position`, if there is a whole one."""
    data = read_whole(filesystem, descriptor, frames.FRAME_HEADER_BYTES, position - segment.first)
    return frames.decode_frame_header(data, 0, position) if len(data) == frames.FRAME_HEADER_BYTES else None


def frame_start(filesystem: Filesystem, segment: Segment, descriptor: int, position: int) -> int:
    """`position`, or the start of the frame it points into, if the frames before lead there."""
    try:
        at = segment.start if header_at(filesystem, segment, descriptor, position) is None else position
        while at < position:
            header = header_at(filesystem, segment, descriptor, at)
            if header is None:
                return position
            if at + header.size > position:
                return at
            at += header.size
    except OSError as error:
        if error.errno != errno.EIO:
            raise
    return position


def _readable(filesystem: Filesystem, segment: Segment, descriptor: int, position: int, size: int) -> bytes | None:
    """`size` bytes from `position`; where the disk fails to read them, one frame; None if it fails there too."""
    for attempt in ("all", "one frame"):
        try:
            if attempt == "one frame":
                header = header_at(filesystem, segment, descriptor, position)
                size = min(size, frames.FRAME_HEADER_BYTES if header is None else header.size)
            return read_whole(filesystem, descriptor, size, position - segment.first)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
    return None


def frame_follows(filesystem: Filesystem, segment: Segment, descriptor: int, position: int) -> bool:
    """Whether a whole frame header of this log stands anywhere from `position` on.

    It proves that a later group was written, so that the bad frame before it was durable once. What the disk
    cannot read may be one.
    """
    while position + frames.FRAME_HEADER_BYTES <= segment.end:
        try:
            data = read_whole(filesystem, descriptor, READ_BYTES, position - segment.first)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return True
        offset = data.find(frames.FRAME_MAGIC)
        while 0 <= offset <= len(data) - frames.FRAME_HEADER_BYTES:
            if frames.decode_frame_header(data, offset, position + offset) is not None:
                return True
            offset = data.find(frames.FRAME_MAGIC, offset + 1)
        if len(data) < frames.FRAME_HEADER_BYTES:
            return False
        position += len(data) - frames.FRAME_HEADER_BYTES + 1
    return False
