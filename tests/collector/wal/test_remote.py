"""A log whose writer and reader are two processes: here both halves on one simulated disk, reports late or lost."""

import asyncio
import errno
import random
import signal
from pathlib import Path

import pytest

from support.disk import SimulatedDisk
from support.wal import FOLDER, MAX_BYTES, SEGMENT_BYTES, drain, records
from support.wal_writer import follow, number_of, start_writer
from tracestone.collector.wal.frames import SEGMENT_HEADER_BYTES
from tracestone.collector.wal.log import HalfLog, open_half, open_writer
from tracestone.collector.wal.receipt import ReceiptClock
from tracestone.collector.wal.remote import Report, ReportingLedger, SharedPage, Words
from tracestone.collector.wal.writer import Writer
from tracestone.schema.errors import LogFull, StartRefused, StorageDown


class Halves:
    """Both halves of a log. Reports wait until `hear`; `kill` ends the writer with those that wait lost."""

    def __init__(self, disk: SimulatedDisk) -> None:
        self.disk = disk
        self.page = SharedPage.new()
        self.words: Words = self.page.words(0)
        self.half: HalfLog = open_half(FOLDER, ReceiptClock.alone(), self.words, filesystem=disk)
        self.reports: list[Report] = []
        self.writer = self._begun()

    def _begun(self) -> Writer:
        ledger = ReportingLedger(self.half.begin(), self.words, self.reports.append)
        return open_writer(
            FOLDER,
            self.half.begin(),
            ledger,
            ReceiptClock.alone(),
            max_bytes=MAX_BYTES,
            segment_bytes=SEGMENT_BYTES,
            filesystem=self.disk,
            reserve_bytes=0,
        )

    def hear(self) -> None:
        """All that was reported so far arrives."""
        for report in self.reports:
            self.half.ledger.hear(report)
        self.reports.clear()

    async def kill(self, torn: bytes = b"") -> None:
        """The writer ends between two frames, or with `torn` of a next one on the disk; the next one begins."""
        files = self.writer._files
        if torn and files.is_open:
            self.disk.write(files._descriptor, [torn])
        task = self.writer._task
        if task is not None:
            task.cancel()
        self.writer._thread.shutdown()
        files.close()  # as the system does
        self.reports.clear()
        await self.half.writer_ended()
        self.writer = self._begun()

    async def close(self) -> None:
        await self.writer.close()
        await self.half.close()
        self.page.close()


@pytest.fixture
def halves() -> Halves:
    return Halves(SimulatedDisk())


async def test_what_one_half_writes_the_other_reads(halves: Halves) -> None:
    end = await halves.writer.append(b"one")
    assert await halves.half.reader.next(1 << 20, 0) is None, "nothing is known without a report"
    halves.hear()
    batch = await halves.half.reader.next(1 << 20, 0)
    assert batch is not None
    assert records(batch) == [b"one"]
    assert batch.end == end
    await halves.half.reader.acknowledge(end)
    assert halves.half.reader.acknowledged == end
    await halves.close()


async def test_the_shared_words_tell_what_is_acknowledged_before_any_report(halves: Halves) -> None:
    for number in range(20):
        end = await halves.writer.append(bytes([number]) * 500)
        assert halves.words.synced == end
    assert halves.half.ledger.synced == 0
    halves.hear()
    assert halves.half.ledger.synced == halves.words.synced
    await halves.close()


async def test_only_the_last_report_of_a_segment_counts(halves: Halves) -> None:
    for number in range(12):
        await halves.writer.append(bytes([number]) * 1000)
    last = {report.first: report for report in halves.reports}
    assert len(last) == 4
    halves.reports = list(last.values())
    halves.hear()
    assert [record[0] for record in await drain(halves.half)] == list(range(12))
    await halves.close()


async def test_an_old_report_changes_nothing(halves: Halves) -> None:
    for number in range(4):
        await halves.writer.append(bytes([number]) * 1000)
    old = list(halves.reports)
    halves.hear()
    state = [(segment.first, segment.end, segment.closed) for segment in halves.half.ledger.segments]
    for report in old:
        halves.half.ledger.hear(report)
    assert [(segment.first, segment.end, segment.closed) for segment in halves.half.ledger.segments] == state
    await halves.close()


