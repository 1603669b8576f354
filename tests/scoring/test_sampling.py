"""Which traces are chosen: deterministic, nested, with the probability that is stored."""

import math
import struct

import pytest

from support.stored_traces import Row, numbered, store
from tracestone.schema.engines.columnar import Columnar, StatementFailed
from tracestone.schema.sampling.rates import probability, threshold
from tracestone.schema.scorers.online import OnlineConfig
from tracestone.schema.stores.jobs import Cursor, Look
from tracestone.scoring.sample import Sampler, Window

COUNT = 5000


def config(rate: float = 1.0, *, experiment: int | None = None, filter: str = "", salt: str = "") -> OnlineConfig:
    return OnlineConfig(1, "x", None, experiment, rate, filter, salt)


async def chosen(
    columnar: Columnar,
    of: OnlineConfig,
    *,
    look: Look = "prompt",
    settle_ms: int = 1000,
    age_ms: int = 3_600_000,
    left_out: list[int] | None = None,
    page: int = 1000,
) -> list[str]:
    """All chosen ids of the last day, page by page, in order."""
    sampler = Sampler(columnar, settle_ms=settle_ms, max_trace_age_ms=age_ms, page=page)
    until = await sampler.now_ns()
    cursor, found, more = Cursor(until - 86_400 * 10**9), [], True
    while more:
        answer = await sampler.choose(of, Window(cursor, until, look, tuple(left_out or [])))
        found += [target.trace_id for target in answer.targets]
        assert answer.cursor > cursor
        cursor, more = answer.cursor, answer.more
    assert len(found) == len(set(found))
    return found


