"""What is refused again after a crash, in a batch that is cut or joined in another way, is kept once."""

import json
from pathlib import Path

import pytest

from tracestone.collector.ingest.deadletter import DeadLetters
from tracestone.collector.wal.frames import varint


def _payload(*records: bytes) -> bytes:
    return b"".join(varint(len(record)) + record for record in records)


async def _keep(letters: DeadLetters, name: str, parts: list[str], *records: bytes) -> bytes:
    """As the loader does; what was written."""
    rest = await letters.unknown(name, parts, _payload(*records))
    if rest:
        await letters.keep("traces", name, rest, 1, ["why"], parts=parts)
    return rest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dead-letter folder with one letter, of an earlier process."""
    return tmp_path / "deadletter"


async def test_a_record_is_kept_once_however_the_log_is_cut(folder: Path) -> None:
    assert await _keep(DeadLetters(folder), "log/100-200", ["log/100-200"], b"x", b"y") == _payload(b"x", b"y")
    after = DeadLetters(folder)
    assert await _keep(after, "log/0-150", ["log/0-150"], b"a", b"x") == _payload(b"a")
    assert await _keep(after, "log/150-300+1-0abc", ["log/150-300", "other/0-9"], b"y", b"z") == _payload(b"z")
    assert await _keep(after, "log/120-180", ["log/120-180"], b"x", b"y") == b""
    assert sorted(path.name for path in folder.glob("*.pb")) == [
        "log-0-150.pb",
        "log-100-200.pb",
        "log-150-300+1-0abc.pb",
    ]
    # The same batch again is the same letter.
    assert await _keep(after, "log/100-200", ["log/100-200"], b"x", b"y") == _payload(b"x", b"y")
    assert after.kept == 2


@pytest.mark.parametrize("parts", [["log/200-300"], ["log/0-100"], ["other/100-200"]])
async def test_the_same_bytes_from_elsewhere_are_another_record(folder: Path, parts: list[str]) -> None:
    letters = DeadLetters(folder)
    await _keep(letters, "log/100-200", ["log/100-200"], b"x")
    assert await _keep(letters, parts[0], parts, b"x") == _payload(b"x")


@pytest.mark.parametrize("going", ["asked", "dropped", "without payload", "no note"])
async def test_a_letter_that_is_about_to_go_holds_nothing(folder: Path, going: str) -> None:
    letters = DeadLetters(folder)
    await _keep(letters, "log/100-200", ["log/100-200"], b"x")
    if going == "asked":
        (folder / "log-100-200.replay").touch()
    elif going == "no note":
        letters = DeadLetters(folder)
        (folder / "log-100-200.json").write_text(json.dumps(["log/100-200"]))
    else:
        (folder / ("log-100-200.json" if going == "dropped" else "log-100-200.pb")).unlink()
    assert await _keep(letters, "log/50-150", ["log/50-150"], b"x") == _payload(b"x")
