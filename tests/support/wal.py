"""Opening, crashing and reading logs in tests."""

import asyncio
import random
from pathlib import Path

from support.disk import SimulatedDisk
from tracestone.collector.wal.log import HalfLog, Log, open_log
from tracestone.collector.wal.reader import Batch
from tracestone.collector.wal.receipt import ReceiptClock

FOLDER = Path("/log")
MAX_BYTES = 256 * 1024
SEGMENT_BYTES = 4 * 1024


def opened(
    disk: SimulatedDisk,
    *,
    max_bytes: int = MAX_BYTES,
    segment_bytes: int = SEGMENT_BYTES,
    folder: Path = FOLDER,
    receipt: ReceiptClock | None = None,
) -> Log:
    """The log on a simulated disk, with small bounds and no reserve."""
    receipt = receipt or ReceiptClock.alone()
    return open_log(folder, receipt, max_bytes=max_bytes, segment_bytes=segment_bytes, filesystem=disk, reserve_bytes=0)


async def crash(log: Log, disk: SimulatedDisk, dice: random.Random | None = None) -> None:
    """End the process at once, with the power if there are dice. Leaves no task or thread behind."""
    task = log.writer._task
    if task is not None:
        task.cancel()
        await asyncio.wait([task])
    for thread in (log.writer._thread, log.reader._thread):
        thread.shutdown()
    if dice is None:
        disk.kill()
    else:
        disk.power_cut(dice)


def records(batch: Batch) -> list[bytes]:
    """The records of a batch, read the way a protobuf reader does."""
    out, data, at = [], batch.payload, 0
    while at < len(data):
        length = shift = 0
        while True:
            byte = data[at]
            at += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        assert at + length <= len(data), "a record goes beyond its batch"
        out.append(data[at : at + length])
        at += length
    assert len(out) == batch.records
    return out


async def drain(log: Log | HalfLog, max_bytes: int = 1 << 20) -> list[bytes]:
    """All that is left in the log, acknowledged."""
    out: list[bytes] = []
    while (batch := await log.reader.next(max_bytes, 0)) is not None:
        out += records(batch)
        await log.reader.acknowledge(batch.end)
    return out


def segments(disk: SimulatedDisk) -> list[Path]:
    """The segment files that are not set aside, oldest first."""
    return [path for path in disk.paths() if path.suffix == ".wal" and path.parent == FOLDER]
