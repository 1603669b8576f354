"""Reading: batches and their names, acknowledging, waiting, letting go of segments."""

import asyncio
import errno
import random

import pytest

from support.disk import SimulatedDisk
from support.wal import crash, drain, opened, records, segments
from tracestone.schema.errors import StorageDown


async def test_a_batch_says_what_it_holds() -> None:
    log = opened(SimulatedDisk())
    await log.writer.append(b"one")
    end = await log.writer.append(b"two")
    batch = await log.reader.next(1 << 20, 0)
    assert records(batch) == [b"one", b"two"]
    assert batch.payload == b"\x03one\x03two"
    assert (batch.end, batch.records) == (end, 2)
    assert batch.first < batch.end
    assert batch.oldest > 1_700_000_000_000_000_000
    assert log.reader.oldest == batch.oldest
    await log.reader.acknowledge(batch.end)
    assert log.reader.acknowledged == end
    assert log.reader.oldest is None
    assert log.stats().waiting_bytes == 0
    await log.close()


async def test_batches_respect_the_size_but_give_at_least_what_was_committed_together() -> None:
    log = opened(SimulatedDisk(), segment_bytes=64 * 1024)
    for number in range(10):
        await log.writer.append(bytes([number]) * 1000)
    assert (await log.reader.next(3500, 0)).records == 3
    assert (await log.reader.next(1, 0)).records == 1
    assert (await log.reader.next(1 << 20, 0)).records == 6
    assert await log.reader.next(1 << 20, 0) is None
    await log.close()


async def test_a_batch_lies_within_one_segment() -> None:
    disk = SimulatedDisk()
    log = opened(disk)
    for number in range(12):
        await log.writer.append(bytes([number]) * 1000)
    count = len(segments(disk))
    batches = [await log.reader.next(1 << 20, 0) for _ in range(count)]
    assert [batch.records for batch in batches] == [3] * count
    await log.close()


async def test_a_record_larger_than_the_batch_is_read_in_one_piece() -> None:
    log = opened(SimulatedDisk(), max_bytes=16 << 20, segment_bytes=1 << 20)
    await log.writer.append(random.Random(1).randbytes(3_000_000))
    batch = await log.reader.next(10_000, 0)
    assert records(batch) == [random.Random(1).randbytes(3_000_000)]
    await log.close()


async def test_next_waits_for_a_record_and_gives_up_in_time() -> None:
    log = opened(SimulatedDisk())
    assert await log.reader.next(1 << 20, 0.01) is None
    waiting = asyncio.create_task(log.reader.next(1 << 20, 30))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    await log.writer.append(b"comes late")
    assert records(await waiting) == [b"comes late"]
    await log.close()


async def test_next_waits_for_a_full_batch_until_the_first_record_is_old() -> None:
    log = opened(SimulatedDisk(), segment_bytes=64 * 1024)
    await log.writer.append(bytes(1000))
    waiting = asyncio.create_task(log.reader.next(5000, 30, max_age=30))
    for _ in range(3):
        await asyncio.sleep(0.005)
        assert not waiting.done()
        await log.writer.append(bytes(1000))
    await log.writer.append(bytes(1000))
    assert (await waiting).records >= 4  # as soon as there is enough
    await log.writer.append(bytes(1000))
    assert (await log.reader.next(5000, 30, max_age=0.02)).records <= 3  # or it is old
    await log.close()


async def test_consumed_segments_are_deleted_and_only_those() -> None:
    disk = SimulatedDisk()
    log = opened(disk)
    for number in range(12):
        await log.writer.append(bytes([number]) * 1000)
    assert len(segments(disk)) == 4
    for left in (3, 2, 1, 1):
        batch = await log.reader.next(1 << 20, 0)
        await log.reader.acknowledge(batch.end)
        assert len(segments(disk)) == left
    assert log.stats().disk_bytes == sum(len(disk.content(path)) for path in segments(disk))
    await log.close()


async def test_one_acknowledgement_can_cover_several_batches_in_order() -> None:
    log = opened(SimulatedDisk())
    for number in range(6):
        await log.writer.append(bytes([number]) * 1000)
    first, second = await log.reader.next(1500, 0), await log.reader.next(1500, 0)
    third = await log.reader.next(1500, 0)
    await log.reader.acknowledge(second.end)
    assert log.reader.acknowledged == second.end
    with pytest.raises(ValueError, match="not the end of a batch"):
        await log.reader.acknowledge(first.end)
    await log.reader.acknowledge(third.end)
    await log.close()


