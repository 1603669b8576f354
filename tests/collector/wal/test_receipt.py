"""Times of receipt never go back: when the clock does, between processes, across restarts of the log."""

import random

import pytest

from support.disk import SimulatedDisk
from support.wal import crash, drain, opened, segments
from tracestone.collector.wal.receipt import ReceiptClock
from tracestone.collector.wal.remote import SharedPage
from tracestone.schema import clock

HOUR = 3600 * 10**9


class Wall:
    """The wall clock, to be set."""

    def __init__(self) -> None:
        self.time = 1_800_000_000 * 10**9

    def __call__(self) -> int:
        return self.time


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Wall:
    """The wall clock stands still unless it is set."""
    wall = Wall()
    monkeypatch.setattr(clock, "now_ns", wall)
    return wall


def test_it_is_the_wall_clock_that_is_never_the_same(wall: Wall) -> None:
    receipt = ReceiptClock.alone()
    assert [receipt.next() - wall.time for _ in range(3)] == [0, 1, 2]
    wall.time += HOUR
    assert receipt.next() == receipt.newest() == wall.time


def test_it_waits_for_a_clock_that_was_put_back(wall: Wall) -> None:
    receipt = ReceiptClock.alone()
    before = receipt.next()
    wall.time -= 5 * HOUR
    assert receipt.newest() == before
    assert [receipt.next() for _ in range(2)] == [before + 1, before + 2]
    wall.time += 6 * HOUR
    assert receipt.next() == wall.time


def test_processes_that_share_a_page_see_each_others_times(wall: Wall) -> None:
    page = SharedPage.new()
    first, second = page.receipt_clock(0, 2), SharedPage(page.descriptor).receipt_clock(1, 2)
    given = []
    for number in range(20):
        given.append((first, second)[number % 2].next())
        wall.time -= HOUR
    assert given == sorted(set(given))
    assert first.newest() == second.newest() == given[-1]
    del first, second
    page.close()


def test_a_floor_is_there_only_while_the_clock_is_behind(wall: Wall) -> None:
    receipt = ReceiptClock.alone()
    receipt.at_least(wall.time - 1)
    assert receipt.floor() == 0
    receipt.at_least(wall.time + HOUR)
    receipt.at_least(wall.time)  # less than is known already
    assert receipt.floor() > wall.time + HOUR
    assert receipt.floor() < receipt.floor()
    wall.time += 2 * HOUR
    assert receipt.floor() == 0


@pytest.mark.parametrize("power", [False, True])
@pytest.mark.parametrize("read", ["nothing", "all but the last", "all"])
async def test_a_log_tells_the_next_process_what_the_clock_was(wall: Wall, read: str, power: bool) -> None:
    disk = SimulatedDisk()
    receipt = ReceiptClock.alone()
    log = opened(disk, receipt=receipt)
    for _ in range(20):
        wall.time += HOUR
        last = receipt.next()
        await log.writer.append(bytes(1000))
    if read != "nothing":
        while (batch := await log.reader.next(1, 0)) is not None and (read == "all" or batch.end < log.writer.synced):
            await log.reader.acknowledge(batch.end)
    await crash(log, disk, random.Random(1) if power else None)
    wall.time -= 100 * HOUR
    for _ in range(3):  # also when nothing comes in between
        receipt = ReceiptClock.alone()
        log = opened(disk, receipt=receipt)
        assert receipt.next() == last + 1
        await drain(log)
        await crash(log, disk)
    assert len(segments(disk)) <= 1


async def test_a_record_is_never_in_a_frame_of_an_earlier_time(wall: Wall) -> None:
    disk = SimulatedDisk()
    receipt = ReceiptClock.alone()
    log = opened(disk, receipt=receipt)
    for _ in range(10):
        stamp = receipt.next()
        await log.writer.append(b"x")
        wall.time -= HOUR
        batch = await log.reader.next(1 << 20, 0)
        assert batch is not None
        assert batch.oldest >= stamp
        await log.reader.acknowledge(batch.end)
    await log.close()
