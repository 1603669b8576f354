"""Appending: durability before the reply, group commit, bounds, and what happens when the disk fails."""

import asyncio
import errno
import random
import threading
from pathlib import Path

import pytest

from support.disk import SimulatedDisk
from support.wal import FOLDER, crash, drain, opened, records, segments
from tracestone.collector.wal import frames
from tracestone.collector.wal.log import open_log
from tracestone.collector.wal.receipt import ReceiptClock
from tracestone.schema.errors import LogFull, Stopping, StorageDown, TooLarge


async def test_reply_waits_for_fsync() -> None:
    disk = SimulatedDisk()
    log = opened(disk)
    await log.writer.append(b"makes the first segment")
    may_sync, syncing = threading.Event(), threading.Event()

    def hold(path: Path) -> None:
        if path.suffix == ".wal":
            syncing.set()
            assert may_sync.wait(20)

    disk.before_sync = hold
    append = asyncio.create_task(log.writer.append(b"held back"))
    await asyncio.to_thread(syncing.wait, 20)
    assert b"held back" in disk.content(segments(disk)[0])  # written, and still no reply
    before = log.writer.synced
    for _ in range(20):
        await asyncio.sleep(0)
    assert not append.done()
    assert (await log.reader.next(1 << 20, 0)).end == before  # nor does the reader see it
    may_sync.set()
    assert await append == log.writer.synced > before
    disk.before_sync = lambda _: None
    await log.close()


async def test_what_was_acknowledged_survives_a_power_cut() -> None:
    for seed in range(20):
        disk = SimulatedDisk()
        log = opened(disk)
        sent = [f"{number}".encode() * 50 for number in range(60)]
        await asyncio.gather(*(log.writer.append(record) for record in sent))
        await crash(log, disk, random.Random(seed))
        log = opened(disk)
        assert await drain(log) == sent
        await log.close()


async def test_requests_that_wait_share_an_fsync() -> None:
    disk = SimulatedDisk()
    log = opened(disk)
    await log.writer.append(b"first")
    before = disk.calls["sync"]
    positions = await asyncio.gather(*(log.writer.append(bytes(10)) for _ in range(100)))
    assert disk.calls["sync"] - before == 1
    assert len(set(positions)) == 1
    assert log.writer.synced == positions[0]
    await log.close()


async def test_positions_grow_and_follow_the_order_of_requests() -> None:
    disk = SimulatedDisk()
    log = opened(disk)
    positions = [await log.writer.append(bytes(1000)) for _ in range(20)]
    assert positions == sorted(set(positions))
    assert len(segments(disk)) > 3  # they grow through segments, too
    await log.close()


async def test_large_and_tiny_records_come_back_as_they_were() -> None:
    disk = SimulatedDisk()
    log = opened(disk, max_bytes=64 << 20, segment_bytes=16 << 20)
    sent = [b"", b"x", bytes(4095), bytes(4096), bytes(5_000_000), *(b"y" * size for size in range(3000))]
    await asyncio.gather(*(log.writer.append(record) for record in sent))
    assert await drain(log) == sent
    await log.close()


async def test_a_short_write_is_continued() -> None:
    class Trickle(SimulatedDisk):
        def write(self, descriptor, buffers):
            first = next(buffer for buffer in buffers if len(buffer))
            return super().write(descriptor, [bytes(first[:7])])

    disk = Trickle()
    log = opened(disk)
    sent = [bytes([number]) * 5000 for number in range(10)]
    await asyncio.gather(*(log.writer.append(record) for record in sent))
    assert await drain(log) == sent
    await log.close()


async def test_full_log_is_refused_before_anything_is_written() -> None:
    disk = SimulatedDisk()
    log = opened(disk, max_bytes=64 * 1024)
    with pytest.raises(LogFull) as refusal:
        for _ in range(100):
            await log.writer.append(bytes(1000))
    assert refusal.value.retry_after == 1.0
    assert log.stats().disk_bytes <= 64 * 1024
    assert sum(len(disk.content(path)) for path in segments(disk)) == log.stats().disk_bytes
    writes = disk.calls["write"]
    with pytest.raises(LogFull):
        await log.writer.append(bytes(1000))
    assert disk.calls["write"] == writes
    await drain(log)
    await log.writer.append(bytes(1000))
    await log.close()


