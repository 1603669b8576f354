"""The view `quality`: what it says of simulated traffic whose truth is known, and of the cases at the edge."""

import json
import math
import random
from typing import Any

import pytest

from tracestone.schema.engines.columnar import Columnar
from tracestone.scoring import head

Row = dict[str, Any]


def verdict(number: int, experiment_id: int, said: float | None, probability: float, **fields: Any) -> Row:
    plain: Row = {
        "assessment_id": f"a-{experiment_id}-{number}",
        "experiment_id": experiment_id,
        "target_type": "trace",
        "trace_id": f"{number:032x}",
        "name": "polite",
        "kind": "feedback",
        "value": "",
        "value_number": said,
        "scorer_name": "polite",
        "scorer_version": 1,
        "probability": probability,
        "valid": 1,
        "created_at": "2026-11-28 10:30:00.000",
        "target_seen_ns": 1795861800 * 10**9,
        "version": 1,
    }
    return plain | fields


async def store(columnar: Columnar, rows: list[Row]) -> None:
    payload = "\n".join(json.dumps(row) for row in rows).encode()
    await columnar.insert_bytes("assessment_rows", payload, "JSONEachRow", {"date_time_input_format": "best_effort"})


async def estimates(columnar: Columnar, segment: str = "", period: str = "all") -> dict[int, Row]:
    rows = await columnar.query(
        "SELECT * FROM quality WHERE period = {period:String} AND segment = {segment:String}",
        {"period": period, "segment": segment},
    )
    return {row["experiment_id"]: row for row in rows}


def share(drawn: random.Random) -> float:
    return float(drawn.random() < 0.85)


def rare(drawn: random.Random) -> float:
    return float(drawn.random() < 0.02)


def stars(drawn: random.Random) -> float:
    return float(drawn.choice((1, 2, 3, 4, 4, 5, 5)))


@pytest.mark.parametrize(
    ("draw", "rates"),
    [
        (share, (0.05,)),
        (share, (0.5,)),
        (rare, (0.1,)),
        (stars, (0.1,)),
        (share, (0.02, 0.5)),
        (share, (0.01, 0.3)),
        (stars, (0.05, 0.6)),
    ],
    ids=["share-5%", "share-50%", "rare-10%", "stars-10%", "share-strata", "share-few", "stars-strata"],
)
async def test_the_interval_holds_the_truth_as_often_as_it_says(
    columnar: Columnar, draw: Any, rates: tuple[float, ...]
) -> None:
    """400 times 1,000 targets: the interval at 95 % holds the mean over all of them at least 92 times of 100.

    With strata the second one is a tenth of the traffic and worse, as failures are: a bare mean would be far off.
    """
    drawn, rows, truth = random.Random(20261128), [], {}
    for experiment_id in range(1, 401):
        values = []
        for number in range(1000):
            second = len(rates) > 1 and number % 10 == 0
            value = draw(drawn) if not second else draw(drawn) * float(drawn.random() < 0.3)
            values.append(value)
            rate = rates[1] if second else rates[0]
            if drawn.random() < rate:
                stratum = {"stratum": "second"} if second else {}
                rows.append(verdict(number, experiment_id, value, rate, metadata=stratum))
        truth[experiment_id] = sum(values) / len(values)
    await store(columnar, rows)
    found = await estimates(columnar)
    held = sum(
        row["low"] is not None and row["low"] - 1e-12 <= truth[experiment_id] <= row["high"] + 1e-12
        for experiment_id, row in found.items()
    )
    assert len(found) >= 399
    assert 0.92 <= held / len(found) < 1
    bias = sum(row["estimate"] - truth[experiment_id] for experiment_id, row in found.items()) / len(found)
    assert abs(bias) < 0.02
    assert sum(row["estimated_targets"] for row in found.values()) / len(found) == pytest.approx(1000, rel=0.03)


