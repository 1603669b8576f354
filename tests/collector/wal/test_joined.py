"""Several logs read as one."""

import asyncio
import errno
import random
from pathlib import Path

import pytest

from support.disk import SimulatedDisk
from support.wal import opened, records
from tracestone.collector.wal.joined import JoinedReader
from tracestone.collector.wal.log import Log
from tracestone.schema.errors import StorageDown

LARGE = 1 << 20


def logs(disk: SimulatedDisk, count: int) -> tuple[list[Log], JoinedReader]:
    found = [opened(disk, folder=Path(f"/log/{number}"), segment_bytes=32 * 1024) for number in range(count)]
    return found, JoinedReader([log.reader for log in found])


async def close(found: list[Log]) -> None:
    for log in found:
        await log.close()


@pytest.mark.parametrize("count", [1, 2, 3])
async def test_what_is_in_all_logs_comes_in_one_batch(count: int) -> None:
    found, joined = logs(SimulatedDisk(), count)
    for number, log in enumerate(found):
        await log.writer.append(b"log %d" % number)
    batch = await joined.next(LARGE, 0)
    assert batch is not None
    assert sorted(records(batch)) == [b"log %d" % number for number in range(count)]
    assert joined.oldest == batch.oldest
    assert await joined.next(LARGE, 0) is None
    await joined.acknowledge(batch.end)
    assert joined.oldest is None
    assert [log.reader.acknowledged for log in found] == [log.writer.synced for log in found]
    await close(found)


async def test_logs_that_are_full_take_turns() -> None:
    found, joined = logs(SimulatedDisk(), 2)
    for log, letter in zip(found, (b"a", b"b"), strict=True):
        for _ in range(20):
            await log.writer.append(letter * 1000)
    sources = []
    for _ in range(4):
        batch = await joined.next(4500, 0)
        assert batch is not None
        assert len(batch.payload) <= 4500
        sources.append({record[:1] for record in records(batch)})
        await joined.acknowledge(batch.end)
    assert sources == [{b"a"}, {b"b"}] * 2
    await close(found)


async def test_a_batch_is_due_when_any_log_has_waited_or_is_full() -> None:
    found, joined = logs(SimulatedDisk(), 3)
    waiting = asyncio.create_task(joined.next(5000, 30, max_age=30))
    await found[1].writer.append(b"waits")
    await asyncio.sleep(0.02)
    assert not waiting.done()
    for _ in range(6):
        await found[2].writer.append(bytes(1000))
    full = await asyncio.wait_for(waiting, 5)
    assert full is not None
    await found[0].writer.append(b"old")
    batch = await asyncio.wait_for(joined.next(LARGE, 30, max_age=0.05), 5)
    assert batch is not None
    assert {*records(full), *records(batch)} == {b"waits", bytes(1000), b"old"}
    assert await joined.next(LARGE, 0.01) is None
    await close(found)


async def test_a_log_in_which_nothing_comes_hurries_no_other() -> None:
    found, joined = logs(SimulatedDisk(), 2)
    await found[0].writer.append(b"waits")
    waiting = asyncio.create_task(joined.next(5000, 0.01, max_age=30))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    for _ in range(6):
        await found[1].writer.append(bytes(1000))
    batch = await asyncio.wait_for(waiting, 5)
    assert batch is not None
    assert {*records(batch)} >= {bytes(1000)}
    await close(found)


async def test_batches_are_acknowledged_in_order_and_several_at_once() -> None:
    found, joined = logs(SimulatedDisk(), 2)
    ends = []
    for number in range(3):
        await found[number % 2].writer.append(bytes([number]))
        batch = await joined.next(LARGE, 0)
        assert batch is not None
        ends.append(batch.end)
    assert ends == sorted(set(ends))
    await joined.acknowledge(ends[1])
    assert found[1].reader.acknowledged == found[1].writer.synced
    assert found[0].reader.acknowledged < found[0].writer.synced
    with pytest.raises(ValueError, match="not the end"):
        await joined.acknowledge(ends[0])
    await joined.acknowledge(ends[2])
    assert found[0].reader.acknowledged == found[0].writer.synced
    await close(found)


async def test_a_cursor_that_cannot_be_written_is_tried_again() -> None:
    disk = SimulatedDisk()
    found, joined = logs(disk, 2)
    for log in found:
        await log.writer.append(b"x")
    batch = await joined.next(LARGE, 0)
    assert batch is not None
    disk.fail = {"write_at": errno.EIO}
    with pytest.raises(StorageDown):
        await joined.acknowledge(batch.end)
    disk.fail.clear()
    await joined.acknowledge(batch.end)
    assert [log.reader.acknowledged for log in found] == [log.writer.synced for log in found]
    await close(found)


async def test_a_log_that_cannot_be_read_does_not_stop_the_others() -> None:
    disk = SimulatedDisk()
    found, joined = logs(disk, 1)
    broken_disk = SimulatedDisk()
    broken = opened(broken_disk)
    joined = JoinedReader([broken.reader, found[0].reader])
    await broken.writer.append(b"comes later")
    broken_disk.fail = {"read_at": errno.EIO}
    for number in range(3):
        await found[0].writer.append(bytes([number]))
        batch = await joined.next(LARGE, 0)
        assert batch is not None
        assert records(batch) == [bytes([number])]
    with pytest.raises(StorageDown):
        await joined.next(LARGE, 0)
    broken_disk.fail.clear()
    batch = await joined.next(LARGE, 0)
    assert batch is not None
    assert records(batch) == [b"comes later"]
    await close([*found, broken])


@pytest.mark.parametrize("seed", range(10))
async def test_rewinds_and_restarts_lose_nothing_and_names_are_never_used_twice(seed: int) -> None:
    dice = random.Random(seed)
    disk = SimulatedDisk()
    found, joined = logs(disk, 3)
    sent: list[bytes] = []
    consumed: list[bytes] = []
    out: list[tuple[int, list[bytes]]] = []
    names: dict[str, bytes] = {}
    for _ in range(80):
        match dice.choice(("append", "append", "append", "read", "read", "acknowledge", "rewind", "restart")):
            case "append":
                sent.append(len(sent).to_bytes(4, "big") + bytes(dice.randrange(1500)))
                await dice.choice(found).writer.append(sent[-1])
            case "read" if len(out) < 7:
                batch = await joined.next(dice.choice((2000, LARGE)), 0)
                if batch is not None:
                    assert names.setdefault(batch.name, batch.payload) == batch.payload
                    out.append((batch.end, records(batch)))
            case "acknowledge" if out:
                count = dice.randint(1, len(out))
                await joined.acknowledge(out[count - 1][0])
                consumed += [record for _, batch in out[:count] for record in batch]
                out = out[count:]
            case "rewind":
                joined.rewind()
                out.clear()
            case "restart":
                await close(found)
                found, joined = logs(disk, 3)
                out.clear()
    joined.rewind()
    while (batch := await joined.next(LARGE, 0)) is not None:
        consumed += records(batch)
        await joined.acknowledge(batch.end)
    assert sorted(consumed) == sent
    await close(found)
