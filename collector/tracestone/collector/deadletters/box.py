"""The dead letters of a data folder, and the segments that its logs have set aside. Blocking.

| kind | what it is | files |
|---|---|---|
| refused | items that ClickHouse refused for their content | `deadletter/<name>.json`, `.pb` |
| not computed | what follows an insert could not be done; the items are stored | `deadletter/<name>.json` |
| damaged segment | a part of a write-ahead log, set aside | `wal/<log>/quarantine/<segment>.wal` |
| salvaged segment | the same, once its whole records were sent again | the same, `.salvaged` |

**Sending again is asked for by a file**, `<name>.replay` beside the letter: whoever may write in the data folder may
ask, whether Tracestone runs or not. The running one, or the next that starts, does it (see `replay`) and removes the
letter; what cannot be sent again gets a `.failed` with the reason.
"""

import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from tracestone.collector.ingest.deadletter import Follow
from tracestone.collector.wal.filesystem import RealFilesystem
from tracestone.collector.wal.frames import split_payload
from tracestone.collector.wal.salvage import whole_frames
from tracestone.schema.errors import NotFound

REFUSED, NOT_COMPUTED, DAMAGED, SALVAGED = "refused", "not computed", "damaged segment", "salvaged segment"
_REPLAY, _FAILED = ".replay", ".failed"
_LATEST_MS = 253_402_300_799_999  # the last moment of the year 9999, which a date can still say


@dataclass(frozen=True)
class Letter:
    """One thing that was given up. `size` in bytes, `kept_at_ms` on the wall clock; `items` None when not known."""

    name: str
    kind: str
    signal: str
    items: int | None
    size: int
    kept_at_ms: int
    reasons: tuple[str, ...]
    path: Path
    follow: Follow | None
    asked: bool
    failed: str

    @property
    def can_be_sent(self) -> bool:
        """Whether there is something to send again."""
        return self.kind != SALVAGED


class Note(BaseModel):
    """What a `.json` in the dead-letter folder says. A disk or a person may have changed it."""

    signal: str = ""
    items: int | None = None
    bytes: int = 0
    kept_at_ms: int = Field(default=0, ge=0, le=_LATEST_MS)
    reasons: tuple[str, ...] = ()
    follow: Follow | None = None


class SegmentNote(BaseModel):
    """What a `.json` beside a segment that was set aside says."""

    segment: str
    reason: str
    at_ns: int = Field(ge=0, le=_LATEST_MS * 1_000_000)


