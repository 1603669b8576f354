"""A disk in memory for the write-ahead log: it fails on demand, and a power cut loses what was not synced.

Implements `tracestone.collector.wal.filesystem.Filesystem`. Names and contents are kept twice, as the running
system sees them and as they are durable; `sync` and `sync_folder` carry the one over to the other. After a
power cut, a name that was made or removed since its folder was synced may be there or not.
"""

import errno
import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SHORT_READS = 0.5  # of the reads while there are `dice`


@dataclass(eq=False)
class File:
    """`stale` are ranges that a failed sync did not write: the system takes them for written from then on."""

    data: bytearray = field(default_factory=bytearray)
    durable: bytes = b""
    stale: list[tuple[int, int]] = field(default_factory=list)


@dataclass(eq=False)
class Handle:
    file: File
    path: Path
    offset: int = 0


class SimulatedDisk:
    """`free` is how many bytes still fit; `fail` maps an operation to the errno it fails with from now on.

    With `dice`, any operation may fail, writes be short and overwriting be torn, with the probability `rate`, and reads
    are often short. What is in `unreadable` (a file, from, to) cannot be read; a read from before it ends there. While
    the folders are `away`, no name is found.
    """

    def __init__(self, free: int = 1 << 40) -> None:
        self.free = free
        self.fail: dict[str, int] = {}
        self.dice: random.Random | None = None
        self.rate = 0.0
        self.unreadable: list[tuple[File, int, int]] = []
        self.away = False
        self.calls: Counter[str] = Counter()
        self.before_sync: Callable[[Path], None] = lambda _: None
        self._files: dict[Path, File] = {}
        self._durable_names: dict[Path, File] = {}
        self._folders: set[Path] = set()
        self._handles: dict[int, Handle] = {}
        self._locks: set[Path] = set()
        self._next = 1000
        self._guard = threading.RLock()

    # The state, for tests.

    def power_cut(self, dice: random.Random) -> None:
        """Forget what is not durable, except for a random part of each file's end, some of it zeroed."""
        with self._guard:
            names = {*self._files, *self._durable_names}
            self._files = {
                path: self._files.get(path) or self._durable_names[path]
                for path in sorted(names)
                if (path in self._files) == (path in self._durable_names) or dice.random() < 0.5
            }
            self._durable_names = dict(self._files)
            for file in self._files.values():
                file.data = bytearray(_torn(file, dice))
                file.durable = bytes(file.data)
                file.stale.clear()
            self._handles.clear()
            self._locks.clear()
            self.fail.clear()

    def kill(self) -> None:
        """The process ends; what it wrote stays."""
        with self._guard:
            self._handles.clear()
            self._locks.clear()
            self.fail.clear()

    def paths(self) -> list[Path]:
        """All files, sorted."""
        return sorted(self._files)

    def content(self, path: Path) -> bytearray:
        """The bytes of a file, to be looked at or damaged."""
        return self._files[path].data

    def file(self, path: Path) -> File:
        """A file, whatever its name will be."""
        return self._files[path]

    def has(self, file: File) -> bool:
        """Whether a file still has a name."""
        return any(file is each for each in self._files.values())

    def open_handles(self) -> int:
        """How many descriptors are open."""
        return len(self._handles)

    # The file system.

    def make_folder(self, folder: Path) -> None:
        self._enter("make_folder")
        if self.away:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._folders.update((folder, *folder.parents))

    def names(self, folder: Path) -> list[str]:
        self._enter("names")
        if folder not in self._folders or self.away:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return [path.name for path in self._files if path.parent == folder]

    def lock(self, path: Path) -> int:
        self._enter("lock")
        if path in self._locks:
            raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK))
        self._locks.add(path)
        return self._handle(File(), path)

    def create(self, path: Path) -> int:
        self._enter("create")
        self._look()
        if path in self._files:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        self._files[path] = File()
        return self._handle(self._files[path], path)

    def open(self, path: Path) -> int:
        self._enter("open")
        self._look()
        if path not in self._files:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return self._handle(self._files[path], path)

    def close(self, descriptor: int) -> None:
        self._enter("close")
        with self._guard:
            handle = self._handles.pop(descriptor, None)
            if handle is not None:  # a descriptor from before a crash may be closed by what is left of the process
                self._locks.discard(handle.path)

    def size(self, descriptor: int) -> int:
        self._enter("size")
        return len(self._handles[descriptor].file.data)

    def is_at(self, descriptor: int, path: Path) -> bool:
        self._enter("is_at")
        return not self.away and self._files.get(path) is self._handles[descriptor].file

    def write(self, descriptor: int, buffers: Sequence[bytes | memoryview]) -> int:
        data = b"".join(buffers)
        handle = self._handles[descriptor]
        part = data[: min(len(data), self.free)]
        if "write" in self.fail:
            part = data[: len(data) // 2]
        elif self._strikes() and self.dice is not None:
            part = part[: self.dice.randint(1, len(part))]
        self._put(handle.file, part, handle.offset)
        handle.offset += len(part)
        self._enter("write")
        if data and not part:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return len(part)

    def write_at(self, descriptor: int, data: bytes, offset: int) -> None:
        file = self._handles[descriptor].file
        if self._strikes() and self.dice is not None:
            self._put(file, data[: self.dice.randint(0, len(data))], offset)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._enter("write_at")
        if offset + len(data) - len(file.data) > self.free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._put(file, data, offset)

    def read_at(self, descriptor: int, size: int, offset: int) -> bytes:
        self._enter("read_at")
        file = self._handles[descriptor].file
        for bad, start, end in self.unreadable:
            if file is bad and start <= offset < end:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            if file is bad and offset < start < offset + size:
                size = start - offset
        if self.dice is not None and size > 1 and self.dice.random() < SHORT_READS:
            size = self.dice.randint(1, size - 1)
        return bytes(file.data[offset : offset + size])

    def truncate(self, descriptor: int, size: int) -> None:
        self._enter("truncate")
        file = self._handles[descriptor].file
        self.free += len(file.data) - size
        del file.data[size:]
        file.stale = [(start, min(end, size)) for start, end in file.stale if start < size]

    def sync(self, descriptor: int) -> None:
        handle = self._handles[descriptor]
        self.before_sync(handle.path)
        file = handle.file
        try:
            self._enter("sync")
        except OSError:
            file.stale.append(_unsynced(file))
            raise
        durable = bytearray(file.data)
        for start, end in file.stale:
            durable[start:end] = file.durable[start:end].ljust(end - start, b"\0")
        file.durable = bytes(durable)

    def sync_folder(self, folder: Path) -> None:
        self._enter("sync_folder")
        kept = {path: file for path, file in self._durable_names.items() if path.parent != folder}
        here = {path: file for path, file in self._files.items() if path.parent == folder}
        self._durable_names = {**kept, **here}

    def rename(self, source: Path, target: Path) -> None:
        self._enter("rename")
        self._look()
        if source not in self._files:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        self._files[target] = self._files.pop(source)
        # A rename is journaled as a whole, so it is durable or not; it is never what is tested here.
        self._durable_names.pop(source, None)
        self._durable_names[target] = self._files[target]

    def remove(self, path: Path) -> None:
        self._enter("remove")
        self._look()
        if path not in self._files:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        self.free += len(self._files.pop(path).data)

    def free_bytes(self, folder: Path) -> int:
        self._enter("free_bytes")
        return self.free

    def _enter(self, operation: str) -> None:
        self.calls[operation] += 1
        if operation in self.fail:
            raise OSError(self.fail[operation], os.strerror(self.fail[operation]))
        if self._strikes() and self.dice is not None and operation not in ("lock", "close", "size", "is_at"):
            code = self.dice.choice([errno.EIO, errno.EIO, errno.ENOSPC])
            raise OSError(code, os.strerror(code))

    def _strikes(self) -> bool:
        return self.dice is not None and self.dice.random() < self.rate

    def _look(self) -> None:
        if self.away:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    def _handle(self, file: File, path: Path) -> int:
        with self._guard:
            self._next += 1
            self._handles[self._next] = Handle(file, path)
            return self._next

    def _put(self, file: File, data: bytes, offset: int) -> None:
        self.free -= max(0, offset + len(data) - len(file.data))
        if len(file.data) < offset:
            file.data.extend(bytes(offset - len(file.data)))
        file.data[offset : offset + len(data)] = data
        end = offset + len(data)
        pieces = [
            piece for start, stop in file.stale for piece in ((start, min(stop, offset)), (max(start, end), stop))
        ]
        file.stale = [(start, stop) for start, stop in pieces if start < stop]


def _unsynced(file: File) -> tuple[int, int]:
    """The range that was written since the last sync."""
    longer = max(len(file.data), len(file.durable))
    data, durable = file.data.ljust(longer, b"\1"), file.durable.ljust(longer, b"\0")
    differ = [at for at in range(longer) if data[at] != durable[at]]
    return (differ[0], min(differ[-1] + 1, len(file.data))) if differ else (0, 0)


def _torn(file: File, dice: random.Random) -> bytes:
    """The durable content, and any part of what was written behind it."""
    durable, unsynced = file.durable, bytes(file.data[len(file.durable) :])
    if bytes(file.data[: len(durable)]) != durable or not unsynced:  # overwritten in place: old or new, whole
        whole = [durable, bytes(file.data)] if len(file.data) == len(durable) else [durable]
        return dice.choice(whole)
    kept = bytearray(unsynced[: dice.randint(0, len(unsynced))])
    if kept and dice.random() < 0.3:
        start = dice.randrange(len(kept))
        kept[start:] = bytes(len(kept) - start)  # the size reached the disk, the data did not
    return durable + bytes(kept)
