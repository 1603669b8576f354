"""Verdicts that Postgres could not take yet, on disk, so that what a judge was paid for outlives the process.

One file a job, written before anybody waits for Postgres and removed once the verdict is there, or another worker has
the job. At most as many as jobs run at once. Blocking; what cannot be written is logged, and is in memory alone.
"""

import logging
import os
import threading
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from tracestone.schema.stores.jobs import Job
from tracestone.scoring.run import Scored

logger = logging.getLogger(__name__)

_SCORED = TypeAdapter(Scored)


class KeptVerdicts:
    """The files in one folder, which is this process's alone and need not exist."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, scored: Scored) -> None:
        """Stores it, durably. Safe to repeat."""
        path = self._path(scored.job)
        new = path.with_suffix(f".new-{threading.get_ident()}")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with new.open("wb") as file:
                file.write(_SCORED.dump_json(scored))
                file.flush()
                os.fsync(file.fileno())
            new.rename(path)
            folder = os.open(self._folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            extra = {"action": "keep_verdict", "scorer": scored.job.scorer_name, "reason": error.strerror}
            logger.warning("a verdict that waits for Postgres cannot be kept on disk", extra=extra)

    def has(self, job: Job) -> bool:
        """Whether the job's verdict is here."""
        return self._path(job).exists()

    def forget(self, job: Job) -> None:
        """Removes it, if it is here."""
        self._path(job).unlink(missing_ok=True)

    def all(self) -> list[Scored]:
        """Everything that is here. What cannot be read stays, and is logged."""
        found = []
        for path in sorted(self._folder.glob("*.json")):
            try:
                found.append(_SCORED.validate_json(path.read_bytes()))
            except (OSError, ValidationError) as error:
                extra = {"action": "keep_verdict", "file": str(path), "reason": type(error).__name__}
                logger.warning("a verdict that was kept on disk cannot be read", extra=extra)
        return found

    def _path(self, job: Job) -> Path:
        # A job that was claimed anew has another lease, and its earlier verdict no right to it any more.
        return self._folder / f"{job.job_id}-{job.lease}.json"