class Box:
    """All letters of the data folder."""

    def __init__(self, data_dir: Path) -> None:
        self._letters = data_dir / "deadletter"
        self._wal = data_dir / "wal"

    def letters(self) -> list[Letter]:
        """Every letter, oldest first."""
        found = [self._letter(path) for path in self._letters.glob("*.json")]
        found += [self._segment(path, DAMAGED) for path in self._wal.glob("**/quarantine/*.wal")]
        found += [self._segment(path, SALVAGED) for path in self._wal.glob("**/quarantine/*.salvaged")]
        return sorted((letter for letter in found if letter is not None), key=lambda letter: letter.kept_at_ms)

    def counts(self) -> dict[tuple[str, str], int]:
        """How many letters there are, by signal and kind."""
        return Counter((letter.signal, letter.kind) for letter in self.letters())

    def letter(self, name: str) -> Letter:
        """The letter of that name. Raises NotFound."""
        for letter in self.letters():
            if letter.name == name:
                return letter
        raise NotFound(f"There is no dead letter {name!r}; `tracestone deadletter list` tells what there is.")

    def records(self, letter: Letter) -> Iterator[bytes]:
        """The serialised messages in it, whole ones only. Raises OSError."""
        if letter.kind in (DAMAGED, SALVAGED):
            for body in whole_frames(RealFilesystem(), letter.path):
                yield from map(_record, split_payload(body))
        elif letter.kind == REFUSED:
            yield from map(_record, split_payload(letter.path.with_suffix(".pb").read_bytes()))

    def ask(self, letter: Letter) -> None:
        """Asks for it to be sent again."""
        _beside(letter, _FAILED).unlink(missing_ok=True)
        _beside(letter, _REPLAY).touch()

    def asked(self) -> list[Letter]:
        """Those that somebody wants to be sent again."""
        if not self._is_asked():
            return []
        return [letter for letter in self.letters() if letter.asked]

    def failed(self, letter: Letter, reason: str) -> None:
        """It cannot be sent again, for this reason."""
        _beside(letter, _FAILED).write_text(reason)
        _beside(letter, _REPLAY).unlink(missing_ok=True)

    def done(self, letter: Letter) -> None:
        """It was sent again, and that is durable."""
        if letter.kind == DAMAGED:  # what of it was not whole is in there alone
            letter.path.rename(letter.path.with_suffix(".salvaged"))
            _beside(letter, _REPLAY).unlink(missing_ok=True)
            _beside(letter, _FAILED).unlink(missing_ok=True)
        else:
            self.drop(letter)

    def drop(self, letter: Letter) -> None:
        """Removes it for good."""
        if letter.kind in (DAMAGED, SALVAGED):
            files = [letter.path, *(note for note, _ in _notes(letter.path))]
        else:
            files = [letter.path.with_suffix(".pb"), letter.path]
        for path in [*files, _beside(letter, _FAILED), _beside(letter, _REPLAY)]:
            path.unlink(missing_ok=True)

    def _is_asked(self) -> bool:
        folders = [self._letters, *self._wal.glob("*/quarantine"), *self._wal.glob("*/*/quarantine")]
        return any(name.endswith(_REPLAY) for folder in folders if folder.is_dir() for name in os.listdir(folder))

    def _letter(self, path: Path) -> Letter | None:
        try:
            note = Note.model_validate_json(path.read_bytes())
        except FileNotFoundError:  # gone since it was listed
            return None
        except OSError as error:
            note = Note(reasons=(f"its note cannot be read: {error.strerror}",))
        except ValidationError as error:
            note = Note(reasons=(f"its note cannot be read: {_first_problem(error)}",))
        return Letter(
            name=path.stem,
            kind=NOT_COMPUTED if note.follow is not None else REFUSED,
            signal=note.signal,
            items=note.items,
            size=note.bytes,
            kept_at_ms=note.kept_at_ms,
            reasons=note.reasons,
            path=path,
            follow=note.follow,
            asked=path.with_suffix(_REPLAY).exists(),
            failed=_text(path.with_suffix(_FAILED)),
        )

    def _segment(self, path: Path, kind: str) -> Letter | None:
        log = path.parent.parent
        notes = [note for _, note in _notes(path)]
        try:
            status = path.stat()
        except FileNotFoundError:
            return None
        return Letter(
            name=f"{log.relative_to(self._wal)}/{path.stem}",
            kind=kind,
            signal=log.name,
            items=None,
            size=status.st_size,
            kept_at_ms=max((note.at_ns // 1_000_000 for note in notes), default=int(status.st_mtime * 1000)),
            reasons=tuple(note.reason for note in notes) or ("its note could not be written",),
            path=path,
            follow=None,
            asked=path.with_suffix(_REPLAY).exists(),
            failed=_text(path.with_suffix(_FAILED)),
        )


def _notes(segment: Path) -> list[tuple[Path, SegmentNote]]:
    """The notes about a segment that was set aside."""
    found = []
    for path in segment.parent.glob(f"{segment.stem}-*.json"):
        with contextlib.suppress(OSError, ValueError):
            note = SegmentNote.model_validate_json(path.read_bytes())
            if note.segment == segment.with_suffix(".wal").name:
                found.append((path, note))
    return found


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))


def _beside(letter: Letter, suffix: str) -> Path:
    return letter.path.with_suffix(suffix)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def _record(framed: bytes) -> bytes:
    return framed[next(at for at, byte in enumerate(framed) if byte < 0x80) + 1 :]
