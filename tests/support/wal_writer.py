"""The writing half of a log in a process of its own, until it is killed: `HalfLog.begin` as JSON is its argument.

Writes lines: `report FIRST END CLOSED` and, for each number whose record is durable, `acknowledged NUMBER`.
"""

import asyncio
import dataclasses
import itertools
import json
import os
import random
import sys
from pathlib import Path

from tracestone.collector.wal.log import HalfLog, open_writer
from tracestone.collector.wal.receipt import ReceiptClock
from tracestone.collector.wal.remote import Beginning, Report, ReportingLedger, SharedPage

WRITERS = 8
MIB = 1024 * 1024


async def start_writer(folder: Path, half: HalfLog, page: SharedPage, first_number: int) -> asyncio.subprocess.Process:
    """A process that appends records, numbered from there on."""
    beginning = dataclasses.asdict(half.begin())
    beginning["log_id"] = beginning["log_id"].hex()
    arguments = json.dumps([str(folder), page.descriptor, beginning, first_number])
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "support.wal_writer",
        arguments,
        cwd=Path(__file__).parents[1],
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        pass_fds=(page.descriptor, half.lock),
    )


async def follow(writer: asyncio.subprocess.Process, half: HalfLog, acknowledged: set[int]) -> None:
    """Hears the reports and notes what is acknowledged, until the writer has ended."""
    assert writer.stdout is not None
    while line := await writer.stdout.readline():
        kind, *values = line.decode().split()
        if kind == "acknowledged":
            acknowledged.add(int(values[0]))
        elif line.endswith(b"\n"):
            half.ledger.hear(Report(int(values[0]), int(values[1]), closed=values[2] == "True"))


def number_of(record: bytes) -> int:
    """The number of a record."""
    return int.from_bytes(record[:8], "big")


def _say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def _main() -> None:
    folder, descriptor, beginning, first_number = json.loads(sys.argv[1])
    start = Beginning(**{**beginning, "log_id": bytes.fromhex(beginning["log_id"])})
    ledger = ReportingLedger(
        start, SharedPage(descriptor).words(0), lambda each: _say("report", *dataclasses.astuple(each))
    )
    writer = open_writer(
        Path(folder), start, ledger, ReceiptClock.alone(), max_bytes=64 * MIB, segment_bytes=256 * 1024
    )
    numbers = itertools.count(first_number)

    async def append() -> None:
        dice = random.Random(first_number)
        while True:
            number = next(numbers)
            await writer.append(number.to_bytes(8, "big") + dice.randbytes(dice.randrange(4000)))
            _say("acknowledged", number)

    await asyncio.gather(*(append() for _ in range(WRITERS)))


if __name__ == "__main__":
    asyncio.run(_main())
