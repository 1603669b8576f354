"""The write-ahead log against a tiny model: any order of appends, failures, reads, crashes and restarts.

The model is a list of records in the order they were offered. A record is `sure` once its append returned.
What the log hands out must be the sure records, all and in order; a record whose append failed or was cut
short by a crash may be among them, at its place, or not. Whatever comes under one batch name must always be
the same bytes.
"""

import asyncio
import errno
import random
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from support.disk import SimulatedDisk
from support.wal import crash, opened, records
from tracestone.collector.wal.log import Log
from tracestone.collector.wal.reader import Batch
from tracestone.schema.errors import LogFull, StorageDown

MAX_BYTES = 64 * 1024
FAILURES = st.sampled_from(["write", "sync", "create", "sync_folder"])


@dataclass
class Offered:
    record: bytes
    position: int | None = None  # once its append returned: it is sure


class LogMachine(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self.disk = SimulatedDisk()
        self.offered: list[Offered] = []
        self.handed_out = 0  # how many of them are behind the reader
        self.acknowledged = 0
        self.out: list[tuple[Batch, int]] = []  # with the number of records handed out at its end
        self.expected_again: list[Batch] = []
        self.names: dict[tuple[str, int, int], bytes] = {}
        self.last_position = 0
        self.log: Log | None = None
        self.log = self.runner.run(self._opened())

    async def _opened(self) -> Log:
        log = opened(self.disk, max_bytes=MAX_BYTES)
        assert log.recovered.damaged == []
        assert log.recovered.missing_bytes == 0
        assert not log.recovered.cursor_lost
        return log

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    @rule(sizes=st.lists(st.integers(8, 3000), min_size=1, max_size=8))
    def append(self, sizes: list[int]) -> None:
        self._append(sizes)

    @rule(
        sizes=st.lists(st.integers(8, 3000), min_size=1, max_size=4),
        failing=FAILURES,
        cut_fails=st.booleans(),
    )
    def append_to_a_failing_disk(self, sizes: list[int], failing: str, cut_fails: bool) -> None:
        self.disk.fail = {failing: errno.EIO}
        if cut_fails:
            self.disk.fail |= {"truncate": errno.EIO, "remove": errno.EIO}
        self._append(sizes)
        self.disk.fail.clear()

    @rule(sizes=st.lists(st.integers(8, 3000), min_size=1, max_size=4), seed=st.integers(0, 1 << 30))
    def lose_power_while_appending(self, sizes: list[int], seed: int) -> None:
        self.disk.fail = {"sync": errno.EIO, "truncate": errno.EIO, "remove": errno.EIO}
        self._append(sizes)
        self._restart(random.Random(seed))

    @rule(max_bytes=st.sampled_from([1, 1000, 5000, 1 << 20]))
    @precondition(lambda self: len(self.out) < 8)
    def read(self, max_bytes: int) -> None:
        batch = self.run(self.log.reader.next(max_bytes, 0))
        if batch is None:
            assert not self.expected_again
            assert not any(offered.position for offered in self.offered[self.handed_out :])
            return
        self._take(batch)

    @rule(which=st.integers(0, 7))
    @precondition(lambda self: self.out)
    def acknowledge(self, which: int) -> None:
        count = min(which, len(self.out) - 1) + 1
        batch, self.acknowledged = self.out[count - 1]
        self.run(self.log.reader.acknowledge(batch.end))
        del self.out[:count]
        done = self.offered[: self.acknowledged]
        assert all(offered.position <= self.log.reader.acknowledged for offered in done if offered.position)

    @rule()
    def rewind(self) -> None:
        self.log.reader.rewind()
        self._expect_again()

    @rule(seed=st.none() | st.integers(0, 1 << 30))
    def crash(self, seed: int | None) -> None:
        self._restart(None if seed is None else random.Random(seed))

    @rule()
    def close_and_open(self) -> None:
        log, self.log = self.log, None
        self.run(log.close())
        assert self.disk.open_handles() == 0
        self.log = self.run(self._opened())
        self._expect_again()

    @invariant()
    def stays_within_its_bounds(self) -> None:
        if self.log is None:
            return
        stats = self.log.stats()
        assert stats.disk_bytes <= MAX_BYTES
        assert stats.quarantined == 0

    def teardown(self) -> None:
        with self.runner:
            if self.log is None:  # it could not be opened, which has been reported
                return
            self._restart(None)
            while (batch := self.run(self.log.reader.next(1 << 20, 0))) is not None:
                self._take(batch)
                self.run(self.log.reader.acknowledge(batch.end))
                self.out.clear()
            assert not any(offered.position for offered in self.offered[self.handed_out :])
            self.run(self.log.close())

    def _append(self, sizes: list[int]) -> None:
        first = len(self.offered)
        names = [(first + number).to_bytes(8, "big") for number in range(len(sizes))]
        new = [Offered(name.ljust(size, b".")) for name, size in zip(names, sizes, strict=True)]
        self.offered += new

        async def together() -> list[Any]:
            return await asyncio.gather(
                *(self.log.writer.append(offered.record) for offered in new), return_exceptions=True
            )

        for offered, result in zip(new, self.run(together()), strict=True):
            if isinstance(result, int):
                assert result >= self.last_position
                self.last_position = offered.position = result
            else:
                assert isinstance(result, LogFull | StorageDown), result

    def _take(self, batch: Batch) -> None:
        if self.expected_again:
            assert batch == self.expected_again.pop(0)
        name = (self.log.log_id, batch.first, batch.end)
        assert self.names.setdefault(name, batch.payload) == batch.payload
        for record in records(batch):
            while self.offered[self.handed_out].record != record:
                assert not self.offered[self.handed_out].position, "an acknowledged record was skipped"
                self.handed_out += 1
            self.handed_out += 1
        self.out.append((batch, self.handed_out))

    def _restart(self, dice: random.Random | None) -> None:
        log, self.log = self.log, None
        self.run(crash(log, self.disk, dice))
        self.log = self.run(self._opened())
        self._expect_again()

    def _expect_again(self) -> None:
        self.expected_again = [batch for batch, _ in self.out] + self.expected_again
        self.out.clear()
        self.handed_out = self.acknowledged


TestLog = LogMachine.TestCase
TestLog.settings = settings(
    max_examples=120, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
