"""The write-ahead log on a disk that does what disks do, against a model.

Any order of appends, reads, crashes and restarts, while operations fail at random, reads are short, writes are short or
torn, a failed sync leaves the system in the belief that all is written, bits flip, sectors become unreadable, segments
and the cursor are cut, removed or scrambled, the folder is away for a while, and the clock jumps.

What must hold, whatever happens:

- a start succeeds, or refuses in one sentence, and then succeeds once the disk works;
- what is handed out was offered, byte for byte, and comes in order, what is read ahead apart; one name of a batch
  never has two contents;
- a record that was acknowledged is handed out, or stands whole in the quarantine, unless this test itself destroyed its
  frame; and if it destroyed it, the log says that something is missing, damaged or cut (where it can be known);
- damage is told of only where this test did some;
- as soon as the disk works again, records are taken and handed out again.
"""

import asyncio
import random
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from support.disk import File, SimulatedDisk
from support.wal import FOLDER, crash, opened, records, segments
from tracestone.collector.wal import lanes
from tracestone.collector.wal.frames import FRAME_OVERHEAD_BYTES, split_payload, varint
from tracestone.collector.wal.log import Log
from tracestone.collector.wal.reader import UNREADABLE_TRIES, Batch
from tracestone.collector.wal.salvage import SECTOR_BYTES, whole_frames
from tracestone.schema import clock
from tracestone.schema.errors import LogFull, StartRefused, StorageDown

SEEDS = st.integers(0, 1 << 30)
NUMBER_BYTES = 8
QUARANTINE = FOLDER / "quarantine"


@dataclass(eq=False)
class Frame:
    """Where records stand that were acknowledged together."""

    numbers: set[int]
    file: File
    start: int
    content: bytes
    end: int  # position behind it

    def is_whole(self, disk: SimulatedDisk) -> bool:
        end = self.start + len(self.content)
        unreadable = any(self.file is file and self.start < b and a < end for file, a, b in disk.unreadable)
        return disk.has(self.file) and not unreadable and self.file.data[self.start : end] == self.content


