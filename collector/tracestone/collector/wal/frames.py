"""The log's format on disk. Pure functions on bytes; nothing here opens a file.

A log is a folder:

    cursor                      how far the reader is; see `cursor`
    00000000000000000000.wal    a segment, named by its first position in 20 decimal digits
    quarantine/                 damaged segments, each with a .json that says why
    lock                        held while a process has the log open

**Position.** Bytes are numbered through all segments by one unsigned 64-bit counter that only grows: the byte
at offset `o` of the segment with first position `f` has position `f + o`. A segment starts at or above
everything written before it; after a failed write, a torn tail or damage it starts above all that may have
been written, so that no position ever names two different contents. Gaps between segments therefore are
normal.

**Segment.** All integers are little-endian and unsigned.

    segment header, 64 bytes
        magic            8   b"TSWALSEG"
        version          2   1
        header size      2   64
        reserved         4   0
        log id          16   of the log that wrote it, for a person who finds a stray file
        first position   8   equals the file's name
        previous end     8   where the segment before ends; bytes in it beyond that do not count
        created          8   as `written` of a frame
        reserved         4   0
        crc              4   of the 60 bytes before
    frames, back to back, until the end of the file

    frame
        magic            4   b"TSFR"
        records          4   at least 1
        position         8   of this frame's first byte
        written          8   ns, not below the time of receipt of any record in it; see `receipt`
        body length      4   at least 1
        header crc       4   of the 28 bytes before
        body                 for each record: its length as a protobuf varint, then its bytes
        body crc         4   of the body

A frame holds all requests that shared one fdatasync. It is written only when every frame before it is
durable, so at most the last frame of the last segment can be torn.

**Why the body looks like that.** ClickHouse's `FORMAT Protobuf` reads exactly "varint length, message" back
to back. The reader joins the bodies of many frames into one buffer for it and never looks at a single record:
its work is per group commit, not per request.

**Checksum.** CRC-32 as in zlib, which every Python has; computed by ISA-L, in an eighth of its time. Each crc is
continued from RESIDUE instead of 0. A CRC taken over data followed by that data's own CRC always ends in RESIDUE, so
after an intact header or body the running value is RESIDUE again, where the next one starts: one call over
any run of whole frames tells whether all of them are intact. One call matters, because each one gives up the
interpreter lock. Frames that are missing or exchanged are noticed by their position.
"""

import struct
from dataclasses import dataclass

from isal import isal_zlib

RESIDUE = 0x2144DF1C
SEGMENT_HEADER_BYTES = 64
FRAME_HEADER_BYTES = 32
FRAME_OVERHEAD_BYTES = FRAME_HEADER_BYTES + 4
MAX_BODY_BYTES = 2**31
SEGMENT_SUFFIX = ".wal"

_VERSION = 1
_SEGMENT_MAGIC = b"TSWALSEG"
FRAME_MAGIC = b"TSFR"
_SEGMENT = struct.Struct("<8sHHI16sQQQI")
_FRAME = struct.Struct("<4sIQQI")
_CRC = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """What a segment says of itself."""

    log_id: bytes
    first: int
    previous_end: int
    created: int


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """What a frame says of itself. `size` is the whole frame's, in bytes; `written` is wall-clock ns."""

    position: int
    records: int
    written: int
    body_bytes: int

    @property
    def size(self) -> int:
        return FRAME_OVERHEAD_BYTES + self.body_bytes


@dataclass(frozen=True, slots=True)
class Run:
    """Whole, intact frames from the start of a buffer.

    `oldest` is when the first was written, `newest` the highest time in any. `size` is how many bytes of the buffer
    they cover. `fault` says why the frame after them is damaged, or is empty. `wanted` is the size of the frame after
    them if the buffer ends inside it (a header's size if it ends inside the header), else 0.
    """

    bodies: tuple[memoryview, ...]
    records: int
    oldest: int
    newest: int
    size: int
    fault: str
    wanted: int


def sealed(data: bytes) -> bytes:
    """`data` and its CRC."""
    return data + _CRC.pack(isal_zlib.crc32(data, RESIDUE))


def intact(data: bytes) -> bool:
    """Whether `data` ends in the CRC of what is before."""
    return isal_zlib.crc32(data, RESIDUE) == RESIDUE


def segment_name(first: int) -> str:
    """The file name of the segment whose first position is `first`."""
    return f"{first:020d}{SEGMENT_SUFFIX}"


def first_of_name(name: str) -> int | None:
    """The first position a segment's file name states; None if it is not a segment's name."""
    digits = name.removesuffix(SEGMENT_SUFFIX)
    return int(digits) if name != digits and len(digits) == 20 and digits.isascii() and digits.isdigit() else None


