"""What ClickHouse refused for its content: kept with the reason, counted, never dropped.

Each batch of a log that had something of the kind leaves two files in the dead-letter folder, named by the batch:
`<batch>.pb`, the refused items as serialised messages of the signal (`ingest.v1.Traces`, …), each behind its length,
just as the loader would insert them; and `<batch>.json` with the signal and the reasons. Keeping the same batch again,
after a crash, changes nothing.
A trace whose row could not be computed leaves the `.json` alone: its spans are stored. For listing, showing, sending
again see `deadletters`.
"""

import asyncio
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tracestone.schema import clock
from tracestone.schema.errors import StorageDown

logger = logging.getLogger(__name__)

_MAX_REASONS = 20
_MAX_REASON = 2000


@dataclass(frozen=True)
class Follow:
    """What could not be done after an insert: for these batches, this share of several.

    `touched` are the experiments and ids it is about, as far as they are known.
    """

    batches: list[str]
    share: int
    shares: int
    touched: list[tuple[int, str]]
    kept_at_ms: int


class DeadLetters:
    """The dead-letter folder of one collector. `kept` counts since the start."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.kept = 0

    async def keep(
        self,
        signal: str,
        batch: str,
        payload: bytes,
        items: int,
        reasons: Sequence[str],
        follow: Follow | None = None,
    ) -> None:
        """Stores what was refused, durably, before the log may forget it. Raises StorageDown; call again then."""
        name = batch.replace("/", "-")
        about = {
            "batch": batch,
            "signal": signal,
            "items": items,
            "bytes": len(payload),
            "reasons": [reason[:_MAX_REASON] for reason in reasons[:_MAX_REASONS]],
            "kept_at_ms": clock.now_ms(),
            "follow": None if follow is None else asdict(follow),
        }
        try:
            is_new = await asyncio.to_thread(self._write, name, payload, json.dumps(about, indent=1).encode())
        except OSError as error:
            raise StorageDown(f"The dead-letter folder cannot be written: {error.strerror}.") from error
        self.kept += is_new
        logger.error(
            "the store refused something for its content; it is kept as a dead letter",
            extra={"action": "dead_letter", "signal": signal, "file": name, "items": items, "reason": reasons[0]},
        )

    def _write(self, name: str, payload: bytes, about: bytes) -> bool:
        self._folder.mkdir(parents=True, exist_ok=True)
        is_new = not (self._folder / f"{name}.json").exists()
        if payload:
            self._replace(f"{name}.pb", payload)
        self._replace(f"{name}.json", about)  # last: who sees it finds the payload whole
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return is_new

    def _replace(self, name: str, content: bytes) -> None:
        new = self._folder / f"{name}.new"
        with new.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.rename(self._folder / name)
