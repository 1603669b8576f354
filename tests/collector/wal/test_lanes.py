"""What is new is not kept waiting by all that is old, and nothing is lost or skipped for it."""

import pytest

from support.disk import SimulatedDisk
from support.wal import crash, drain, opened, records, segments
from tracestone.collector.wal import lanes
from tracestone.collector.wal.log import Log
from tracestone.schema import clock

MAX_BYTES = 2100  # two records


@pytest.fixture(autouse=True)
def soon_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that is read was written long ago."""
    monkeypatch.setattr(lanes, "BEHIND_SECONDS", -1.0)
    monkeypatch.setattr(lanes, "PATIENCE_SECONDS", 0.0)


async def write(log: Log, first: int, count: int) -> None:
    """Records with these numbers, each in a frame of its own."""
    for number in range(first, first + count):
        await log.writer.append(bytes([number]) * 1000)


async def numbers(log: Log, *, acknowledge: bool = True) -> list[int]:
    """The numbers of the next batch."""
    batch = await log.reader.next(MAX_BYTES, 0)
    if batch is None:
        return []
    if acknowledge:
        await log.reader.acknowledge(batch.end)
    return [record[0] for record in records(batch)]


async def test_every_second_batch_is_new_until_the_old_has_caught_up() -> None:
    disk = SimulatedDisk()
    log = opened(disk)
    await write(log, 0, 12)
    got = [await numbers(log)]
    await write(log, 100, 10)
    while batch := await numbers(log):
        got.append(batch)
    assert ["new" if batch[0] >= 100 else "old" for batch in got[:10]] == ["old", "new"] * 5
    both = sum(got, [])
    assert [number for number in both if number < 100] == list(range(12))
    assert [number for number in both if number >= 100] == list(range(100, 110))
    assert log.stats().waiting_bytes == 0
    assert len(segments(disk)) <= 1
    assert log.reader.acknowledged == log.writer.synced
    await write(log, 50, 1)
    assert await numbers(log) == [50]
    await log.close()


async def test_little_that_is_new_waits_for_a_batch_of_old_but_not_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "PATIENCE_SECONDS", 3600.0)
    log = opened(SimulatedDisk())
    await write(log, 0, 12)
    assert await numbers(log) == [0, 1]
    await write(log, 100, 1)
    assert await numbers(log) == [2]
    monkeypatch.setattr(lanes, "PATIENCE_SECONDS", 0.0)
    assert await numbers(log) == [100]
    assert await numbers(log) == [3, 4]
    await log.close()


async def test_what_is_not_far_behind_is_read_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "BEHIND_BATCHES", 100)
    log = opened(SimulatedDisk())
    await write(log, 0, 6)
    assert await numbers(log) == [0, 1]
    await write(log, 6, 6)
    got = []
    while batch := await numbers(log):
        got += batch
    assert got == list(range(2, 12))
    monkeypatch.setattr(lanes, "BEHIND_BATCHES", 0)
    monkeypatch.setattr(lanes, "BEHIND_SECONDS", 60.0)
    await write(log, 0, 3)
    assert [await numbers(log), await numbers(log)] == [[0, 1], [2]]
    assert not log.reader._ahead.is_open
    await log.close()


async def test_waiting_bytes_leave_out_what_was_read_ahead() -> None:
    log = opened(SimulatedDisk())
    await write(log, 0, 12)
    await numbers(log)
    await write(log, 100, 2)
    before = log.stats().waiting_bytes
    assert await numbers(log) == [100, 101]
    frame = before - log.stats().waiting_bytes
    assert 2000 < frame < 2200
    assert log.reader.acknowledged < log.writer.synced - 10_000
    await log.close()


async def test_after_a_crash_or_a_rewind_nothing_is_missing() -> None:
    disk = SimulatedDisk()
    log = opened(disk)
    await write(log, 0, 12)
    await numbers(log)
    await write(log, 100, 4)
    assert await numbers(log) == [100, 101]
    out = [await numbers(log, acknowledge=False) for _ in range(3)]
    assert out == [[2], [102], [3, 4]]
    log.reader.rewind()
    again = [await numbers(log, acknowledge=False) for _ in range(3)]
    assert {2, 102} <= set(sum(again, []))
    assert not {100, 101} & set(sum(again, []))
    await crash(log, disk)
    log = opened(disk)
    rest = [record[0] for record in await drain(log, MAX_BYTES)]
    assert sorted(rest) == [*range(2, 12), *range(100, 104)]
    await log.close()
    log = opened(disk)
    assert await numbers(log) == []
    await log.close()


async def test_damage_in_the_old_and_in_the_new_costs_only_what_is_behind_it() -> None:
    disk = SimulatedDisk()
    log = opened(disk)
    await write(log, 0, 12)
    await numbers(log)
    await write(log, 100, 9)
    old, new = segments(disk)[1], segments(disk)[-2]
    for path in (old, new):
        disk.content(path)[64 + 500] ^= 1  # in its first frame
    got: list[int] = []
    for _ in range(30):
        got += await numbers(log)
    assert len(got) == len(set(got))
    assert set(range(12)) - set(got) - {0, 1} == {3, 4, 5}
    assert len(set(range(100, 109)) - set(got)) == 3
    assert log.stats().quarantined == 2
    assert log.stats().waiting_bytes == 0
    await log.close()


async def test_a_clock_that_was_put_back_does_not_hide_that_much_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "BEHIND_SECONDS", 30.0)
    seconds = 0.0
    monkeypatch.setattr(clock, "monotonic", lambda: seconds)
    log = opened(SimulatedDisk())
    await write(log, 0, 20)
    now = clock.now_ns
    monkeypatch.setattr(clock, "now_ns", lambda: now() - 5 * 3600 * 10**9)
    assert await numbers(log) == [0, 1]
    seconds = 29.0
    assert await numbers(log) == [2]  # the end of a segment
    await write(log, 100, 3)
    assert await numbers(log) == [3, 4]
    seconds = 31.0
    assert await numbers(log) == [5]
    await write(log, 110, 3)
    assert await numbers(log) == [110]
    assert sorted(await rest(log)) == [*range(6, 20), 100, 101, 102, 111, 112]
    await log.close()


async def rest(log: Log) -> list[int]:
    """The numbers of all that is left."""
    return [record[0] for record in await drain(log)]