class FaultMachine(RuleBasedStateMachine):
    @initialize(behind=st.booleans())
    def start(self, behind: bool) -> None:
        self.runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self.disk = SimulatedDisk()
        self.offered: list[bytes] = []
        self.frames: list[Frame] = []
        self.consumed: set[int] = set()
        self.destroyed: set[int] = set()
        self.unnoticeable: set[int] = set()
        self.newest_given = {True: -1, False: -1}  # in this pass over the log, ahead of the rest or not
        self.given: set[int] = set()  # in this pass
        self.out: list[tuple[Batch, set[int]]] = []
        self.names: dict[tuple[str, int, int], bytes] = {}
        self.reported = False
        self.harmed = False
        self.cursor_was_lost = False
        self.offset = 0
        self.patch = pytest.MonkeyPatch()
        now = clock.now_ns
        self.patch.setattr(clock, "now_ns", lambda: now() + self.offset)
        if behind:  # so that everything counts as old as soon as it is read
            self.patch.setattr(lanes, "BEHIND_SECONDS", -1e12)
            self.patch.setattr(lanes, "BEHIND_BATCHES", 0)
            self.patch.setattr(lanes, "PATIENCE_SECONDS", 0.0)
        self.log: Log | None = None
        self.log = self._open()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    # What goes on.

    @rule(sizes=st.lists(st.integers(NUMBER_BYTES, 2500), min_size=1, max_size=6))
    def append(self, sizes: list[int]) -> None:
        self._append(sizes)

    @rule(
        sizes=st.lists(st.integers(NUMBER_BYTES, 2500), min_size=1, max_size=4),
        seed=SEEDS,
        rate=st.sampled_from([0.02, 0.1, 0.4]),
    )
    def append_to_a_failing_disk(self, sizes: list[int], seed: int, rate: float) -> None:
        self._failing(seed, rate)
        self._append(sizes)
        self._mended()

    @rule(size=st.integers(NUMBER_BYTES, 500))
    @precondition(lambda self: segments(self.disk))
    def append_while_the_segment_is_removed(self, size: int) -> None:
        def remove(path: Path) -> None:
            if path in self.disk.paths() and path.suffix == ".wal":
                self.disk.remove(path)

        self.disk.before_sync = remove
        before = len(self.frames)
        self._append([size])
        self.disk.before_sync = lambda _: None
        assert len(self.frames) == before, "acknowledged, and on no disk"
        self._note_damage()

    @rule(max_bytes=st.sampled_from([1, 1000, 5000, 1 << 20]))
    @precondition(lambda self: len(self.out) < 8)
    def read(self, max_bytes: int) -> None:
        self._read(max_bytes)

    @rule(max_bytes=st.sampled_from([1, 5000]), seed=SEEDS, rate=st.sampled_from([0.05, 0.3]))
    @precondition(lambda self: len(self.out) < 8)
    def read_from_a_failing_disk(self, max_bytes: int, seed: int, rate: float) -> None:
        self._failing(seed, rate)
        self._read(max_bytes)
        self._mended()

    @rule(which=st.integers(0, 7), seed=st.none() | SEEDS)
    @precondition(lambda self: self.out)
    def acknowledge(self, which: int, seed: int | None) -> None:
        count = min(which, len(self.out) - 1) + 1
        if seed is not None:
            self._failing(seed, 0.2)
        # The store has them before the log is told. What is told may reach the disk although the call failed, for its
        # sync did: a process that is killed then begins behind them, and nothing is lost.
        for _, numbers in self.out[:count]:
            self.consumed |= numbers
        try:
            self.run(self.log.reader.acknowledge(self.out[count - 1][0].end))
        except StorageDown:
            assert seed is not None or self.disk.unreadable
        else:
            del self.out[:count]
        self._mended()

    @rule()
    def rewind(self) -> None:
        self.log.reader.rewind()
        self._new_pass()

    @rule(power=st.none() | SEEDS, seed=st.none() | SEEDS)
    def crash(self, power: int | None, seed: int | None) -> None:
        self._restart(power, seed)

    # What happens to it.

    @rule(seed=SEEDS)
    @precondition(lambda self: segments(self.disk))
    def flip_a_bit(self, seed: int) -> None:
        dice = random.Random(seed)
        content = self.disk.content(dice.choice(segments(self.disk)))
        if content:
            content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
        self._note_damage()

    @rule(seed=SEEDS)
    @precondition(lambda self: segments(self.disk))
    def cut_a_segment(self, seed: int) -> None:
        dice = random.Random(seed)
        content = self.disk.content(dice.choice(segments(self.disk)))
        del content[dice.randint(0, len(content)) :]
        self._note_damage()

    @rule(seed=SEEDS)
    @precondition(lambda self: segments(self.disk))
    def a_sector_becomes_unreadable(self, seed: int) -> None:
        dice = random.Random(seed)
        file = self.disk.file(dice.choice(segments(self.disk)))
        if sectors := len(file.data) // SECTOR_BYTES:
            start = dice.randrange(sectors) * SECTOR_BYTES
            self.disk.unreadable.append((file, start, start + SECTOR_BYTES))
        self._note_damage()

    @rule(seed=SEEDS)
    @precondition(lambda self: segments(self.disk))
    def remove_a_segment(self, seed: int) -> None:
        self.disk.remove(random.Random(seed).choice(segments(self.disk)))
        self._note_damage()

    @rule(how=st.sampled_from(["remove", "scramble"]), crash=st.booleans())
    def lose_the_cursor(self, how: str, crash: bool) -> None:
        cursor = FOLDER / "cursor"
        if cursor not in self.disk.paths():
            return
        self.cursor_was_lost = True
        if how == "remove":
            self.disk.remove(cursor)
        else:
            self.disk.content(cursor)[:] = random.Random(1).randbytes(8192)
        if crash:
            self._restart(None, None)

    @rule(sizes=st.lists(st.integers(NUMBER_BYTES, 500), min_size=1, max_size=3))
    def the_folder_is_away_for_a_while(self, sizes: list[int]) -> None:
        self.disk.away = True
        before = len(self.frames)
        self._append(sizes)
        assert len(self.frames) == before, "acknowledged, and in no folder"
        for _ in range(2):
            if len(self.out) < 8:
                self._read(5000)
        self._mended()

    @rule(seconds=st.integers(-(10**6), 10**6))
    def the_clock_jumps(self, seconds: int) -> None:
        self.offset = seconds * 10**9

    # The end.

    def teardown(self) -> None:
        with self.runner:
            try:
                if self.log is not None:  # else it could not be opened, which has been reported
                    self._finish()
            finally:
                self.patch.undo()

    def _finish(self) -> None:
        self._restart(None, None)
        self._drain()
        before = len(self.frames)
        self._append([100])
        assert len(self.frames) > before, "a log whose disk works takes nothing"
        self._drain()
        assert self.frames[-1].numbers <= self.consumed
        self._hear()
        self.run(self.log.close())
        assert self.disk.open_handles() == 0
        salvaged: set[int] = set()
        for path in [path for path in self.disk.paths() if path.parent == QUARANTINE and path.suffix == ".wal"]:
            for body in whole_frames(self.disk, path):
                salvaged |= {self._number(record) for record in map(_without_length, split_payload(body))}
        acknowledged = {number for frame in self.frames for number in frame.numbers}
        lost = acknowledged - self.consumed - salvaged
        assert lost <= self.destroyed, "an acknowledged record is gone"
        noticeable = {number for number in lost - self.unnoticeable if number < max(self.consumed, default=0)}
        if noticeable and not self.cursor_was_lost:
            assert self.reported, f"acknowledged records {noticeable} are lost and nobody was told"

    def _drain(self) -> None:
        failures = 0
        while True:
            batch = self._read(1 << 20)
            if batch is not None:
                self.run(self.log.reader.acknowledge(batch.end))
                self.consumed |= self.out.pop()[1]
                failures = 0
            elif not self.log.stats().last_error:
                return
            else:
                failures += 1
                assert failures <= UNREADABLE_TRIES + 1, self.log.stats()

    # How it is done.

    def _failing(self, seed: int, rate: float) -> None:
        self.disk.dice, self.disk.rate = random.Random(seed), rate

    def _mended(self) -> None:
        self.disk.dice, self.disk.rate, self.disk.away = None, 0.0, False

    def _append(self, sizes: list[int]) -> None:
        first = len(self.offered)
        new = [(first + number).to_bytes(NUMBER_BYTES, "big").ljust(size, b".") for number, size in enumerate(sizes)]
        self.offered += new

        async def together() -> list[Any]:
            return await asyncio.gather(*(self.log.writer.append(record) for record in new), return_exceptions=True)

        by_end: dict[int, set[int]] = {}
        for number, result in enumerate(self.run(together()), start=first):
            if isinstance(result, int):
                by_end.setdefault(result, set()).add(number)
            else:
                assert isinstance(result, LogFull | StorageDown), result
        for end, numbers in by_end.items():
            self.frames.append(self._frame(end, numbers))

    def _frame(self, end: int, numbers: set[int]) -> Frame:
        """Looks an acknowledged frame up on the disk: it must be there, and durable."""
        sizes = [len(self.offered[number]) for number in numbers]
        size = FRAME_OVERHEAD_BYTES + sum(size + len(varint(size)) for size in sizes)
        path = max(path for path in segments(self.disk) if int(path.stem) <= end - size)
        file, start = self.disk.file(path), end - size - int(path.stem)
        content = bytes(file.data[start : start + size])
        assert all(self.offered[number] in content for number in numbers)
        assert file.durable[start : start + size] == content
        return Frame(numbers, file, start, content, end)

    def _read(self, max_bytes: int) -> Batch | None:
        try:
            batch = self.run(self.log.reader.next(max_bytes, 0))
        except StorageDown:
            assert self.disk.rate or self.disk.away or self.disk.unreadable
            return None
        if batch is None:
            return None
        name = (self.log.log_id, batch.first, batch.end)
        assert self.names.setdefault(name, batch.payload) == batch.payload
        numbers = set()
        ahead = self.log.reader._ahead.has(batch.end)
        for record in records(batch):
            number = self._number(record)
            assert number > self.newest_given[ahead], "out of order"
            assert number not in self.given, "twice"
            self.newest_given[ahead] = number
            numbers.add(number)
        self.given |= numbers
        self.out.append((batch, numbers))
        return batch

    def _number(self, record: bytes) -> int:
        number = int.from_bytes(record[:NUMBER_BYTES], "big")
        assert self.offered[number] == record, "invented"
        return number

    def _note_damage(self) -> None:
        self.harmed = True
        for frame in self.frames:
            if not frame.numbers <= self.destroyed and not frame.is_whole(self.disk):
                self.destroyed |= frame.numbers - self.consumed

    def _hear(self) -> None:
        stats = self.log.stats()
        found = self.log.recovered
        assert self.harmed or not (stats.missing_bytes or stats.quarantined or found.damaged), "damage of a sound disk"
        self.reported |= bool(stats.missing_bytes or stats.quarantined or found.damaged or found.cut_bytes)

    def _restart(self, power: int | None, seed: int | None) -> None:
        self._hear()
        log, self.log = self.log, None
        self.run(crash(log, self.disk, None if power is None else random.Random(power)))
        newest = max((frame.end for frame in self.frames if frame.is_whole(self.disk)), default=0)
        self.unnoticeable |= {n for frame in self.frames if frame.end > newest for n in frame.numbers}
        if seed is not None:
            self._failing(seed, 0.1)
            try:
                self.log = opened(self.disk)
            except StartRefused as refusal:
                assert str(refusal).startswith("The write-ahead log in /log cannot be opened: ")
            self._mended()
            self.disk.before_sync = lambda _: None
        if self.log is None:
            assert self.disk.open_handles() == 0
            self.log = self._open()
        self._new_pass()

    def _open(self) -> Log:
        log = opened(self.disk)
        self.cursor_was_lost |= log.recovered.cursor_lost
        return log

    def _new_pass(self) -> None:
        self.out.clear()
        self.newest_given = {True: -1, False: -1}
        self.given.clear()


def _without_length(framed: bytes) -> bytes:
    return framed[next(at for at, byte in enumerate(framed) if byte < 0x80) + 1 :]


def _settings(examples: int, *, always_the_same: bool = False) -> settings:
    return settings(
        max_examples=examples,
        derandomize=always_the_same,
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate,),  # threads make it hard to repeat exactly, so that making it smaller takes for ever
    )


def test_whatever_the_disk_does_nothing_acknowledged_is_lost_unreported() -> None:
    run_state_machine_as_test(FaultMachine, settings=_settings(200, always_the_same=True))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_same_for_a_long_time() -> None:
    run_state_machine_as_test(FaultMachine, settings=_settings(10_000))