async def test_what_waits_for_the_disk_counts_towards_the_bound() -> None:
    disk = SimulatedDisk()
    log = opened(disk, max_bytes=64 * 1024)
    results = await asyncio.gather(*(log.writer.append(bytes(1000)) for _ in range(100)), return_exceptions=True)
    assert 50 < sum(isinstance(result, int) for result in results) <= 64
    assert {type(result) for result in results} == {int, LogFull}
    assert log.stats().disk_bytes <= 64 * 1024
    await log.close()


async def test_memory_that_waits_for_the_disk_is_bounded() -> None:
    log = open_log(
        FOLDER,
        ReceiptClock.alone(),
        max_bytes=1 << 30,
        segment_bytes=1 << 20,
        filesystem=SimulatedDisk(),
        max_pending_bytes=10_000,
    )
    results = await asyncio.gather(*(log.writer.append(bytes(1000)) for _ in range(20)), return_exceptions=True)
    assert sum(isinstance(result, int) for result in results) == 9
    assert log.writer.pending_bytes == 0
    await log.close()


async def test_a_record_that_can_never_fit_is_refused_for_good() -> None:
    log = opened(SimulatedDisk(), max_bytes=64 * 1024)
    with pytest.raises(TooLarge, match="40000 bytes.*limit is 32768"):
        await log.writer.append(bytes(40_000))
    await log.close()


@pytest.mark.parametrize("largest", [1, 1000, 32_768])
async def test_a_consumed_log_always_has_room_for_a_record_of_legal_size(largest: int) -> None:
    log = opened(SimulatedDisk(), max_bytes=64 * 1024, segment_bytes=1 << 30)
    for _ in range(200):
        await log.writer.append(bytes(largest))
        await drain(log)
    await log.close()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
async def test_a_full_disk_is_answered_as_a_full_log_and_recovers_with_the_space(code: int) -> None:
    disk = SimulatedDisk()
    log = opened(disk)
    await log.writer.append(b"before")
    disk.fail["write"] = code
    for _ in range(3):
        with pytest.raises(LogFull):
            await log.writer.append(b"refused")
    assert log.stats().last_error
    disk.fail.clear()
    await log.writer.append(b"after")
    assert log.stats().last_error == ""
    assert await drain(log) == [b"before", b"after"]
    await log.close()


async def test_a_disk_without_space_still_lets_the_log_be_consumed_and_that_makes_room() -> None:
    disk = SimulatedDisk(free=8192 + 20_000)
    log = opened(disk)
    accepted = []
    for number in range(100):
        record = number.to_bytes(2, "little") * 500
        try:
            await log.writer.append(record)
        except LogFull:
            break
        accepted.append(record)
    assert 10 < len(accepted) < 20
    assert await drain(log) == accepted
    for _ in range(30):
        await log.writer.append(bytes(1000))
        await drain(log)
    await log.close()


