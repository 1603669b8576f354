"""The disk of the write-ahead log is full: senders are told to wait, memory stays bounded, and when there is room again
everything flows and nothing acknowledged is lost (C4).

The whole program runs with its log on a small file system of its own, where the system lets a test mount one; a file
system that says it is full, put under the log in this process, needs no rights and runs everywhere.
"""

import asyncio
import errno
import os
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import httpx
import pytest

from support.load import Here, Senders, check_exact
from support.program import Program
from support.running import running
from tracestone.collector.wal.filesystem import RealFilesystem
from tracestone.collector.wal.log import open_log
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool

MIB = 1024 * 1024
_MOUNT = 'mkdir -p "$0" && mount -t tmpfs -o size=48m tmpfs "$0" && exec "$@"'
_RIGHTS = () if os.geteuid() == 0 else ("--user", "--map-current-user", "--keep-caps")


def _on_a_small_disk(folder: Path) -> tuple[str, ...]:
    """Before a command: runs it where `folder` is a file system of its own, which ends with it."""
    return ("unshare", *_RIGHTS, "--mount", "sh", "-c", _MOUNT, str(folder))


def _mounts(folder: Path) -> bool:
    try:
        return subprocess.run([*_on_a_small_disk(folder), "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


class FullDisk(RealFilesystem):
    """The real file system; while `full` is set, nothing can be added."""

    full = False

    def create(self, path: Path) -> int:
        """Makes a file, or raises ENOSPC."""
        self._check()
        return super().create(path)

    def write(self, descriptor: int, buffers: Sequence[bytes | memoryview]) -> int:
        """Writes a part, as a disk does that is filling up, then raises ENOSPC."""
        if self.full:
            super().write(descriptor, [bytes(buffers[0])[:7]])
        self._check()
        return super().write(descriptor, buffers)

    def _check(self) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def test_a_disk_that_fills_in_the_middle_of_a_write(
    pool: Pool, columnar: Columnar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FullDisk()
    monkeypatch.setattr("tracestone.collector.app.open_log", partial(open_log, filesystem=disk))
    async with running(pool, columnar, tmp_path) as here:
        senders = Senders(Here(here))
        await senders.start()
        for _ in range(3):
            await asyncio.sleep(0.3)
            before = senders.account.failures
            disk.full = True
            await _until(lambda floor=before: senders.account.failures > floor + 20)
            async with httpx.AsyncClient() as http:
                health = (await http.get(f"{here.url}/health")).json()
            assert health["broken"] == ["write_ahead_log"]
            disk.full = False
        account = await senders.stop()
        assert account.without_retry == []
        await check_exact(Here(here), account)


@pytest.mark.timeout(200)
async def test_the_program_on_a_full_disk(make_program: Callable[..., Program], data_folder: Path) -> None:
    wal = data_folder / "wal"
    # Where nothing can be mounted, the log's own bound is what fills.
    mounted = await asyncio.to_thread(_mounts, data_folder.parent / "probe")
    program = make_program(prefix=_on_a_small_disk(wal)) if mounted else make_program(wal_max_bytes=MIB)
    await program.start()
    senders = Senders(program, text_bytes=20_000, count=6)
    await senders.start()
    await asyncio.sleep(0.5)
    memory = program.resident_bytes()
    ballast = Path(f"/proc/{_pid(program)}/root{wal}/ballast")
    if mounted:
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(MIB))
    await _until(lambda: senders.account.failures > 50)
    assert senders.account.without_retry == []
    assert program.resident_bytes() < memory + 512 * MIB
    if mounted:
        status, health = await program.health()
        assert (status, health["broken"]) == (503, ["write_ahead_log"])
        ballast.unlink()
    account = await senders.stop()
    await check_exact(program, account)
    assert account.spans > 100
    assert (await program.health())[0] == 200
    assert await program.terminate() == 0


def _pid(program: Program) -> int:
    assert program.process is not None
    return program.process.pid


async def _until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not reached():
            await asyncio.sleep(0.05)