def sip_hash_64(data: bytes) -> int:
    """SipHash-2-4 with a zero key, written from its paper: what any other implementation must agree with."""
    mask = 2**64 - 1
    v = [0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573]

    def turn(word: int, bits: int) -> int:
        return ((word << bits) | (word >> (64 - bits))) & mask

    def rounds(count: int) -> None:
        for _ in range(count):
            v[0] = (v[0] + v[1]) & mask
            v[2] = (v[2] + v[3]) & mask
            v[1], v[3] = turn(v[1], 13) ^ v[0], turn(v[3], 16) ^ v[2]
            v[0] = turn(v[0], 32)
            v[2] = (v[2] + v[1]) & mask
            v[0] = (v[0] + v[3]) & mask
            v[1], v[3] = turn(v[1], 17) ^ v[2], turn(v[3], 21) ^ v[0]
            v[2] = turn(v[2], 32)

    padded = data + b"\0" * (7 - len(data) % 8) + bytes([len(data) % 256])
    for (word,) in struct.iter_unpack("<Q", padded):
        v[3] ^= word
        rounds(2)
        v[0] ^= word
    v[2] ^= 0xFF
    rounds(4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


async def test_sampling_follows_the_documented_hash_and_is_nested(columnar: Columnar) -> None:
    ids = [f"{number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128:032x}" for number in range(1, COUNT + 1)]
    await store(columnar, [Row(trace_id) for trace_id in ids])
    assert sorted(await chosen(columnar, config(1.0))) == sorted(ids)
    assert await chosen(columnar, config(0.0)) == []
    kept = {rate: set(await chosen(columnar, config(rate))) for rate in (0.001, 0.2, 0.5)}
    assert kept[0.001] <= kept[0.2] <= kept[0.5]
    for rate, found in kept.items():
        expected = {i for i in ids if sip_hash_64(b"\0" + i.encode()) >> 11 < threshold(rate)}
        assert found == expected
        # Six standard deviations: a fair hash misses this once in 500 million sets of ids.
        assert abs(len(found) - COUNT * rate) <= 6 * math.sqrt(COUNT * rate * (1 - rate)) + 1
    salted = set(await chosen(columnar, config(0.5, salt="other")))
    assert salted == {i for i in ids if sip_hash_64(b"other\0" + i.encode()) >> 11 < threshold(0.5)}
    # An independent half shares about half of the first one.
    assert abs(len(salted & kept[0.5]) - COUNT / 4) <= 6 * math.sqrt(COUNT * 0.25 * 0.75)


def test_the_probability_is_what_the_threshold_keeps() -> None:
    assert (threshold(0), threshold(1)) == (0, 2**53)
    assert (probability(1), probability(0.5), probability(0.2)) == (1.0, 0.5, pytest.approx(0.2, abs=1e-15))
    assert threshold(1e-300) == 1
    assert all(threshold(rate / 1000) < threshold((rate + 1) / 1000) for rate in range(1000))


async def test_only_finished_traces_are_chosen(columnar: Columnar) -> None:
    await store(
        columnar,
        [
            Row(numbered(1), seen_ago=10),
            Row(numbered(2), seen_ago=1, written_ago=1),
            Row(numbered(3), seen_ago=10, complete=False),
            Row(numbered(4), seen_ago=100, written_ago=100, complete=False),
        ],
    )
    assert await chosen(columnar, config(), settle_ms=5000, age_ms=60_000) == [numbered(1)]
    assert await chosen(columnar, config(), look="sweep", settle_ms=5000, age_ms=60_000) == [
        numbered(4),
        numbered(1),
    ]


async def test_a_trace_that_goes_on_is_finished_later(columnar: Columnar) -> None:
    await store(columnar, [Row(numbered(1), seen_ago=20, written_ago=20)])
    await store(columnar, [Row(numbered(1), seen_ago=2, written_ago=2)])
    assert await chosen(columnar, config(), settle_ms=5000) == []
    assert await chosen(columnar, config(), settle_ms=1000) == [numbered(1)]


async def test_a_trace_written_late_is_due_when_it_was_written(columnar: Columnar) -> None:
    """The receiver took it an hour ago, ClickHouse was away until now: no look may have passed it by."""
    sampler = Sampler(columnar, settle_ms=1000, max_trace_age_ms=3_600_000, grace_ms=0)
    looked = Cursor(await sampler.now_ns() - 5 * 10**9)
    await store(columnar, [Row(numbered(1), seen_ago=3600, written_ago=1)])
    answer = await sampler.choose(config(), Window(looked, await sampler.now_ns(), "prompt"))
    assert [target.trace_id for target in answer.targets] == [numbered(1)]


async def test_pages_follow_each_other_without_gap_or_overlap(columnar: Columnar) -> None:
    await store(columnar, [Row(numbered(number), seen_ago=10 + number % 7) for number in range(1, 300)])
    one = await chosen(columnar, config(), page=1000)
    many = await chosen(columnar, config(), page=7)
    assert many == one
    assert len(one) == 299


async def test_the_same_trace_id_in_two_experiments_is_two_targets(columnar: Columnar) -> None:
    rows = [Row(numbered(1), experiment_id=number) for number in (0, 1, 2)]
    await store(columnar, rows)
    sampler = Sampler(columnar, settle_ms=1000, max_trace_age_ms=3_600_000, page=1)
    until = await sampler.now_ns()
    answer = await sampler.choose(config(), Window(Cursor(until - 10**12), until, "prompt"))
    assert sorted(target.experiment_id for target in answer.targets) == [0, 1, 2]


async def test_a_configuration_keeps_to_its_experiment(columnar: Columnar) -> None:
    await store(columnar, [Row(numbered(number), experiment_id=number) for number in (0, 1, 2)])
    assert await chosen(columnar, config(experiment=1)) == [numbered(1)]
    assert await chosen(columnar, config(experiment=0)) == [numbered(0)]
    assert sorted(await chosen(columnar, config(), left_out=[1])) == [numbered(0), numbered(2)]


@pytest.mark.parametrize(
    ("filter", "numbers"),
    [
        ("state = 'ERROR'", [2]),
        ("duration_ns > 1e9", [3]),
        ("tags['tier'] = 'gold' OR match(input_preview, 'refund')", [3, 4]),
        ("cost_total > 1", []),
        ("has(models, 'x') OR true", [1, 2, 3, 4]),
    ],
)
async def test_the_filter_runs_inside_clickhouse(columnar: Columnar, filter: str, numbers: list[int]) -> None:
    await store(
        columnar,
        [
            Row(numbered(1)),
            Row(numbered(2), state="ERROR"),
            Row(numbered(3), duration_ms=2000, tags={"tier": "gold"}),
            Row(numbered(4), input="a refund, please"),
        ],
    )
    assert sorted(await chosen(columnar, config(filter=filter))) == [numbered(number) for number in numbers]


async def test_a_filter_that_fails_on_a_value_says_so(columnar: Columnar) -> None:
    await store(columnar, [Row(numbered(1), tags={"pattern": "("})])
    with pytest.raises(StatementFailed):
        await chosen(columnar, config(filter="match(root_name, tags['pattern'])"))