def encode_segment_header(header: SegmentHeader) -> bytes:
    """The 64 bytes a segment starts with."""
    return sealed(
        _SEGMENT.pack(
            _SEGMENT_MAGIC,
            _VERSION,
            SEGMENT_HEADER_BYTES,
            0,
            header.log_id,
            header.first,
            header.previous_end,
            header.created,
            0,
        )
    )


def decode_segment_header(data: bytes, first: int) -> SegmentHeader | str:
    """The header in `data` of the segment named for `first`, or the reason why there is none."""
    if len(data) < SEGMENT_HEADER_BYTES:
        return "the segment header is incomplete"
    magic, version, _, _, log_id, stated, previous_end, created, _ = _SEGMENT.unpack_from(data)
    if not intact(data[:SEGMENT_HEADER_BYTES]) or magic != _SEGMENT_MAGIC:
        return "the segment header is damaged"
    if version != _VERSION:
        return f"the segment has format version {version}, not {_VERSION}"
    if stated != first:
        return f"the segment starts at position {stated}, its name says {first}"
    return SegmentHeader(log_id, first, previous_end, created)


def stated_first(data: bytes) -> int | None:
    """The first position that an intact header in `data` states, whatever the file is called."""
    if len(data) < SEGMENT_HEADER_BYTES or not intact(data[:SEGMENT_HEADER_BYTES]):
        return None
    first: int = _SEGMENT.unpack_from(data)[5]
    return first


def encode_frame_header(position: int, records: int, written: int, body_bytes: int) -> bytes:
    """The 32 bytes a frame starts with."""
    return sealed(_FRAME.pack(FRAME_MAGIC, records, position, written, body_bytes))


def encode_frame_end(body_crc: int) -> bytes:
    """The 4 bytes a frame ends with; `body_crc` was continued from RESIDUE."""
    return _CRC.pack(body_crc)


def decode_frame_header(data: bytes | memoryview, offset: int, position: int) -> FrameHeader | None:
    """The frame header at `offset`, which must be whole; None if it is damaged or not the one of
    `position`."""
    if isal_zlib.crc32(data[offset : offset + FRAME_HEADER_BYTES], RESIDUE) != RESIDUE:
        return None
    magic, records, stated, written, body_bytes = _FRAME.unpack_from(data, offset)
    if magic != FRAME_MAGIC or stated != position or not records or not 0 < body_bytes <= MAX_BODY_BYTES:
        return None
    return FrameHeader(position, records, written, body_bytes)


def varint(number: int) -> bytes:
    """`number` as protobuf writes the length of a length-delimited message."""
    if number < 0x80:
        return bytes((number,))
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def split_payload(payload: bytes) -> list[bytes]:
    """The records of a body, each with its length in front, so that any of them together are a body again."""
    found = []
    start = 0
    while start < len(payload):
        size = shift = 0
        at = start
        while True:
            byte = payload[at]
            at += 1
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        found.append(payload[start : at + size])
        start = at + size
    return found


def read_run(data: memoryview, position: int, max_bytes: int) -> Run:
    """The frames at the start of `data`, whose first byte has `position`.

    Stops before the bodies exceed `max_bytes`, but gives at least one frame if one is whole.
    """
    headers, fault, wanted = _walk(data, position, max_bytes)
    size = sum(header.size for header in headers)
    if headers and isal_zlib.crc32(data[:size], RESIDUE) != RESIDUE:
        headers, fault, wanted = _intact_prefix(data, headers), "the body of a frame is damaged", 0
        size = sum(header.size for header in headers)
    bodies = []
    offset = 0
    for header in headers:
        start = offset + FRAME_HEADER_BYTES
        bodies.append(data[start : start + header.body_bytes])
        offset += header.size
    return Run(
        bodies=tuple(bodies),
        records=sum(header.records for header in headers),
        oldest=headers[0].written if headers else 0,
        newest=max((header.written for header in headers), default=0),
        size=size,
        fault=fault,
        wanted=wanted,
    )


def _walk(data: memoryview, position: int, max_bytes: int) -> tuple[list[FrameHeader], str, int]:
    headers: list[FrameHeader] = []
    offset = body_bytes = 0
    while offset < len(data):
        if len(data) - offset < FRAME_HEADER_BYTES:
            return headers, "", FRAME_HEADER_BYTES
        header = decode_frame_header(data, offset, position + offset)
        if header is None:
            return headers, "the header of a frame is damaged", 0
        if headers and body_bytes + header.body_bytes > max_bytes:
            break
        if len(data) - offset < header.size:
            return headers, "", header.size
        headers.append(header)
        body_bytes += header.body_bytes
        offset += header.size
    return headers, "", 0


def _intact_prefix(data: memoryview, headers: list[FrameHeader]) -> list[FrameHeader]:
    offset = 0
    for number, header in enumerate(headers):
        if isal_zlib.crc32(data[offset : offset + header.size], RESIDUE) != RESIDUE:
            return headers[:number]
        offset += header.size
    return headers
