"""Single faults of a disk under a running log, and what an operator does to its folder."""

import errno
import os
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from support.disk import SimulatedDisk
from support.wal import FOLDER, crash, drain, opened, segments
from tracestone.collector.wal import filesystem
from tracestone.collector.wal.frames import FRAME_OVERHEAD_BYTES, SEGMENT_HEADER_BYTES, split_payload
from tracestone.collector.wal.log import open_log
from tracestone.collector.wal.reader import UNREADABLE_TRIES
from tracestone.collector.wal.receipt import ReceiptClock
from tracestone.collector.wal.salvage import SECTOR_BYTES, whole_frames
from tracestone.schema.errors import LogFull, StorageDown

FRAME_BYTES = FRAME_OVERHEAD_BYTES + 2 + 1000
QUARANTINE = FOLDER / "quarantine"


async def test_a_segment_deleted_while_it_is_written_is_no_longer_acknowledged_into(tmp_path: Path) -> None:
    folder = tmp_path / "wal"
    log = open_log(folder, ReceiptClock.alone(), max_bytes=1 << 20, segment_bytes=1 << 18, reserve_bytes=0)
    await log.writer.append(b"in the segment that goes")
    next(folder.glob("*.wal")).unlink()
    with pytest.raises(StorageDown, match="the segment was removed while it was written"):
        await log.writer.append(b"refused")
    await log.writer.append(b"in a new one")
    assert await drain(log) == [b"in a new one"]
    assert log.stats().missing_bytes == FRAME_OVERHEAD_BYTES + 1 + len(b"in the segment that goes")
    assert log.stats().last_error == ""
    await log.close()
    log = open_log(folder, ReceiptClock.alone(), max_bytes=1 << 20, segment_bytes=1 << 18, reserve_bytes=0)
    await log.writer.append(b"afterwards")
    assert await drain(log) == [b"afterwards"]
    await log.close()


async def test_a_segment_that_the_reader_has_open_is_read_to_its_end_though_it_is_deleted(tmp_path: Path) -> None:
    folder = tmp_path / "wal"
    log = open_log(folder, ReceiptClock.alone(), max_bytes=1 << 20, segment_bytes=1 << 18, reserve_bytes=0)
    for record in (b"one", b"two"):
        await log.writer.append(record)
    batch = await log.reader.next(1, 0)
    next(folder.glob("*.wal")).unlink()
    await log.reader.acknowledge(batch.end)
    assert await drain(log) == [b"two"]
    assert log.stats().missing_bytes == 0
    await log.close()


async def test_while_the_folder_is_gone_senders_are_told_to_wait_and_nothing_is_given_up(tmp_path: Path) -> None:
    folder = tmp_path / "wal"
    log = open_log(folder, ReceiptClock.alone(), max_bytes=1 << 20, segment_bytes=1 << 18, reserve_bytes=0)
    await log.writer.append(b"kept")
    folder.rename(tmp_path / "elsewhere")
    for _ in range(3):
        with pytest.raises(StorageDown, match="No such file or directory|was removed"):
            await log.writer.append(b"refused")
        with pytest.raises(StorageDown, match="No such file or directory"):
            await log.reader.next(1 << 20, 0)
    assert not folder.exists()
    (tmp_path / "elsewhere").rename(folder)
    await log.writer.append(b"taken")
    assert await drain(log) == [b"kept", b"taken"]
    assert log.stats().missing_bytes == 0
    await log.close()


async def test_a_folder_that_was_deleted_and_made_again_is_used(tmp_path: Path) -> None:
    folder = tmp_path / "wal"
    log = open_log(folder, ReceiptClock.alone(), max_bytes=1 << 20, segment_bytes=1 << 18, reserve_bytes=0)
    await log.writer.append(b"lost")
    shutil.rmtree(folder)
    with pytest.raises(StorageDown):
        await log.writer.append(b"refused")
    folder.mkdir()
    await log.writer.append(b"taken")
    assert await drain(log) == [b"taken"]
    assert log.stats().missing_bytes > 0
    assert (folder / "cursor").exists()
    await log.close()
    log = open_log(folder, ReceiptClock.alone(), max_bytes=1 << 20, segment_bytes=1 << 18, reserve_bytes=0)
    assert await drain(log) == []
    await log.close()


