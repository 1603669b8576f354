"""What the log asks of a file system, one method per operation, so that a test can put a faulty one in its
place.

Every method may raise OSError. Files are named by descriptor once open.
"""

import errno
import fcntl
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol


class Filesystem(Protocol):
    """The operations; see `RealFilesystem` for what they do on a real machine."""

    def make_folder(self, folder: Path) -> None:
        """Make `folder` and its parents; no error if it is there. The new entry is durable on return."""

    def names(self, folder: Path) -> list[str]:
        """The names of the regular files in `folder`, in no order."""

    def lock(self, path: Path) -> int:
        """Take the lock that `path` stands for; BlockingIOError if another holder has it. Released by
        `close`."""

    def create(self, path: Path) -> int:
        """Create a file that must not exist yet and open it for reading and writing."""

    def open(self, path: Path) -> int:
        """Open an existing file for reading and writing."""

    def close(self, descriptor: int) -> None:
        """Close it. What was written and not synced may still reach the disk."""

    def size(self, descriptor: int) -> int:
        """The file's size in bytes."""

    def is_at(self, descriptor: int, path: Path) -> bool:
        """Whether `path` still is the name of the open file; False if it was removed, moved or replaced."""

    def write(self, descriptor: int, buffers: Sequence[bytes | memoryview]) -> int:
        """Write the buffers after what was last written; the number of bytes written, which may be less than
        their sum."""

    def write_at(self, descriptor: int, data: bytes, offset: int) -> None:
        """Overwrite from `offset`, all of `data` or an error."""

    def read_at(self, descriptor: int, size: int, offset: int) -> bytes:
        """Up to `size` bytes from `offset`, at least one unless the file ends there; see `read_whole`."""

    def truncate(self, descriptor: int, size: int) -> None:
        """Cut the file to `size` bytes."""

    def sync(self, descriptor: int) -> None:
        """Return when the file's content and size are durable."""

    def sync_folder(self, folder: Path) -> None:
        """Return when the names in `folder` are durable."""

    def rename(self, source: Path, target: Path) -> None:
        """Move a file atomically, replacing `target`."""

    def remove(self, path: Path) -> None:
        """Remove a file."""

    def free_bytes(self, folder: Path) -> int:
        """How many bytes an ordinary user can still write on the disk of `folder`."""


def read_whole(filesystem: Filesystem, descriptor: int, size: int, offset: int) -> bytes:
    """`size` bytes from `offset`; fewer only if the file ends before. Raises OSError.

    A system may hand over less than it was asked for: when a signal comes, and before a place that it cannot read.
    """
    data = filesystem.read_at(descriptor, size, offset)
    while len(data) < size and (more := filesystem.read_at(descriptor, size - len(data), offset + len(data))):
        data += more
    return data


class RealFilesystem:
    """The operating system's."""

    def make_folder(self, folder: Path) -> None:
        missing = [part for part in (folder, *folder.parents) if not part.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for part in missing:
            self.sync_folder(part.parent)

    def names(self, folder: Path) -> list[str]:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if entry.is_file()]

    def lock(self, path: Path) -> int:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def create(self, path: Path) -> int:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def open(self, path: Path) -> int:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    def size(self, descriptor: int) -> int:
        return os.fstat(descriptor).st_size

    def is_at(self, descriptor: int, path: Path) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), os.stat(path))
        except FileNotFoundError:
            return False

    def write(self, descriptor: int, buffers: Sequence[bytes | memoryview]) -> int:
        return os.writev(descriptor, buffers)

    def write_at(self, descriptor: int, data: bytes, offset: int) -> None:
        written = 0
        while written < len(data):
            count = os.pwrite(descriptor, memoryview(data)[written:], offset + written)
            if not count:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            written += count

    def read_at(self, descriptor: int, size: int, offset: int) -> bytes:
        return os.pread(descriptor, size, offset)

    def truncate(self, descriptor: int, size: int) -> None:
        os.ftruncate(descriptor, size)

    def sync(self, descriptor: int) -> None:
        if sys.platform == "darwin":  # there, fsync leaves the data in the drive's own cache
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
        else:
            os.fdatasync(descriptor)

    def sync_folder(self, folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        os.replace(source, target)

    def remove(self, path: Path) -> None:
        os.unlink(path)

    def free_bytes(self, folder: Path) -> int:
        status = os.statvfs(folder)
        return status.f_bavail * status.f_frsize
