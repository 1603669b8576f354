"""Where damaged segments go: a folder beside them, each file with a JSON note that says why. Nothing here
deletes."""

import contextlib
import json
from collections.abc import Collection
from pathlib import Path

from tracestone.collector.wal.filesystem import Filesystem
from tracestone.collector.wal.frames import SEGMENT_SUFFIX
from tracestone.collector.wal.ledger import Damage
from tracestone.schema import clock

QUARANTINE_NAME = "quarantine"


def set_aside(filesystem: Filesystem, folder: Path, path: Path, damage: Damage) -> None:
    """Move the segment at `path` into the quarantine of the log in `folder`. Blocking; raises OSError.

    The note is left out if it cannot be written: a full disk must not keep the file where it is.
    """
    target = folder / QUARANTINE_NAME
    filesystem.names(folder)  # raises if the folder is away: it must not be made anew with nothing in it
    filesystem.make_folder(target)
    name = _free_name(path, filesystem.names(target))
    filesystem.rename(path, target / name)
    filesystem.sync_folder(target)
    filesystem.sync_folder(folder)
    at = clock.now_ns()
    note = {"segment": name, "from_position": damage.position, "reason": damage.reason, "at_ns": at}
    with contextlib.suppress(OSError):
        descriptor = filesystem.create(target / f"{name.removesuffix(SEGMENT_SUFFIX)}-{at}.json")
        try:
            filesystem.write_at(descriptor, json.dumps(note).encode(), 0)
            filesystem.sync(descriptor)
        finally:
            filesystem.close(descriptor)


def _free_name(path: Path, taken: Collection[str]) -> str:
    """A log whose cursor was lost may give a name again that is taken here."""
    number = 1
    while (name := f"{path.stem}{f'-{number}' if number > 1 else ''}{SEGMENT_SUFFIX}") in taken:
        number += 1
    return name


def count(filesystem: Filesystem, folder: Path) -> int:
    """How many segments are set aside."""
    try:
        names = filesystem.names(folder / QUARANTINE_NAME)
    except FileNotFoundError:
        return 0
    return sum(name.endswith(SEGMENT_SUFFIX) for name in names)
