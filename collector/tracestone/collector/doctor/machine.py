"""The machine: the data folder and its disk, open files, ports."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tracestone.collector import addresses
from tracestone.collector.doctor.finding import Finding, ok, problem, warning
from tracestone.collector.open_files import connections_at_most
from tracestone.schema.settings import GIB, Settings

# Merges write a part anew before the old ones go.
_FREE_BEYOND_LOG = 2 * GIB


def folder(settings: Settings) -> Iterator[Finding]:
    """Whether the data folder can be written and synced, and how much room there is."""
    subject, path = "data folder", settings.data_dir.resolve()
    there = next(each for each in (path, *path.parents) if each.exists())
    if not there.is_dir():
        yield problem(subject, f"{there} is not a folder.", "Name another one with the setting data_dir.")
        return
    try:
        _write(there)
    except OSError as error:
        advice = f"Let user {os.geteuid()} write there, or name another folder with the setting data_dir."
        yield problem(subject, f"{there} cannot be written: {error.strerror}.", advice)
        return
    yield ok(subject, f"{path} can be written{'' if there == path else ' once it is made'}.")
    yield _room(settings, there)


def _write(there: Path) -> None:
    with tempfile.TemporaryFile(dir=there) as file:
        file.write(b"tracestone")
        file.flush()
        os.fsync(file.fileno())


def _room(settings: Settings, there: Path) -> Finding:
    free = shutil.disk_usage(there).free
    wanted = settings.wal_max_bytes + _FREE_BEYOND_LOG
    says = f"{free / GIB:.1f} GiB are free at {there}."
    if free < settings.wal_max_bytes:
        advice = "Free some, or lower wal_max_bytes: the log is to hold what arrives while a store is away."
        return problem("disk", f"{says} The logs alone may take {settings.wal_max_bytes / GIB:.1f} GiB.", advice)
    if free < wanted:
        return warning("disk", f"{says} That is little beside the logs' bound and merges.", "Free some.")
    return ok("disk", says)


def open_files(settings: Settings) -> Finding:
    """Whether the process may open as many files as its connections need."""
    held = connections_at_most(settings.max_connections)
    if held < settings.max_connections:
        says = f"The limit of open files lets each port hold {held} connections, not {settings.max_connections}."
        return warning("open files", says, "Raise the hard limit (ulimit -Hn), or lower max_connections.")
    return ok("open files", f"The limit lets each port hold the {held} connections of max_connections.")


def ports(settings: Settings, *, running: bool) -> Iterator[Finding]:
    """Whether every port can be listened on; where a Tracestone runs with these settings, it has them."""
    if running:
        yield ok("ports", "A Tracestone runs on this data folder and has them.")
        return
    for name in ("otlp_grpc_port", "otlp_http_port", "port", "sql_port"):
        number = getattr(settings, name)
        if number and (reason := addresses.problem(settings.host, number)):
            advice = f"Stop what uses it, or set {name} to another one."
            yield problem("ports", f"{name} {settings.host}:{number} cannot be listened on: {reason}.", advice)
            break
    else:
        yield ok("ports", f"All can be listened on at {settings.host}.")