async def test_the_bound_of_the_disk_holds_and_room_comes_back_as_segments_go(halves: Halves) -> None:
    taken = 0
    with pytest.raises(LogFull):
        while True:
            await halves.writer.append(bytes([taken]) * 1000)
            taken += 1
    on_disk = sum(len(halves.disk.content(path)) for path in halves.disk.paths() if path.suffix == ".wal")
    assert MAX_BYTES - 3 * SEGMENT_BYTES < on_disk <= MAX_BYTES
    halves.hear()
    assert len(await drain(halves.half)) == taken
    assert await halves.half.reader.next(1 << 20, 0) is None
    await halves.writer.append(b"there is room again")
    assert halves.writer._ledger.disk_bytes < SEGMENT_BYTES
    await halves.close()


async def test_a_writer_that_dies_before_it_reports_loses_nothing(halves: Halves) -> None:
    for number in range(3):
        await halves.writer.append(bytes([number]) * 1000)
    halves.hear()
    for number in range(3, 11):
        await halves.writer.append(bytes([number]) * 1000)
    acknowledged = halves.words.synced
    await halves.kill()
    assert halves.half.ledger.synced == acknowledged == halves.words.synced
    assert [record[0] for record in await drain(halves.half)] == list(range(11))
    await halves.close()


async def test_a_torn_frame_is_cut_off_and_its_positions_are_not_used_again(halves: Halves) -> None:
    await halves.writer.append(b"whole")
    acknowledged = halves.words.synced
    await halves.kill(torn=bytes(700))
    assert halves.half.ledger.synced == acknowledged
    end = await halves.writer.append(b"later")
    assert end >= acknowledged + 700 + SEGMENT_HEADER_BYTES
    halves.hear()
    assert await drain(halves.half) == [b"whole", b"later"]
    await halves.close()


async def test_a_segment_without_a_frame_is_removed_when_its_writer_has_died(halves: Halves) -> None:
    halves.disk.create(FOLDER / "00000000000000000000.wal")
    await halves.kill()
    assert [path for path in halves.disk.paths() if path.suffix == ".wal"] == []
    await halves.writer.append(b"first")
    halves.hear()
    assert await drain(halves.half) == [b"first"]
    await halves.close()


async def test_a_batch_that_is_out_stays_out_while_writers_change(halves: Halves) -> None:
    await halves.writer.append(b"out")
    halves.hear()
    batch = await halves.half.reader.next(1 << 20, 0)
    assert batch is not None
    await halves.writer.append(b"not reported")
    await halves.kill(torn=b"TSFR")
    await halves.half.reader.acknowledge(batch.end)
    assert await drain(halves.half) == [b"not reported"]
    await halves.close()


async def test_a_disk_that_fails_while_a_dead_writer_is_followed_can_be_asked_again(halves: Halves) -> None:
    await halves.writer.append(b"kept")
    halves.reports.clear()
    halves.disk.fail = {"read_at": errno.EIO}
    with pytest.raises(StorageDown):
        await halves.half.writer_ended()
    halves.disk.fail.clear()
    await halves.kill()
    assert await drain(halves.half) == [b"kept"]
    await halves.close()


async def test_a_segment_found_damaged_gets_no_more_frames(halves: Halves) -> None:
    await halves.writer.append(bytes(500))
    await halves.writer.append(bytes(500))
    halves.hear()
    (path,) = (path for path in halves.disk.paths() if path.suffix == ".wal")
    halves.disk.content(path)[SEGMENT_HEADER_BYTES + 40] ^= 1
    assert await halves.half.reader.next(1 << 20, 0) is None
    await halves.writer.append(b"in a new segment")
    halves.hear()
    assert await drain(halves.half) == [b"in a new segment"]
    assert await halves.half.reader.next(1 << 20, 0) is None
    assert halves.half.stats().quarantined == 1
    await halves.close()


async def test_what_was_reported_and_is_damaged_now_is_set_aside_and_not_cut(halves: Halves) -> None:
    await halves.writer.append(bytes(500))
    await halves.writer.append(bytes(500))
    halves.hear()
    (path,) = (path for path in halves.disk.paths() if path.suffix == ".wal")
    size = len(halves.disk.content(path))
    halves.disk.content(path)[-5] ^= 1
    await halves.kill()
    assert len(halves.disk.content(path)) == size
    assert await drain(halves.half) == [bytes(500)]
    assert await halves.half.reader.next(1 << 20, 0) is None
    assert halves.half.stats().quarantined == 1
    await halves.close()


