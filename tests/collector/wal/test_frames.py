import zlib

import pytest

from tracestone.collector.wal import cursor, frames
from tracestone.collector.wal.segments import Body


def frame(position: int, *records: bytes, written: int = 7) -> bytes:
    body = Body()
    for record in records:
        body.add(record)
    header = frames.encode_frame_header(position, body.records, written, body.size)
    return header + b"".join(body.buffers) + frames.encode_frame_end(body.crc)


def test_a_crc_behind_its_data_always_ends_in_the_residue() -> None:
    for data in (b"", b"a", bytes(1000)):
        for start in (0, 1, frames.RESIDUE):
            crc = zlib.crc32(data, start)
            assert zlib.crc32(crc.to_bytes(4, "little"), crc) == frames.RESIDUE


@pytest.mark.parametrize("size", [0, 1, 127, 128, 4095, 4096, 70_000])
def test_a_record_is_stored_behind_its_length_as_a_varint(size: int) -> None:
    record = bytes(range(256)) * (size // 256 + 1)
    record = record[:size]
    run = frames.read_run(memoryview(frame(100, record)), 100, 1 << 30)
    prefix = frames.varint(size)
    assert bytes(run.bodies[0]) == prefix + record
    assert sum((byte & 0x7F) << 7 * place for place, byte in enumerate(prefix)) == size
    assert (run.records, run.oldest, run.fault, run.wanted) == (1, 7, "", 0)


def test_a_run_is_read_with_one_checksum_over_all_frames() -> None:
    first = frame(64, b"one", b"two")
    second = frame(64 + len(first), b"three")
    data = first + second
    assert zlib.crc32(data, frames.RESIDUE) == frames.RESIDUE
    run = frames.read_run(memoryview(data), 64, 1 << 30)
    assert (len(run.bodies), run.records, run.size) == (2, 3, len(data))


def test_a_run_stops_before_too_many_bytes_but_gives_one_frame() -> None:
    first = frame(0, bytes(100))
    data = memoryview(first + frame(len(first), bytes(100)))
    assert frames.read_run(data, 0, 150).size == len(first)
    assert frames.read_run(data, 0, 1).size == len(first)
    assert frames.read_run(data, 0, 202).size == len(data)


def test_every_flipped_bit_is_noticed_and_what_is_before_is_kept() -> None:
    first = frame(0, b"kept")
    data = bytearray(first + frame(len(first), b"damaged", b"too") + frame(0, b"never reached"))
    for bit in range(len(first) * 8, (len(first) + frames.FRAME_OVERHEAD_BYTES + 12) * 8):
        data[bit // 8] ^= 1 << bit % 8
        run = frames.read_run(memoryview(bytes(data)), 0, 1 << 30)
        data[bit // 8] ^= 1 << bit % 8
        assert run.fault
        assert run.size == len(first)
        assert bytes(run.bodies[0]) == b"\x04kept"


def test_every_cut_is_noticed() -> None:
    first = frame(0, b"kept")
    second = frame(len(first), b"torn")
    for size in range(1, len(second)):
        run = frames.read_run(memoryview(first + second[:size]), 0, 1 << 30)
        assert (run.size, run.fault) == (len(first), "")
        assert run.wanted == (frames.FRAME_HEADER_BYTES if size < frames.FRAME_HEADER_BYTES else len(second))


def test_a_frame_in_the_wrong_place_is_damage() -> None:
    run = frames.read_run(memoryview(frame(64, b"moved")), 96, 1 << 30)
    assert (run.size, run.fault) == (0, "the header of a frame is damaged")


def test_zeros_are_not_a_frame() -> None:
    assert frames.read_run(memoryview(bytes(4096)), 0, 1 << 30).fault


def test_a_segment_header_survives_the_round_trip() -> None:
    header = frames.SegmentHeader(bytes(range(16)), first=640, previous_end=600, created=5)
    data = frames.encode_segment_header(header)
    assert len(data) == frames.SEGMENT_HEADER_BYTES
    assert frames.decode_segment_header(data, 640) == header
    assert "its name says 641" in str(frames.decode_segment_header(data, 641))
    assert "incomplete" in str(frames.decode_segment_header(data[:-1], 640))
    for bit in range(len(data) * 8):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        assert isinstance(frames.decode_segment_header(bytes(damaged), 640), str)


def test_a_later_format_is_named() -> None:
    data = bytearray(frames.encode_segment_header(frames.SegmentHeader(bytes(16), 0, 0, 0)))
    data[8] = 2
    later = frames.sealed(bytes(data[:-4]))
    assert frames.decode_segment_header(later, 0) == "the segment has format version 2, not 1"


def test_segment_names() -> None:
    assert frames.segment_name(64) == "00000000000000000064.wal"
    assert frames.first_of_name("00000000000000000064.wal") == 64
    for name in (
        "64.wal",
        "00000000000000000064",
        "0000000000000000006x.wal",
        "cursor",
        "-0000000000000000064.wal",
    ):
        assert frames.first_of_name(name) is None


def test_a_cursor_survives_the_round_trip_and_notices_every_flipped_bit() -> None:
    state = cursor.CursorState(bytes(range(16)), 3, 100, 300, (150, 200), 1_700_000_000_000_000_000)
    data = cursor.encode_cursor(state)
    assert len(data) == cursor.SLOT_BYTES
    assert cursor.decode_cursor(data) == state
    for bit in range(len(data) * 8):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        assert cursor.decode_cursor(bytes(damaged)) is None
