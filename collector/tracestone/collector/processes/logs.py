"""The logs of a receiver process as the main process has them: one reading half a signal, and the memory they share."""

import asyncio
import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tracestone.collector.wal.log import HalfLog, open_half
from tracestone.collector.wal.receipt import ReceiptClock
from tracestone.collector.wal.remote import Beginning, SharedPage
from tracestone.schema.errors import StartRefused

# A receiver process whose main process was killed finishes what it has in work, and holds its logs until then.
_LOCK_SECONDS = 10.0


@dataclass(frozen=True)
class ReceiverLogs:
    """The logs of receiver `number`, by signal. Its process runs or is to come, or there is none any more."""

    number: int
    folder: Path
    halves: dict[str, HalfLog]
    page: SharedPage

    def begin(self) -> dict[str, tuple[Path, Beginning]]:
        """Folders, and where the process that is to come goes on. Only while there is none."""
        return {name: (self.folder / name, half.begin()) for name, half in self.halves.items()}

    @property
    def inherited(self) -> tuple[int, ...]:
        """The descriptors that its process must have: memory, and locks that it holds by having them."""
        return (self.page.descriptor, *(half.lock for half in self.halves.values()))

    async def close(self) -> None:
        """Stops reading. Nobody may write any more."""
        for half in self.halves.values():
            await half.close()
        self.page.close()


async def open_receiver_logs(wal: Path, number: int, signals: Iterable[str], receipt: ReceiptClock) -> ReceiverLogs:
    """Opens the logs of a receiver in `wal`, which are made if need be. Raises StartRefused."""
    logs = ReceiverLogs(number, wal / str(number), {}, SharedPage.new())
    try:
        for place, name in enumerate(signals):
            words = logs.page.words(place)
            half = await asyncio.to_thread(open_half, logs.folder / name, receipt, words, lock_seconds=_LOCK_SECONDS)
            logs.halves[name] = half
    except StartRefused:
        await logs.close()
        raise
    return logs


def receivers_with_logs(wal: Path, receivers: int) -> list[int]:
    """The numbers of the receivers that will run, and of those that ran once, with whatever their logs still hold."""
    numbers = set(range(1, receivers + 1)) if receivers > 1 else set()
    with contextlib.suppress(FileNotFoundError):
        numbers |= {int(path.name) for path in wal.iterdir() if path.name.isdigit() and path.is_dir()}
    return sorted(numbers)
