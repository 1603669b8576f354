"""What a start makes of a damaged log. Each test damages a closed log in one way."""

import errno
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from support.disk import SimulatedDisk
from support.wal import FOLDER, crash, drain, opened, segments
from tracestone.collector.wal.frames import FRAME_OVERHEAD_BYTES, SEGMENT_HEADER_BYTES
from tracestone.collector.wal.log import Log, open_log
from tracestone.collector.wal.receipt import ReceiptClock
from tracestone.schema.errors import StartRefused, StorageDown

RECORD_BYTES = 1000
FRAME_BYTES = FRAME_OVERHEAD_BYTES + 2 + RECORD_BYTES  # two bytes of varint
PER_SEGMENT = 3


async def written(disk: SimulatedDisk, count: int = 9) -> None:
    """A closed log: record n is 1000 bytes of n, in a frame of its own, three to a segment."""
    log = opened(disk)
    for number in range(count):
        await log.writer.append(bytes([number]) * RECORD_BYTES)
    await log.close()
    assert len(segments(disk)) == -(-count // PER_SEGMENT)


async def numbers(log: Log) -> list[int]:
    return [record[0] for record in await drain(log)]


def frame_at(index: int) -> int:
    """Offset of the frame in its segment."""
    return SEGMENT_HEADER_BYTES + index * FRAME_BYTES


def set_aside(disk: SimulatedDisk) -> list[Path]:
    return [path for path in disk.paths() if path.parent == FOLDER / "quarantine" and path.suffix == ".wal"]


def flip(offset: int) -> Callable[[bytearray], None]:
    def damage(content: bytearray) -> None:
        content[offset] ^= 0x10

    return damage


def zero(offset: int, size: int) -> Callable[[bytearray], None]:
    def damage(content: bytearray) -> None:
        content[offset : offset + size] = bytes(size)

    return damage


DAMAGES = {
    "bit in the magic": flip(frame_at(1)),
    "bit in the count": flip(frame_at(1) + 4),
    "bit in the position": flip(frame_at(1) + 8),
    "bit in the time": flip(frame_at(1) + 16),
    "bit in the length": flip(frame_at(1) + 24),
    "high bit of the length": flip(frame_at(1) + 27),
    "bit in the header crc": flip(frame_at(1) + 28),
    "bit in the payload": flip(frame_at(1) + 500),
    "bit in the body crc": flip(frame_at(2) - 1),
    "zeroed length": zero(frame_at(1) + 24, 4),
    "zeroed frame": zero(frame_at(1), FRAME_BYTES),
    "zeroed page": zero(frame_at(1) + 100, 512),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
@pytest.mark.parametrize("which", [0, 1, 2])
async def test_damage_in_the_middle_is_set_aside_and_the_rest_is_read(
    which: int, damage: Callable[[bytearray], None]
) -> None:
    disk = SimulatedDisk()
    await written(disk)
    path = segments(disk)[which]
    damage(disk.content(path))
    damaged = bytes(disk.content(path))
    log = opened(disk)
    assert len(log.recovered.damaged) == 1
    assert log.recovered.damaged[0].position == int(path.stem) + frame_at(1)
    assert log.recovered.cut_bytes == log.recovered.missing_bytes == 0
    lost = {which * PER_SEGMENT + 1, which * PER_SEGMENT + 2}
    assert await numbers(log) == [number for number in range(9) if number not in lost]
    assert log.stats().quarantined == 1
    (aside,) = set_aside(disk)
    assert (aside.name, bytes(disk.content(aside))) == (path.name, damaged)
    (note,) = [path for path in disk.paths() if path.suffix == ".json"]
    assert json.loads(disk.content(note))["reason"] == log.recovered.damaged[0].reason
    await log.close()
    log = opened(disk)  # once only
    assert (log.recovered.damaged, log.recovered.missing_bytes, log.stats().quarantined) == ([], 0, 1)
    await log.close()


@pytest.mark.parametrize("which", [0, 1, 2])
async def test_a_damaged_segment_header_sets_the_whole_segment_aside(which: int) -> None:
    disk = SimulatedDisk()
    await written(disk)
    disk.content(segments(disk)[which])[20] ^= 1
    log = opened(disk)
    assert [damage.reason for damage in log.recovered.damaged] == ["the segment header is damaged"]
    assert await numbers(log) == [number for number in range(9) if number // PER_SEGMENT != which]
    assert len(set_aside(disk)) == 1
    await log.writer.append(b"\x63")
    assert await numbers(log) == [0x63]
    await log.close()


async def test_a_segment_under_another_name_is_set_aside() -> None:
    disk = SimulatedDisk()
    await written(disk)
    path = segments(disk)[2]
    disk.rename(path, path.with_name(f"{int(path.stem) + 5:020d}.wal"))
    log = opened(disk)
    assert "its name says" in log.recovered.damaged[0].reason
    assert await numbers(log) == [0, 1, 2, 3, 4, 5]
    await log.close()


@pytest.mark.parametrize("left", [0, 1, 20, 31, 32, 33, 500, FRAME_BYTES - 1])
async def test_a_torn_tail_is_cut(left: int) -> None:
    disk = SimulatedDisk()
    await written(disk)
    del disk.content(segments(disk)[2])[frame_at(2) + left :]
    log = opened(disk)
    assert log.recovered.cut_bytes == left
    assert log.recovered.damaged == []
    assert len(disk.content(segments(disk)[2])) == frame_at(2)
    position = await log.writer.append(b"\x63")
    assert position > int(segments(disk)[2].stem) + frame_at(2) + left
    assert await numbers(log) == [0, 1, 2, 3, 4, 5, 6, 7, 0x63]
    await log.close()
    assert set_aside(disk) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content.__setitem__(slice(frame_at(2), None), random.Random(1).randbytes(FRAME_BYTES)),
        zero(frame_at(2), FRAME_BYTES),
        zero(frame_at(2) + 40, FRAME_BYTES - 40),
        lambda content: content.extend(bytes(5000)),
        lambda content: content.extend(content[frame_at(0) : frame_at(1)]),  # an old frame, out of place
    ],
    ids=["scrambled", "zeroed", "zeroed body", "zeros behind", "stale frame behind"],
)
async def test_a_scrambled_last_record_is_cut(damage: Callable[[bytearray], None]) -> None:
    disk = SimulatedDisk()
    await written(disk)
    content = disk.content(segments(disk)[2])
    whole = len(content)
    damage(content)
    log = opened(disk)
    assert log.recovered.cut_bytes > 0
    assert log.recovered.damaged == []
    assert await numbers(log) == list(range(8 if len(content) < whole else 9))
    await log.close()


async def test_cut_positions_are_not_used_again_after_several_starts() -> None:
    disk = SimulatedDisk()
    await written(disk, 3)
    whole_end = int(segments(disk)[0].stem) + len(disk.content(segments(disk)[0]))
    disk.content(segments(disk)[0])[-1] ^= 1
    for _ in range(3):
        await opened(disk).close()
    log = opened(disk)
    await log.writer.append(b"x")
    assert int(segments(disk)[-1].stem) >= whole_end
    await log.close()


@pytest.mark.parametrize("size", [0, 1, 63, 64])
async def test_an_empty_last_segment_is_removed(size: int) -> None:
    disk = SimulatedDisk()
    await written(disk, 3)
    disk.make_folder(FOLDER)
    path = FOLDER / f"{int(segments(disk)[0].stem) + 100_000:020d}.wal"
    disk.write_at(disk.create(path), bytes(size), 0)
    disk.kill()
    log = opened(disk)
    assert path not in segments(disk)
    assert (log.recovered.damaged, log.recovered.cut_bytes) == ([], 0)
    await log.writer.append(b"\x63")
    assert await numbers(log) == [0, 1, 2, 0x63]
    await log.close()


@pytest.mark.parametrize("damage", ["missing", "empty", "zeroed", "scrambled"])
async def test_without_a_cursor_everything_is_read_again_under_a_new_id(damage: str) -> None:
    disk = SimulatedDisk()
    await written(disk)
    log = opened(disk)
    identity = log.log_id
    batch = await log.reader.next(2500, 0)
    await log.reader.acknowledge(batch.end)
    await log.close()
    cursor = FOLDER / "cursor"
    if damage == "missing":
        disk.remove(cursor)
    elif damage == "empty":
        disk.content(cursor).clear()
    else:
        size = len(disk.content(cursor))
        disk.content(cursor)[:] = bytes(size) if damage == "zeroed" else random.Random(2).randbytes(size)
    log = opened(disk)
    assert log.recovered.cursor_lost
    assert log.log_id != identity
    assert await numbers(log) == list(range(9))
    await log.close()


async def test_one_damaged_cursor_slot_costs_one_step() -> None:
    disk = SimulatedDisk()
    await written(disk)
    for slot in (0, 4096):
        copy = bytes(disk.content(FOLDER / "cursor"))
        disk.content(FOLDER / "cursor")[slot + 30] ^= 1
        log = opened(disk)
        assert not log.recovered.cursor_lost
        await log.close()
        disk.content(FOLDER / "cursor")[:] = copy
    log = opened(disk)
    assert await numbers(log) == list(range(9))
    await log.close()


async def test_a_stale_cursor_starts_at_the_oldest_segment_and_the_gap_is_told() -> None:
    disk = SimulatedDisk()
    await written(disk)
    gone = segments(disk)[0]
    missing = len(disk.content(gone))
    disk.remove(gone)
    log = opened(disk)
    assert log.recovered.missing_bytes == missing
    assert await numbers(log) == [3, 4, 5, 6, 7, 8]
    await log.close()


async def test_a_cursor_beyond_the_end_reads_nothing_and_loses_nothing_new() -> None:
    disk = SimulatedDisk()
    await written(disk)
    log = opened(disk)
    assert await numbers(log) == list(range(9))
    acknowledged = log.reader.acknowledged
    await log.close()
    for path in segments(disk):
        disk.remove(path)
    log = opened(disk)
    assert await numbers(log) == []
    assert await log.writer.append(b"\x63") > acknowledged
    assert await numbers(log) == [0x63]
    await log.close()


async def test_a_cursor_inside_a_frame_goes_back_to_its_start() -> None:
    disk = SimulatedDisk()
    await written(disk)
    log = opened(disk)
    batch = await log.reader.next(1500, 0)
    log.reader._cursor.save(acknowledged=batch.end + 50, floor=0, batch_ends=(), newest=0)
    await log.close()
    log = opened(disk)
    assert log.recovered.damaged == []
    assert await numbers(log) == list(range(1, 9))
    await log.close()


async def test_damage_before_the_cursor_does_not_matter() -> None:
    disk = SimulatedDisk()
    await written(disk)
    log = opened(disk)
    batch = await log.reader.next(1500, 0)
    await log.reader.acknowledge(batch.end)
    await log.close()
    disk.content(segments(disk)[0])[frame_at(0) + 100] ^= 1
    log = opened(disk)
    assert log.recovered.damaged == []
    assert await numbers(log) == list(range(1, 9))
    await log.close()


async def test_a_segment_cut_short_in_the_middle_is_told() -> None:
    disk = SimulatedDisk()
    await written(disk)
    del disk.content(segments(disk)[1])[frame_at(2) :]
    log = opened(disk)
    assert (log.recovered.missing_bytes, log.recovered.cut_bytes) == (FRAME_BYTES, 0)
    assert await numbers(log) == [0, 1, 2, 3, 4, 6, 7, 8]
    await log.close()


async def test_a_batch_that_lost_a_part_comes_under_another_name() -> None:
    disk = SimulatedDisk()
    await written(disk)
    log = opened(disk)
    out = await log.reader.next(1 << 20, 0)
    assert out.records == 3
    await crash(log, disk)
    disk.content(segments(disk)[0])[frame_at(2) + 100] ^= 1
    log = opened(disk)
    again = await log.reader.next(1 << 20, 0)
    assert (again.first, again.records) == (out.first, 2)
    assert again.end != out.end
    await log.close()


async def test_a_frame_that_a_killed_process_left_unsynced_is_durable_before_it_is_read() -> None:
    for seed in range(10):
        disk = SimulatedDisk()
        await written(disk, 2)
        log = opened(disk)
        await log.writer.append(b"a")
        disk.fail = {"sync": errno.EIO, "truncate": errno.EIO, "remove": errno.EIO}
        with pytest.raises(StorageDown):
            await log.writer.append(b"b")
        await crash(log, disk)
        log = opened(disk)
        batches = [await log.reader.next(1 << 20, 0) for _ in range(2)]
        assert batches[1].payload == b"\x01a\x01b"  # b was refused, and is whole: it counts
        await crash(log, disk, random.Random(seed))
        log = opened(disk)
        assert [await log.reader.next(1 << 20, 0) for _ in range(2)] == batches
        await log.close()


async def test_a_consumed_segment_that_comes_back_is_not_read_and_nothing_is_missing() -> None:
    disk = SimulatedDisk()
    await written(disk)
    log = opened(disk)
    first, content = segments(disk)[0], bytes(disk.content(segments(disk)[0]))
    for _ in range(2):
        batch = await log.reader.next(1 << 20, 0)
        await log.reader.acknowledge(batch.end)
    await log.close()
    disk.write_at(disk.create(first), content, 0)
    disk.kill()
    log = opened(disk)
    assert log.recovered.missing_bytes == 0
    assert await numbers(log) == [6, 7, 8]
    await log.close()


async def test_every_byte_that_is_damaged_costs_at_most_its_segment() -> None:
    """Any one byte of any segment: nothing is invented, nothing before or in other segments is lost."""
    dice = random.Random(3)
    for _ in range(150):
        disk = SimulatedDisk()
        await written(disk)
        which = dice.randrange(3)
        content = disk.content(segments(disk)[which])
        offset = dice.randrange(len(content))
        content[offset] ^= 1 << dice.randrange(8)
        log = opened(disk)
        got = await numbers(log)
        assert got == sorted(set(got))
        first_lost = max(0, (offset - SEGMENT_HEADER_BYTES) // FRAME_BYTES)
        assert set(range(9)) - set(got) <= set(range(which * 3 + first_lost, which * 3 + 3))
        await log.close()


async def test_a_second_process_is_refused(tmp_path: Path) -> None:
    log = open_log(tmp_path / "log", ReceiptClock.alone(), max_bytes=1 << 20, segment_bytes=1 << 18)
    with pytest.raises(StartRefused, match="in use by another process"):
        open_log(tmp_path / "log", ReceiptClock.alone(), max_bytes=1 << 20, segment_bytes=1 << 18)
    await log.close()
    await open_log(tmp_path / "log", ReceiptClock.alone(), max_bytes=1 << 20, segment_bytes=1 << 18).close()


@pytest.mark.parametrize("operation", ["make_folder", "lock", "create", "names", "write_at", "sync"])
def test_a_folder_that_cannot_be_used_is_refused_in_one_sentence(operation: str) -> None:
    disk = SimulatedDisk()
    disk.fail[operation] = 13
    with pytest.raises(StartRefused, match="The write-ahead log in /log cannot be opened: Permission denied."):
        opened(disk)
    assert disk.open_handles() == 0


async def test_strange_files_are_left_alone() -> None:
    disk = SimulatedDisk()
    await written(disk, 3)
    for name in ("notes.txt", "1.wal", "00000000000000000000.wal.bak"):
        disk.close(disk.create(FOLDER / name))
    log = opened(disk)
    assert await numbers(log) == [0, 1, 2]
    await log.close()
    assert {"notes.txt", "1.wal", "00000000000000000000.wal.bak"} <= {path.name for path in disk.paths()}