async def test_too_many_batches_at_once_are_a_mistake() -> None:
    log = opened(SimulatedDisk())
    for _ in range(9):
        await log.writer.append(b"x")
    for _ in range(8):
        await log.reader.next(1, 0)
    with pytest.raises(RuntimeError, match="8 batches are out"):
        await log.reader.next(1, 0)
    await log.close()


async def test_rewind_hands_out_the_same_batches_again() -> None:
    log = opened(SimulatedDisk())
    for number in range(6):
        await log.writer.append(bytes([number]) * 1000)
    out = [await log.reader.next(1500, 0) for _ in range(3)]
    log.reader.rewind()
    await log.writer.append(b"more")
    assert [await log.reader.next(1 << 20, 0) for _ in range(3)] == out
    await log.reader.acknowledge(out[-1].end)
    assert len(await drain(log)) == 4
    await log.close()


@pytest.mark.parametrize("seed", [None, *range(10)])
async def test_after_a_crash_the_same_batches_come_again_under_the_same_names(seed: int | None) -> None:
    disk = SimulatedDisk()
    log = opened(disk)
    for number in range(12):
        await log.writer.append(bytes([number]) * 1000)
    done = await log.reader.next(1500, 0)
    await log.reader.acknowledge(done.end)
    out = [await log.reader.next(1500, 0) for _ in range(5)]
    identity = log.log_id
    await crash(log, disk, None if seed is None else random.Random(seed))
    log = opened(disk)
    await log.writer.append(b"new")
    assert log.log_id == identity
    assert [await log.reader.next(1 << 20, 0) for _ in out] == out
    await log.reader.acknowledge(out[-1].end)
    rest = await drain(log)
    assert len(rest) == 12 - 1 - sum(batch.records for batch in out) + 1
    await log.close()


async def test_an_acknowledgement_that_cannot_be_kept_is_an_error_and_can_be_repeated() -> None:
    disk = SimulatedDisk()
    log = opened(disk)
    await log.writer.append(b"x")
    batch = await log.reader.next(1 << 20, 0)
    for operation in ("write_at", "sync"):
        disk.fail[operation] = errno.EIO
        with pytest.raises(StorageDown, match="Input/output error"):
            await log.reader.acknowledge(batch.end)
        disk.fail.clear()
    assert log.reader.acknowledged < batch.end
    await log.reader.acknowledge(batch.end)
    assert log.reader.acknowledged == batch.end
    await log.close()


async def test_a_batch_whose_name_cannot_be_kept_is_not_handed_out() -> None:
    disk = SimulatedDisk()
    log = opened(disk)
    await log.writer.append(b"x")
    disk.fail["write_at"] = errno.EIO
    with pytest.raises(StorageDown):
        await log.reader.next(1 << 20, 0)
    disk.fail.clear()
    assert await drain(log) == [b"x"]
    await log.close()


async def test_an_unreadable_disk_skips_nothing() -> None:
    disk = SimulatedDisk()
    log = opened(disk)
    await log.writer.append(b"x")
    disk.fail["read_at"] = errno.EIO
    for _ in range(3):
        with pytest.raises(StorageDown):
            await log.reader.next(1 << 20, 0)
    assert log.stats().last_error == "Input/output error"
    disk.fail.clear()
    assert await drain(log) == [b"x"]
    assert log.stats().last_error == ""
    await log.close()


async def test_a_segment_that_cannot_be_deleted_is_tried_again() -> None:
    disk = SimulatedDisk()
    log = opened(disk)
    for number in range(6):
        await log.writer.append(bytes([number]) * 1000)
    disk.fail["remove"] = errno.EIO
    assert len(await drain(log)) == 6
    assert len(segments(disk)) == 2
    disk.fail.clear()
    assert await log.reader.next(1 << 20, 0) is None
    assert len(segments(disk)) == 1
    await log.close()


async def test_damage_that_appears_while_running_is_set_aside_and_the_rest_is_read() -> None:
    disk = SimulatedDisk()
    log = opened(disk)
    for number in range(9):
        await log.writer.append(bytes([number]) * 1000)
    content = disk.content(segments(disk)[0])
    content[64 + 1036 + 500] ^= 1  # in the body of the second frame
    assert [record[0] for record in await drain(log)] == [0, 3, 4, 5, 6, 7, 8]
    assert log.stats().quarantined == 1
    await log.close()


async def test_damage_in_the_segment_that_is_being_written_ends_it() -> None:
    disk = SimulatedDisk()
    log = opened(disk)
    await log.writer.append(b"good")
    await log.writer.append(b"to be damaged")
    disk.content(segments(disk)[0])[-6] ^= 1
    assert await drain(log) == [b"good"]
    await log.writer.append(b"in a new segment")
    assert await drain(log) == [b"in a new segment"]
    assert log.stats().quarantined == 1
    await log.close()
