"""docs/otlp.md tells the whole checklist, and every test that it names is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/otlp.md").read_text(encoding="utf-8")
LENGTHS = {"A": 18, "B": 18, "C": 13, "D": 13, "E": 14, "F": 22, "G": 10, "H": 11, "I": 10, "J": 12}
ITEMS = {f"{part}{number}" for part, length in LENGTHS.items() for number in range(1, length + 1)} | {"B7b"}
ROWS = re.findall(r"^\| ([A-J]\d+b?) \| ([^|]+) \| ([^|]+) \| (.+) \|$", PAGE, re.MULTILINE)
NAMED = re.compile(r"`([a-z_]+/[a-z_]+\.py)::([a-z0-9_]+)`")


def test_every_item_once() -> None:
    assert sorted(item for item, *_ in ROWS) == sorted(ITEMS)


@pytest.mark.parametrize(("item", "about", "state", "why"), ROWS, ids=[row[0] for row in ROWS])
def test_an_item_has_a_test_or_a_reason(item: str, about: str, state: str, why: str) -> None:
    assert about.strip()
    assert state in ("yes", "part", "no", "–")
    tests = NAMED.findall(why)
    if state == "yes":
        assert tests
    if state != "yes":
        assert len(NAMED.sub("", why).split()) > 4, "says why in words"
    for path, name in tests:
        text = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "tests").rglob(path))
        assert re.search(rf"def {name}\(", text), f"{path} has no {name}"


def test_every_name_is_read() -> None:
    assert len(NAMED.findall(PAGE)) == PAGE.count("::test_")