@pytest.mark.parametrize("rates", [(0.1,), (0.05, 0.5)], ids=["10%", "strata"])
async def test_the_interval_of_a_share_holds_the_truth_as_often_as_it_says(
    columnar: Columnar, rates: tuple[float, ...]
) -> None:
    """400 times 1,000 targets, each of three words; with strata a tenth of the traffic is of another mixture."""
    drawn, rows, truth = random.Random(7), [], {}
    words, usual, second = ("good", "fair", "poor"), (60, 30, 10), (10, 20, 70)
    for experiment_id in range(1, 401):
        counts = dict.fromkeys(words, 0)
        for number in range(1000):
            other = len(rates) > 1 and number % 10 == 0
            [word] = drawn.choices(words, second if other else usual)
            counts[word] += 1
            rate = rates[1] if other else rates[0]
            if drawn.random() < rate:
                rows.append(verdict(number, experiment_id, None, rate, value=word))
        truth.update({(experiment_id, word): count / 1000 for word, count in counts.items()})
    await store(columnar, rows)
    found = await columnar.query("SELECT * FROM quality WHERE period = 'all' AND segment = ''")
    estimated = {(row["experiment_id"], row["category"]): row for row in found}
    assert len(estimated) == len(found)
    assert estimated.keys() <= truth.keys()
    for word in words:
        mine = [(row, truth[key]) for key, row in estimated.items() if key[1] == word]
        assert len(mine) > 390
        held = sum(row["low"] - 1e-12 <= share <= row["high"] + 1e-12 for row, share in mine)
        assert 0.92 <= held / len(mine) < 1
        assert abs(sum(row["estimate"] - share for row, share in mine) / len(mine)) < 0.01
    sums = [sum(row["estimate"] for row in found if row["experiment_id"] == number) for number in (1, 200, 400)]
    assert sums == pytest.approx([1, 1, 1])


async def test_shares_are_those_of_the_formulas(columnar: Columnar) -> None:
    """One word of weight 2 and three of weight 4, an error beside them: as if it were 1 and all others 0."""
    rows = [
        verdict(1, 1, None, 0.5, value="good"),
        *(verdict(number, 1, None, 0.25, value="poor") for number in (2, 3, 4)),
        verdict(5, 1, None, 0.5, error="TIMEOUT", error_code="TIMEOUT"),
    ]
    # The same for numbers, in another experiment.
    rows += [verdict(number, 2, float(number == 1), 0.5 if number == 1 else 0.25) for number in (1, 2, 3, 4)]
    await store(columnar, rows)
    found = await columnar.query(
        "SELECT * FROM quality WHERE period = 'all' AND segment = '' ORDER BY experiment_id, category"
    )
    good, poor, number = found
    assert [(row["category"], row["verdicts"], row["failed"]) for row in found] == [
        ("good", 4, 1),
        ("poor", 4, 1),
        ("", 4, 0),
    ]
    assert (good["estimate"], poor["estimate"]) == (pytest.approx(2 / 14), pytest.approx(12 / 14))
    same = ("estimate", "low", "high", "estimated_targets", "unknown_weight")
    assert [good[name] for name in same] == [pytest.approx(number[name]) for name in same]


async def test_a_word_among_yes_and_no_counts_them_in_its_share(columnar: Columnar) -> None:
    said = [("yes", 1), ("yes", 1), ("no", 0), ("unsure", None)]
    await store(columnar, [verdict(n, 1, number, 1.0, value=word) for n, (word, number) in enumerate(said)])
    await store(columnar, [verdict(n, 2, number, 1.0, value=word) for n, (word, number) in enumerate(said[:3])])
    await store(columnar, [verdict(1, 3, None, 1.0, value='{"a": 1}')])
    found = await columnar.query(
        "SELECT experiment_id, category, estimate, low, high, verdicts FROM quality"
        " WHERE period = 'all' AND segment = '' ORDER BY experiment_id, category"
    )
    assert [tuple(row.values()) for row in found] == [
        (1, "", pytest.approx(2 / 3), pytest.approx(2 / 3), pytest.approx(2 / 3), 3),
        (1, "no", 0.25, 0.25, 0.25, 4),
        (1, "unsure", 0.25, 0.25, 0.25, 4),
        (1, "yes", 0.5, 0.5, 0.5, 4),
        (2, "", pytest.approx(2 / 3), pytest.approx(2 / 3), pytest.approx(2 / 3), 3),
        (3, "", None, None, None, 0),
    ]


async def test_a_thousand_words_are_fifty_rows(columnar: Columnar) -> None:
    await store(columnar, [verdict(number, 1, None, 0.5, value=f"word {number:04}") for number in range(1000)])
    await store(columnar, [verdict(number, 1, None, 0.5, value="usual") for number in range(1000, 1010)])
    found = await columnar.query(
        "SELECT category, estimate FROM quality WHERE period = 'all' AND segment = '' ORDER BY estimate DESC"
    )
    assert len(found) == 50
    assert found[0] == {"category": "usual", "estimate": pytest.approx(10 / 1010)}