async def test_a_frame_that_cannot_be_read_costs_itself_alone() -> None:
    disk = SimulatedDisk()
    log = opened(disk, segment_bytes=64 * 1024)
    for number in range(6):
        await log.writer.append(bytes([number]) * 1000)
    file = disk.file(segments(disk)[0])
    bad = (SEGMENT_HEADER_BYTES + 3 * FRAME_BYTES + FRAME_BYTES // 2) // SECTOR_BYTES * SECTOR_BYTES
    disk.unreadable.append((file, bad, bad + SECTOR_BYTES))
    # One by one up to the bad place.
    assert [(await log.reader.next(1 << 20, 0)).payload[2] for _ in range(3)] == [0, 1, 2]
    for _ in range(UNREADABLE_TRIES - 1):
        with pytest.raises(StorageDown, match="Input/output error"):
            await log.reader.next(1 << 20, 0)
    await log.writer.append(bytes([6]) * 1000)
    assert [record[0] for record in await drain(log)] == []
    await log.writer.append(bytes([7]) * 1000)
    assert [record[0] for record in await drain(log)] == [7]
    (aside,) = [path for path in disk.paths() if path.parent == QUARANTINE and path.suffix == ".wal"]
    assert [body[2] for body in whole_frames(disk, aside)] == [0, 1, 2, 4, 5, 6]
    await log.close()


async def test_a_damaged_segment_is_set_aside_before_the_cursor_passes_it() -> None:
    """The next start deletes what is behind the cursor."""
    disk = SimulatedDisk()
    log = opened(disk)
    for number in range(6):
        await log.writer.append(bytes([number]) * 1000)
    disk.content(segments(disk)[0])[SEGMENT_HEADER_BYTES + 500] ^= 1
    disk.fail["rename"] = errno.EIO
    assert [record[0] for record in await drain(log)] == [3, 4, 5]
    await crash(log, disk)
    log = opened(disk)
    await drain(log)
    (aside,) = [path for path in disk.paths() if path.parent == QUARANTINE and path.suffix == ".wal"]
    assert [body[2] for body in whole_frames(disk, aside)] == [1, 2]
    await log.close()


async def test_a_segment_in_quarantine_is_never_replaced() -> None:
    disk = SimulatedDisk()
    for _ in range(3):
        log = opened(disk)
        for number in range(6):
            await log.writer.append(bytes([number]) * 1000)
        disk.content(segments(disk)[0])[SEGMENT_HEADER_BYTES + 500] ^= 1
        await drain(log)
        await log.close()
        for path in segments(disk):
            disk.remove(path)
        disk.remove(FOLDER / "cursor")
    aside = [path for path in disk.paths() if path.parent == QUARANTINE and path.suffix == ".wal"]
    assert len(aside) == 3
    assert [[body[2] for body in whole_frames(disk, path)] for path in aside] == [[1, 2]] * 3


async def test_salvage_finds_whole_frames_at_every_place_of_a_damaged_byte() -> None:
    disk = SimulatedDisk()
    log = opened(disk, segment_bytes=64 * 1024)
    for number in range(4):
        await log.writer.append(bytes([number]) * 50)
    await log.close()
    path = segments(disk)[0]
    content = disk.content(path)
    size = FRAME_OVERHEAD_BYTES + 1 + 50
    for offset in range(len(content)):
        content[offset] ^= 0x55
        destroyed = (offset - SEGMENT_HEADER_BYTES) // size if offset >= SEGMENT_HEADER_BYTES else None
        found = [split_payload(body) for body in whole_frames(disk, path)]
        content[offset] ^= 0x55
        assert found == [[bytes([50]) + bytes([number]) * 50] for number in range(4) if number != destroyed]


async def test_what_a_failed_sync_left_behind_is_written_again_at_the_next_start() -> None:
    """The system takes pages for written once their sync has failed, so a second sync alone proves nothing."""
    disk = SimulatedDisk()
    log = opened(disk)
    await log.writer.append(b"a")
    disk.fail = {"sync": errno.EIO, "truncate": errno.EIO, "remove": errno.EIO}
    with pytest.raises(StorageDown):
        await log.writer.append(b"b")
    await crash(log, disk)
    log = opened(disk)
    batch = await log.reader.next(1 << 20, 0)
    assert batch.payload == b"\x01a\x01b"
    await crash(log, disk, random.Random(1))
    log = opened(disk)
    assert await log.reader.next(1 << 20, 0) == batch
    await log.close()


async def test_short_reads_and_writes_of_the_system_are_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pread, pwrite, writev = os.pread, os.pwrite, os.writev

    def short_writev(descriptor: int, buffers: Sequence[bytes]) -> int:
        return writev(descriptor, [bytes(next(buffer for buffer in buffers if len(buffer))[:11])])

    monkeypatch.setattr(filesystem.os, "pread", lambda fd, size, at: pread(fd, min(size, 13), at))
    monkeypatch.setattr(filesystem.os, "pwrite", lambda fd, data, at: pwrite(fd, bytes(data[:7]), at))
    monkeypatch.setattr(filesystem.os, "writev", short_writev)
    sent = [bytes([number]) * 300 for number in range(10)]
    log = open_log(tmp_path / "wal", ReceiptClock.alone(), max_bytes=1 << 20, segment_bytes=1 << 18, reserve_bytes=0)
    for record in sent:
        await log.writer.append(record)
    await log.close()
    log = open_log(tmp_path / "wal", ReceiptClock.alone(), max_bytes=1 << 20, segment_bytes=1 << 18, reserve_bytes=0)
    assert log.recovered.damaged == []
    assert await drain(log) == sent
    await log.close()


async def test_a_cursor_that_no_space_is_left_for_stops_nothing() -> None:
    disk = SimulatedDisk(free=8192 + 3000)
    log = opened(disk)
    with pytest.raises(LogFull):
        for number in range(10):
            await log.writer.append(bytes([number]) * 1000)
    assert [record[0] for record in await drain(log)] == [0, 1]
    await log.close()
