"""Reads through one segment to find out what of it is whole. `descriptor` is the segment's file, open."""

from tracestone.collector.wal import frames
from tracestone.collector.wal.filesystem import Filesystem
from tracestone.collector.wal.ledger import Segment

READ_BYTES = 4 * 1024 * 1024


def intact_end(filesystem: Filesystem, segment: Segment, descriptor: int, position: int) -> tuple[int, str]:
    """How far the frames from `position` on are whole, and what is wrong with the next one."""
    wanted = READ_BYTES
    while position < segment.end:
        size = min(max(wanted, READ_BYTES), segment.end - position)
        data = filesystem.read_at(descriptor, size, position - segment.first)
        run = frames.read_run(memoryview(data), position, READ_BYTES)
        position += run.size
        if run.fault:
            return position, run.fault
        if not run.size and run.wanted <= size:
            return position, "the segment cannot be read to its end"
        if run.wanted > segment.end - position:
            return position, "the segment ends inside a frame"
        wanted = run.wanted
    return position, ""


def header_at(filesystem: Filesystem, segment: Segment, descriptor: int, position: int) -> frames.FrameHeader | None:
    """The frame header at `position`, if there is a whole one."""
    data = filesystem.read_at(descriptor, frames.FRAME_HEADER_BYTES, position - segment.first)
    return frames.decode_frame_header(data, 0, position) if len(data) == frames.FRAME_HEADER_BYTES else None


def frame_start(filesystem: Filesystem, segment: Segment, descriptor: int, position: int) -> int:
    """`position`, or the start of the frame it points into, if the frames before lead there."""
    at = segment.start if header_at(filesystem, segment, descriptor, position) is None else position
    while at < position:
        header = header_at(filesystem, segment, descriptor, at)
        if header is None:
            return position
        if at + header.size > position:
            return at
        at += header.size
    return position


def frame_follows(filesystem: Filesystem, segment: Segment, descriptor: int, position: int) -> bool:
    """Whether a whole frame header of this log stands anywhere from `position` on.

    It proves that a later group was written, so that the bad frame before it was durable once.
    """
    while position + frames.FRAME_HEADER_BYTES <= segment.end:
        data = filesystem.read_at(descriptor, READ_BYTES, position - segment.first)
        offset = data.find(frames.FRAME_MAGIC)
        while 0 <= offset <= len(data) - frames.FRAME_HEADER_BYTES:
            if frames.decode_frame_header(data, offset, position + offset) is not None:
                return True
            offset = data.find(frames.FRAME_MAGIC, offset + 1)
        if len(data) < frames.FRAME_HEADER_BYTES:
            return False
        position += len(data) - frames.FRAME_HEADER_BYTES + 1
    return False
