"""Requests that ClickHouse refused for what they hold: kept with the reason, counted, never dropped.

Each is two files in the dead-letter folder: `<time>-<position>.pb`, a serialised `ingest.v1.Traces` message behind its
length, and `<time>-<position>.json` with the reason. The message is what the loader would insert, so it can be inserted
again once the cause is mended.
"""

import asyncio
import json
import logging
import os
from pathlib import Path

from tracestone.schema import clock

logger = logging.getLogger(__name__)


class DeadLetters:
    """The dead-letter folder of one collector."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.count = len(list(folder.glob("*.pb"))) if folder.is_dir() else 0

    async def keep(self, batch: str, payload: bytes, reason: str) -> None:
        """Stores one refused request, durably, before the log may forget it."""
        stem = f"{clock.now_ns()}-{batch.replace('/', '-')}"
        await asyncio.to_thread(self._write, stem, payload, reason)
        self.count += 1
        logger.error(
            "a request was refused by the store and kept as a dead letter",
            extra={"action": "dead_letter", "file": stem, "bytes": len(payload)},
        )

    def _write(self, stem: str, payload: bytes, reason: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        about = json.dumps({"reason": reason, "bytes": len(payload), "kept_at_ms": clock.now_ms()}).encode()
        for name, content in ((f"{stem}.json", about), (f"{stem}.pb", payload)):
            with (self._folder / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
