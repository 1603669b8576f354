"""What ClickHouse refused for its content: kept with the reason, counted, never dropped.

Each batch of a log that had something of the kind leaves two files in the dead-letter folder, named by the batch:
`<batch>.pb`, the refused items as serialised messages of the signal (`ingest.v1.Traces`, …), each behind its length,
just as the loader would insert them; and `<batch>.json` with the signal and the reasons. Keeping the same batch again,
after a crash, changes nothing. What comes again in another batch, cut or joined in another way, is known by its bytes
and the place in the log that both are from, and is not kept twice (`unknown`).
A trace whose row could not be computed leaves the `.json` alone: its spans are stored. For listing, showing, sending
again see `deadletters`.
"""

import asyncio
import contextlib
import json
import logging
import os
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tracestone.collector.wal.frames import split_payload
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


@dataclass(frozen=True)
class _Place:
    """Some consecutive records of one log."""

    log: str
    first: int
    end: int

    def overlaps(self, other: "_Place") -> bool:
        return self.log == other.log and self.first < other.end and other.first < self.end


class DeadLetters:
    """The dead-letter folder of one collector. `kept` counts since the start."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._places: dict[str, list[_Place]] = {}
        self._looking = threading.Lock()  # every signal's loader asks from a thread of its own
        self.kept = 0

    async def unknown(self, batch: str, parts: Sequence[str], payload: bytes) -> bytes:
        """What of a refused `payload` no letter of another batch holds already. Raises StorageDown; call again then.

        `parts` name the places in logs that the batch is from.
        """
        try:
            return await asyncio.to_thread(self._unknown, batch.replace("/", "-"), parts, payload)
        except OSError as error:
            raise StorageDown(f"The dead-letter folder cannot be read: {error.strerror}.") from error

    async def keep(
        self,
        signal: str,
        batch: str,
        payload: bytes,
        items: int,
        reasons: Sequence[str],
        follow: Follow | None = None,
        parts: Sequence[str] = (),
    ) -> None:
        """Stores what was refused, durably, before the log may forget it. Raises StorageDown; call again then."""
        name = batch.replace("/", "-")
        about = {
            "batch": batch,
            "parts": list(parts),
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

    def _unknown(self, name: str, parts: Sequence[str], payload: bytes) -> bytes:
        own = _places(parts)
        known: set[bytes] = set()
        with self._looking:
            letters = list(self._letters().items())
        for letter, places in letters:
            if letter != name and any(one.overlaps(other) for one in own for other in places):
                known.update(self._held(letter))
        return b"".join(record for record in split_payload(payload) if record not in known)

    def _letters(self) -> dict[str, list["_Place"]]:
        """Of every letter where in the logs it is from."""
        try:
            names = {name.removesuffix(".json") for name in os.listdir(self._folder) if name.endswith(".json")}
        except FileNotFoundError:
            names = set()
        self._places = {name: places for name, places in self._places.items() if name in names}
        for name in names - self._places.keys():
            with contextlib.suppress(FileNotFoundError):
                self._places[name] = _noted((self._folder / f"{name}.json").read_bytes())
        return self._places

    def _held(self, name: str) -> list[bytes]:
        """What a letter holds, nothing when it is about to go: somebody asked for it to be sent again."""
        asked = (self._folder / f"{name}.replay").exists()
        try:
            payload = (self._folder / f"{name}.pb").read_bytes()
            # In this order: the one who sends it removes the mark last.
            return [] if asked or not (self._folder / f"{name}.json").exists() else split_payload(payload)
        except (FileNotFoundError, ValueError, IndexError):
            return []

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


def _noted(note: bytes) -> list[_Place]:
    """The places that a letter's note tells; none where it tells nothing, or is no note of ours."""
    try:
        about = json.loads(note)
        return _places(about["parts"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return []


def _places(parts: Sequence[str]) -> list[_Place]:
    """Names of batches, as a log's reader gives them: `<log>/<first>-<end>`."""
    found = []
    for part in parts:
        log, _, positions = part.rpartition("/")
        first, _, end = positions.partition("-")
        found.append(_Place(log, int(first), int(end)))
    return found