async def test_the_positions_of_a_segment_that_somebody_removed_are_not_used_again(halves: Halves) -> None:
    await halves.writer.append(bytes(2000))
    halves.hear()
    lost_end = halves.half.ledger.synced
    (path,) = (path for path in halves.disk.paths() if path.suffix == ".wal")
    halves.disk.remove(path)
    await halves.kill()
    assert await halves.writer.append(b"after it") > lost_end
    halves.hear()
    assert await drain(halves.half) == [b"after it"]
    assert halves.half.stats().quarantined == 0
    assert halves.half.stats().missing_bytes >= 2000
    await halves.close()


@pytest.mark.parametrize("seed", range(20))
async def test_any_order_of_events_keeps_what_was_acknowledged(seed: int) -> None:
    """Appends, reports, reads, kills with and without a torn frame, restarts of the reader's side."""
    dice = random.Random(seed)
    disk = SimulatedDisk()
    halves = Halves(disk)
    sent: list[bytes] = []
    consumed: list[bytes] = []
    for _ in range(120):
        match dice.choice(("append", "append", "append", "hear", "read", "kill", "restart")):
            case "append":
                record = len(sent).to_bytes(4, "big") + dice.randbytes(dice.randrange(4, 1500))
                try:
                    await halves.writer.append(record)
                except LogFull:
                    halves.hear()
                    consumed += await drain(halves.half)
                    continue
                sent.append(record)
            case "hear":
                halves.hear()
            case "read":
                batch = await halves.half.reader.next(dice.choice((1, 5000, 1 << 20)), 0)
                if batch is not None:
                    await halves.half.reader.acknowledge(batch.end)
                    consumed += records(batch)
            case "kill":
                await halves.kill(torn=dice.choice((b"", b"TSFR", dice.randbytes(dice.randrange(1, 900)))))
                assert halves.half.ledger.synced >= halves.words.synced
            case "restart":
                await halves.close()
                halves = Halves(disk)
        assert consumed == sent[: len(consumed)]
        assert halves.writer._ledger.disk_bytes >= 0
    halves.hear()
    consumed += await drain(halves.half)
    assert consumed == sent
    await halves.close()
    assert disk.open_handles() == 0


@pytest.mark.parametrize("seed", range(2))
async def test_a_killed_process_that_writes_loses_nothing(tmp_path: Path, seed: int) -> None:
    """A process of its own writes as fast as it can and is killed, again and again, while its log is read."""
    dice = random.Random(seed)
    page = SharedPage.new()
    half = open_half(tmp_path, ReceiptClock.alone(), page.words(0))
    acknowledged: set[int] = set()
    found: list[int] = []
    stopping = asyncio.Event()
    reading = asyncio.create_task(_read(half, found, stopping))
    for turn in range(4):
        writer = await start_writer(tmp_path, half, page, turn * 1_000_000)
        following = asyncio.create_task(follow(writer, half, acknowledged))
        while not any(number >= turn * 1_000_000 for number in acknowledged):
            await asyncio.sleep(0.01)
        await asyncio.sleep(dice.uniform(0.0, 0.3))
        writer.send_signal(signal.SIGKILL)
        await following
        await writer.wait()
        await half.writer_ended()
        assert half.ledger.synced >= page.words(0).synced
    stopping.set()
    await reading
    found += map(number_of, await drain(half))
    assert len(acknowledged) > 100
    assert acknowledged <= set(found)
    assert len(found) == len(set(found)), "the reader goes on, so nothing comes twice"
    assert [path.suffix for path in tmp_path.glob("*.wal")] == []
    await half.close()


async def _read(half: HalfLog, found: list[int], stopping: asyncio.Event) -> None:
    while not stopping.is_set():
        batch = await half.reader.next(1 << 20, 0.05)
        if batch is not None:
            found += map(number_of, records(batch))
            await half.reader.acknowledge(batch.end)


async def test_who_writes_holds_the_lock_too(tmp_path: Path) -> None:
    page = SharedPage.new()
    half = open_half(tmp_path, ReceiptClock.alone(), page.words(0))
    writer = await start_writer(tmp_path, half, page, 0)
    await half.close()
    with pytest.raises(StartRefused, match="in use"):
        open_half(tmp_path, ReceiptClock.alone(), page.words(0), lock_seconds=0.1)
    opening = asyncio.create_task(
        asyncio.to_thread(open_half, tmp_path, ReceiptClock.alone(), SharedPage.new().words(0), lock_seconds=30)
    )
    await asyncio.sleep(0.1)
    writer.kill()
    half = await opening
    await writer.communicate()
    await half.close()