async def test_the_reserve_is_left_free_and_the_open_segment_does_not_hold_on_to_it() -> None:
    disk = SimulatedDisk(free=100_000)
    log = open_log(
        FOLDER, ReceiptClock.alone(), max_bytes=1 << 20, segment_bytes=1 << 18, filesystem=disk, reserve_bytes=50_000
    )
    with pytest.raises(LogFull):
        for _ in range(200):
            await log.writer.append(bytes(1000))
    assert disk.free > 20_000  # looked at every half reserve
    accepted = len(await drain(log))
    assert accepted > 20
    for _ in range(accepted // 2):
        await log.writer.append(bytes(1000))
    await log.close()


async def test_a_failed_fsync_fails_its_group_and_the_segment_is_never_written_again() -> None:
    disk = SimulatedDisk()
    log = opened(disk)
    await log.writer.append(b"before")
    first = segments(disk)[0]
    size = len(disk.content(first))
    disk.fail["sync"] = errno.EIO
    refused = await asyncio.gather(*(log.writer.append(b"refused") for _ in range(5)), return_exceptions=True)
    assert {type(error) for error in refused} == {StorageDown}
    assert "Input/output error" in str(refused[0])
    assert len({id(error) for error in refused}) == 5  # each caller raises its own
    disk.fail.clear()
    position = await log.writer.append(b"after")
    assert len(disk.content(first)) == size
    assert len(segments(disk)) == 2
    attempted = frames.FRAME_OVERHEAD_BYTES + 5 * len(b"\x07refused")
    assert position > int(segments(disk)[1].stem) >= size + attempted  # above all that may have been written
    assert await drain(log) == [b"before", b"after"]
    await log.close()


async def test_a_refused_group_that_could_not_be_cut_off_is_not_read_after_a_restart() -> None:
    disk = SimulatedDisk()
    log = opened(disk)
    await log.writer.append(b"before")
    disk.fail.update(sync=errno.EIO, truncate=errno.EIO)
    with pytest.raises(StorageDown):
        await log.writer.append(b"refused")
    disk.fail.clear()
    await log.writer.append(b"after")
    assert b"refused" in disk.content(segments(disk)[0])
    await crash(log, disk)
    log = opened(disk)
    assert await drain(log) == [b"before", b"after"]
    assert (log.stats().quarantined, log.recovered.damaged) == (0, [])
    await log.close()


@pytest.mark.parametrize("operation", ["create", "write", "sync", "sync_folder"])
async def test_a_segment_that_cannot_be_made_leaves_no_trace(operation: str) -> None:
    disk = SimulatedDisk()
    log = opened(disk)
    disk.fail[operation] = errno.EIO
    for _ in range(3):
        with pytest.raises(StorageDown):
            await log.writer.append(b"refused")
    disk.fail.clear()
    assert segments(disk) == []
    await log.writer.append(b"after")
    assert await drain(log) == [b"after"]
    await log.close()
    assert disk.open_handles() == 0


async def test_a_cancelled_append_does_not_disturb_its_group() -> None:
    log = opened(SimulatedDisk())
    appends = [asyncio.create_task(log.writer.append(bytes([number]))) for number in range(5)]
    await asyncio.sleep(0)
    appends[2].cancel()
    results = await asyncio.gather(*appends, return_exceptions=True)
    assert [type(result) for result in results].count(int) == 4
    assert {b"\0", b"\1", b"\3", b"\4"} <= set(await drain(log))
    await log.close()


async def test_close_makes_durable_what_was_taken_and_refuses_what_comes_after() -> None:
    disk = SimulatedDisk()
    log = opened(disk)
    appends = [asyncio.create_task(log.writer.append(bytes([number]))) for number in range(5)]
    await asyncio.sleep(0)
    await log.close()
    assert all(isinstance(position, int) for position in await asyncio.gather(*appends))
    with pytest.raises(Stopping):
        await log.writer.append(b"late")
    assert disk.open_handles() == 0
    log = opened(disk)
    assert await drain(log) == [bytes([number]) for number in range(5)]
    await log.close()


async def test_a_defect_in_the_writer_leaves_nobody_waiting() -> None:
    disk = SimulatedDisk()
    log = opened(disk)
    disk.before_sync = lambda _: 1 / 0
    with pytest.raises(Stopping):
        await log.writer.append(b"x")
    assert log.stats().last_error
    with pytest.raises(Stopping):
        await log.writer.append(b"y")
    with pytest.raises(ZeroDivisionError):
        await log.close()


async def test_the_real_file_system(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "log"
    sent = [bytes([number % 256]) * (number * 37) for number in range(300)]
    log = open_log(folder, ReceiptClock.alone(), max_bytes=64 << 20, segment_bytes=256 * 1024)
    await asyncio.gather(*(log.writer.append(record) for record in sent[:150]))
    batch = await log.reader.next(50_000, 1.0)
    assert batch is not None
    assert records(batch) == sent[: batch.records]
    await log.reader.acknowledge(batch.end)
    identity = log.log_id
    await log.close()
    log = open_log(folder, ReceiptClock.alone(), max_bytes=64 << 20, segment_bytes=256 * 1024)
    assert log.log_id == identity
    await asyncio.gather(*(log.writer.append(record) for record in sent[150:]))
    assert await drain(log) == sent[batch.records :]
    assert list(folder.glob("*.wal")) == []  # the last frame filled its segment
    await log.writer.append(b"in a new segment")
    assert len(list(folder.glob("*.wal"))) == 1
    await log.close()