async def test_the_numbers_are_those_of_the_formulas(columnar: Columnar) -> None:
    """Worked by hand: values 1, 2, 4 with the chances 0.5, 0.25, 0.25."""
    await store(
        columnar,
        [verdict(number, 1, value, q) for number, (value, q) in enumerate([(1, 0.5), (2, 0.25), (4, 0.25)])],
    )
    [row] = (await estimates(columnar)).values()
    mean = (2 * 1 + 4 * 2 + 4 * 4) / 10
    scatter = (2 * (1 - mean) ** 2 + 12 * (2 - mean) ** 2 + 12 * (4 - mean) ** 2) * 3 / 2
    assert (2 + 12 + 12) ** 2 / (2**2 + 12**2 + 12**2) - 1 == pytest.approx(1.315, abs=1e-3)  # nearer to 1 than to 2
    assert row["estimate"] == pytest.approx(mean)
    assert row["high"] - mean == pytest.approx(12.706204736432095 * math.sqrt(scatter) / 10)
    assert mean - row["low"] == pytest.approx(row["high"] - mean)
    assert (row["verdicts"], row["estimated_targets"]) == (3, 10)


async def test_what_was_scored_whole_is_known_exactly(columnar: Columnar) -> None:
    await store(columnar, [verdict(number, 1, number % 2, 1.0) for number in range(10)])
    [row] = (await estimates(columnar)).values()
    assert (row["estimate"], row["low"], row["high"]) == (0.5, 0.5, 0.5)


async def test_a_handful_of_equal_verdicts_is_no_certainty(columnar: Columnar) -> None:
    await store(columnar, [verdict(number, 1, 1, 0.01) for number in range(5)])
    await store(columnar, [verdict(number, 2, 3, 0.01) for number in range(5)])
    await store(columnar, [verdict(1, 3, 3, 0.01)])
    found = await estimates(columnar)
    assert found[1]["estimate"] == found[1]["high"] == 1
    assert found[1]["low"] < 0.6
    assert (found[2]["estimate"], found[2]["low"], found[2]["high"]) == (3, None, None)
    assert (found[3]["estimate"], found[3]["low"], found[3]["high"]) == (3, None, None)


async def test_errors_and_what_is_not_valid_are_left_out_and_counted(columnar: Columnar) -> None:
    await store(
        columnar,
        [
            verdict(1, 1, 1, 0.5),
            verdict(2, 1, None, 0.5, error="TIMEOUT", error_code="TIMEOUT"),
            verdict(3, 1, 0, 0.5, valid=0),
            verdict(4, 2, None, 0.5, error="TIMEOUT", error_code="TIMEOUT"),
        ],
    )
    found = await estimates(columnar)
    assert (found[1]["verdicts"], found[1]["failed"], found[1]["estimate"]) == (1, 1, 1)
    assert (found[2]["verdicts"], found[2]["failed"], found[2]["estimate"]) == (0, 1, None)


async def test_sampling_at_the_source_multiplies_into_the_weight(columnar: Columnar) -> None:
    known = {"head_probability": "0.1"}
    await store(columnar, [verdict(1, 1, 1, 0.5, metadata=known), verdict(2, 1, 0, 0.5, metadata=known)])
    await store(columnar, [verdict(1, 2, 1, 0.5), verdict(2, 2, 0, 0.5)])
    found = await estimates(columnar)
    assert found[1]["estimated_targets"] == pytest.approx(40)
    assert (found[2]["estimated_targets"], found[1]["unknown_weight"], found[2]["unknown_weight"]) == (4, 0, 2)


async def test_hours_days_and_segments_are_rows_of_their_own(columnar: Columnar) -> None:
    later = {"target_seen_ns": (1795861800 + 3600) * 10**9}
    await store(
        columnar,
        [verdict(1, 1, 1, 0.5, metadata={"stratum": "failed"}), verdict(2, 1, 0, 0.5, **later)],
    )
    rows = await columnar.query("SELECT period, segment, verdicts FROM quality ORDER BY period, since, segment")
    assert [tuple(row.values()) for row in rows] == [
        ("all", "", 2), ("all", "failed", 1), ("day", "", 2), ("day", "failed", 1),
        ("hour", "", 1), ("hour", "failed", 1), ("hour", "", 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("trace_state", "probability"),
    [
        ("ot=th:0", 1.0),
        ("ot=th:8", 0.5),
        ("vendor=x,ot=rv:1234;th:c", 0.25),
        ("ot=th:fd70a4", 1 / 100.0001),
        ("ot=th:e666", 1 / 9.9994),
        ("", None),
        ("ot=rv:1234", None),
        ("ot=th:", None),
        ("ot=th:xyz", None),
        ("ot=th:123456789abcdef", None),
        ("other=th:8", None),
    ],
)
def test_the_chance_at_the_source_is_read_from_the_trace_state(trace_state: str, probability: float | None) -> None:
    assert head.probability(trace_state) == (None if probability is None else pytest.approx(probability, rel=1e-5))
