"""Display functions: one table a function."""

import pytest

from tracestone.collector.ui import format as fmt

NOW = 1_767_225_600_000_000_000  # 2026-01-01 00:00:00 UTC
S = 1_000_000_000


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (None, "–"),
        (0, "0 ns"),
        (7, "7 ns"),
        (999, "999 ns"),
        (1_500, "1.50 µs"),
        (999_600, "1.00 ms"),
        (12_340_000, "12.3 ms"),
        (999_400_000, "999 ms"),
        (999_600_000, "1.00 s"),
        (1_240_000_000, "1.24 s"),
        (59_400_000_000, "59.4 s"),
        (60 * S, "1 m 00 s"),
        (125 * S, "2 m 05 s"),
        (3600 * S, "1 h 00 m"),
        (100_000 * S, "27 h 46 m"),
    ],
)
def test_duration(ns: int | None, text: str) -> None:
    assert fmt.duration(ns) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(None, "–"), (0, "0"), (9_999, "9,999"), (12_345, "12.3k"), (999_600, "1.00M"), (4_560_000, "4.56M")],
)
def test_tokens(number: int | None, text: str) -> None:
    assert fmt.tokens(number) == text


@pytest.mark.parametrize(
    ("usd", "text"),
    [
        (None, "–"),
        (0.0, "$0"),
        (0.00001, "<$0.0001"),
        (0.00123, "$0.0012"),
        (0.1234, "$0.123"),
        (12.3, "$12.30"),
        (12_345.6, "$12,345.60"),
        (-0.5, "-$0.500"),
    ],
)
def test_cost(usd: float | None, text: str) -> None:
    assert fmt.cost(usd) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "now"),
        (12, "12 s ago"),
        (61, "1 min ago"),
        (3 * 3600, "3 h ago"),
        (2 * 86_400, "2 d ago"),
        (31 * 86_400, "2025-12-01"),
        (-60, "2026-01-01 00:01:00.000 UTC"),
    ],
)
def test_relative(seconds: int, text: str) -> None:
    assert fmt.relative(NOW - seconds * S, NOW) == text


def test_times_keep_their_milliseconds() -> None:
    assert fmt.exact(NOW + 345_999_999) == "2026-01-01 00:00:00.345 UTC"
    assert fmt.iso(NOW + 345_999_999) == "2026-01-01T00:00:00.345Z"


@pytest.mark.parametrize("ns", [0, -1, 2**63 - 1, 2**64])
def test_times_beyond_reason_do_not_fail(ns: int) -> None:
    assert fmt.exact(ns).endswith("UTC")


def test_one_line_folds_and_cuts() -> None:
    assert fmt.one_line("a\n  b\tc", 10) == "a b c"
    assert fmt.one_line("x" * 30, 10) == "x" * 9 + "…"
    assert fmt.one_line(" " * 1000 + "late", 10).endswith("…")


def test_clip_hides_only_what_is_worth_hiding() -> None:
    assert fmt.clip("x" * 110, 100) == fmt.Clipped("x" * 110, 0)
    assert fmt.clip("x" * 150, 100) == fmt.Clipped("x" * 100, 50)


@pytest.mark.parametrize("text", ["plain", '{"a": ', "[" * 100_000, '{"a": 1' + " " * 300_000 + "}"])
def test_pretty_leaves_what_it_cannot_read(text: str) -> None:
    assert fmt.pretty(text) == text


def test_pretty_indents_json_and_keeps_letters() -> None:
    assert fmt.pretty('{"city":"Malmö"}') == '{\n  "city": "Malmö"\n}'


@pytest.mark.parametrize(
    ("value", "type_name", "text"),
    [
        ("a", "string", "a"),
        (True, "bool", "true"),
        (1, "int", "1"),
        (1.5, "double", "1.5"),
        (["ä", 1], "array", '["ä", 1]'),
        ({"k": None}, "map", '{"k": null}'),
        (b"\x00\xff", "bytes", "00ff"),
        (None, "none", "null"),
    ],
)
def test_attribute_values(value: object, type_name: str, text: str) -> None:
    assert (fmt.type_name(value), fmt.shown(value)) == (type_name, text)
