"""Correcting the costs of stored spans, and their traces, while spans arrive."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from support.engines import Stores
from support.faulty_columnar import BreakingColumnar, PickyColumnar
from support.telemetry import export_request, otlp_span, store
from tracestone.collector.rewrite.kinds import KINDS, parameters
from tracestone.collector.rewrite.runner import Runner
from tracestone.schema.errors import Invalid, StorageDown
from tracestone.schema.prices.price import ALWAYS, Price
from tracestone.schema.stores.outbox import Outbox
from tracestone.schema.stores.prices import PriceStore
from tracestone.schema.stores.rewrites import Rewrite, RewriteStore
from tracestone.schema.stores.spans import SpanStore

START = 1_790_000_000_000_000_000
DAY = 86_400 * 1_000_000_000


@pytest_asyncio.fixture
async def stores(kept_stores: Stores) -> AsyncIterator[Stores]:
    """Stores without spans, prices of people and rewrites."""
    yield kept_stores
    pool, columnar = kept_stores
    for table in ("span_rows", "trace_rows", "trace_slices", "trace_touches"):
        await columnar.command(f"TRUNCATE TABLE {table}")
    await pool.execute("DELETE FROM tracestone.rewrites")
    for price in await PriceStore(pool).all():
        await PriceStore(pool).remove(
            price.scope, price.experiment_id, price.provider, price.model, price.effective_from
        )
    while await Outbox(pool, columnar).deliver(1000):
        pass


async def _price(stores: Stores, model: str, usd: float, **more: Any) -> None:
    """A price of input, per token."""
    pool, columnar = stores
    given = {"prices": {"input": usd * 1e6, "output": 0.0}, "scope": "deployment", **more}
    await PriceStore(pool).set([Price("acme", model, **given)])
    while await Outbox(pool, columnar).deliver(1000):
        pass


def _span(
    trace: int, span: int = 1, parent: int = 0, *, at: int = 0, model: str = "m", tokens: int = 10, **attributes: Any
) -> Span:
    given = {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "acme", "gen_ai.request.model": model,
        "gen_ai.usage.input_tokens": tokens, "gen_ai.usage.output_tokens": 1, **attributes,
    }  # fmt: skip
    return otlp_span(trace, span, parent, start_ns=START + at, attributes=given)


async def _call(
    stores: Stores, trace: int, span: int = 1, parent: int = 0, *, experiment: int = 1, **more: Any
) -> None:
    request = export_request(_span(trace, span, parent, **more))
    await store(SpanStore(stores[1]), request, experiment)


async def _reprice(stores: Stores, *, step_spans: int = 50_000, **what: Any) -> Rewrite:
    pool, columnar = stores
    rewrites = RewriteStore(pool)
    asked = await rewrites.add("reprice", parameters(**what))
    await Runner(pool, columnar, KINDS, step_spans).work()
    return await rewrites.get(asked.rewrite_id)


async def _costs(stores: Stores) -> dict[tuple[str, str], tuple[float | None, str]]:
    """Cost and its source by the numbers of trace and span, read as merges leave them."""
    rows = await stores[1].query(
        "SELECT trace_id, span_id, cost_total, cost_source FROM span_rows FINAL ORDER BY trace_id, span_id"
    )
    return {
        (row["trace_id"].lstrip("0"), row["span_id"].lstrip("0")): (row["cost_total"], row["cost_source"])
        for row in rows
    }


async def _trace_costs(stores: Stores) -> dict[str, float | None]:
    rows = await stores[1].query("SELECT trace_id, cost_total FROM traces ORDER BY trace_id")
    return {row["trace_id"].lstrip("0"): row["cost_total"] for row in rows}


async def test_history_follows_a_price_that_is_corrected(stores: Stores) -> None:
    await _call(stores, 1)
    await _call(stores, 1, 2, 1, tokens=100)
    await _call(stores, 2, model="nobody-knows")
    assert await _costs(stores) == {
        ("1", "1"): (None, "unknown"),
        ("1", "2"): (None, "unknown"),
        ("2", "1"): (None, "unknown"),
    }
    await _price(stores, "m", 0.5)
    done = await _reprice(stores)
    assert (done.state, done.spans_changed, done.spans_done, done.error) == ("done", 2, done.spans_total, "")
    assert await _costs(stores) == {
        ("1", "1"): (5.0, "computed"),
        ("1", "2"): (50.0, "computed"),
        ("2", "1"): (None, "unknown"),
    }
    # A parent that repeats its child's usage is counted once, as ever.
    assert await _trace_costs(stores) == {"1": 50.0, "2": None}
    await _price(stores, "m", 0.25)
    await _reprice(stores)
    assert await _trace_costs(stores) == {"1": 25.0, "2": None}
    await stores[1].command("OPTIMIZE TABLE span_rows FINAL")
    assert (await _costs(stores))["1", "2"] == (25.0, "computed")


async def test_what_arrives_is_priced_at_once(stores: Stores) -> None:
    await _price(stores, "m", 0.5)
    await _call(stores, 1)
    assert await _costs(stores) == {("1", "1"): (5.0, "computed")}
    assert await _trace_costs(stores) == {"1": 5.0}


async def test_audio_is_priced_as_such_at_once_and_later(stores: Stores) -> None:
    audio = {"gen_ai.usage.audio.input_tokens": 4}
    await _price(stores, "m", 0.5, prices={"input": 0.5e6, "output": 0.0, "input_audio": 1e6})
    await _call(stores, 1, **audio)
    assert await _costs(stores) == {("1", "1"): (7.0, "computed")}
    await _price(stores, "m", 0.5, prices={"input": 0.5e6, "output": 0.0, "input_audio": 2e6})
    await _reprice(stores)
    assert await _costs(stores) == {("1", "1"): (11.0, "computed")}


async def test_a_second_time_nothing_changes(stores: Stores) -> None:
    await _call(stores, 1)
    await _price(stores, "m", 0.5)
    assert (await _reprice(stores)).spans_changed == 1
    assert (await _reprice(stores)).spans_changed == 0


async def test_a_row_names_its_price_the_same_at_once_and_later(stores: Stores) -> None:
    await _call(stores, 1)
    await _call(stores, 2, **{"gen_ai.usage.cost": 0.125, "llm.cost.total": 0.125})
    await _price(stores, "m", 0.5)
    await _reprice(stores)
    await _call(stores, 3)
    rows = await stores[1].query("SELECT toUInt8(trace_id) AS trace, price_id FROM span_rows FINAL ORDER BY trace")
    later, reported, at_once = (row["price_id"] for row in rows)
    assert later == at_once != 0
    assert reported == 0


async def test_a_price_that_is_gone_leaves_its_cost_unknown(stores: Stores) -> None:
    await _call(stores, 1)
    await _price(stores, "m", 0.5)
    await _reprice(stores)
    await PriceStore(stores[0]).remove("deployment", 0, "acme", "m", ALWAYS)
    await Outbox(*stores).deliver(1000)
    await _reprice(stores)
    assert await _costs(stores) == {("1", "1"): (None, "unknown")}
    assert await _trace_costs(stores) == {"1": None}


async def test_a_reported_cost_is_never_touched(stores: Stores) -> None:
    await _call(stores, 1, **{"gen_ai.usage.cost": 0.125, "llm.cost.total": 0.125})
    await _call(stores, 2)
    await _price(stores, "m", 0.5)
    await _reprice(stores)
    costs = await _costs(stores)
    assert costs["1", "1"][0] == 0.125
    assert costs["2", "1"] == (5.0, "computed")


async def test_the_rest_of_a_span_stays_as_it_is(stores: Stores) -> None:
    await _call(stores, 1, **{"my.key": "x" * 1000, "my.number": 7, "session.id": "s"})
    await _price(stores, "m", 0.5)
    everything = "SELECT * EXCEPT (cost_input, cost_output, cost_total, cost_source, price_id) FROM span_rows FINAL"
    before = await stores[1].query(everything)
    await _reprice(stores)
    assert (await _costs(stores))["1", "1"] == (5.0, "computed")
    assert await stores[1].query(everything) == before


async def test_what_arrives_later_wins(stores: Stores) -> None:
    await _call(stores, 1, tokens=10)
    await _price(stores, "m", 0.5)
    await _reprice(stores)
    assert await _costs(stores) == {("1", "1"): (5.0, "computed")}
    await _call(stores, 1, tokens=30)
    (row,) = await stores[1].query("SELECT input_tokens FROM span_rows FINAL")
    assert row["input_tokens"] == 30
    assert await _costs(stores) == {("1", "1"): (15.0, "computed")}
    assert await _trace_costs(stores) == {"1": 15.0}


async def test_what_arrives_while_a_step_is_rewritten_wins(stores: Stores, chdb_url: str) -> None:
    """The later version is there before the rewritten earlier one is inserted."""
    await _call(stores, 1, tokens=10)
    await stores[1].command("CREATE TABLE kept AS span_rows ENGINE = MergeTree ORDER BY trace_id")
    try:
        await stores[1].command("INSERT INTO kept SELECT * REPLACE (5.0 AS cost_total) FROM span_rows FINAL")
        await _call(stores, 1, tokens=30)
        await stores[1].command("INSERT INTO span_rows SELECT * FROM kept")
    finally:
        await stores[1].command("DROP TABLE kept SYNC")
    (row,) = await stores[1].query("SELECT input_tokens, cost_total FROM span_rows FINAL")
    assert (row["input_tokens"], row["cost_total"]) == (30, None)


async def test_only_what_is_asked_for(stores: Stores) -> None:
    for trace, where in enumerate(({}, {"experiment": 2}, {"at": DAY}, {"at": 2 * DAY}, {"model": "other"}), start=1):
        await _call(stores, trace, **where)
    await _price(stores, "m", 0.5)
    await _price(stores, "other", 0.5)

    async def priced() -> set[str]:
        return {trace for (trace, _), (_, source) in (await _costs(stores)).items() if source == "computed"}

    await _reprice(stores, experiment=2)
    assert await priced() == {"2"}
    await _reprice(stores, model="other")
    assert await priced() == {"2", "5"}
    # the second moment is not part of it
    day = "2026-09-22T13:46:40"
    await _reprice(stores, since=day, until="2026-09-23T13:46:40")
    assert await priced() == {"3", "2", "5"}
    await _reprice(stores, until=day)
    assert await priced() == {"1", "3", "2", "5"}


@pytest.mark.parametrize("refused", ["INSERT INTO trace_rows", "INSERT INTO span_rows"])
async def test_it_goes_on_where_it_broke_off(stores: Stores, chdb_url: str, refused: str) -> None:
    """The traces of a step that had been written, but not computed, are computed by whoever goes on."""
    for experiment, traces in ((1, range(1, 21)), (2, range(21, 31))):
        spans = [_span(trace, at=trace * 60_000_000_000) for trace in traces]
        await store(SpanStore(stores[1]), export_request(*spans), experiment)
    await _price(stores, "m", 0.5)
    pool, columnar = stores
    breaking = BreakingColumnar(chdb_url, database=columnar.database)
    await breaking.open()
    rewrites = RewriteStore(pool)
    asked = await rewrites.add("reprice", parameters())
    try:
        for survives in (2, 0, 1):
            breaking.statement, breaking.left = refused, survives
            with pytest.raises(StorageDown):
                await Runner(pool, breaking, KINDS, 4).work()
    finally:
        await breaking.close()
    broken_off = await rewrites.get(asked.rewrite_id)
    assert broken_off.state == "running"
    assert 0 < broken_off.spans_done < 30
    assert (await rewrites.add("reprice", parameters())).rewrite_id == asked.rewrite_id
    done = await _reprice(stores, step_spans=4)
    assert (done.rewrite_id, done.state, done.spans_done, done.spans_total) == (asked.rewrite_id, "done", 30, 30)
    assert await _trace_costs(stores) == {f"{trace:x}": 5.0 for trace in range(1, 31)}
    assert set((await _costs(stores)).values()) == {(5.0, "computed")}


async def test_a_cancelled_one_stops(stores: Stores) -> None:
    pool, columnar = stores
    await _call(stores, 1)
    await _price(stores, "m", 0.5)
    rewrites = RewriteStore(pool)
    asked = await rewrites.add("reprice", parameters())
    await rewrites.cancel(asked.rewrite_id)
    await Runner(pool, columnar, KINDS).work()
    assert (await rewrites.get(asked.rewrite_id)).state == "cancelled"
    assert (await _costs(stores))["1", "1"] == (None, "unknown")
    assert await rewrites.latest(10) == [await rewrites.get(asked.rewrite_id)]


async def test_one_at_a_time(stores: Stores) -> None:
    pool, columnar = stores
    await _call(stores, 1)
    rewrites = RewriteStore(pool)
    asked = await rewrites.add("reprice", parameters())
    async with rewrites.alone() as alone:
        assert alone
        await Runner(pool, columnar, KINDS).work()
        assert (await rewrites.get(asked.rewrite_id)).state == "waiting"
    await Runner(pool, columnar, KINDS).work()
    assert (await rewrites.get(asked.rewrite_id)).state == "done"


async def test_what_clickhouse_refuses_is_told(stores: Stores, chdb_url: str) -> None:
    pool, columnar = stores
    await _call(stores, 1)
    await _price(stores, "m", 0.5)
    picky = PickyColumnar(chdb_url, database=columnar.database)
    await picky.open()
    picky.refuses_statement = lambda sql, parameters: 241 if "INSERT INTO span_rows" in sql else None
    rewrites = RewriteStore(pool)
    asked = await rewrites.add("reprice", parameters())
    try:
        await Runner(pool, picky, KINDS).work()
    finally:
        await picky.close()
    failed = await rewrites.get(asked.rewrite_id)
    assert failed.state == "failed"
    assert "241" in failed.error


@pytest.mark.parametrize(("since", "until"), [("yesterday", None), (None, "soon"), ("2026-01-02", "2026-01-02")])
def test_times_that_are_none(since: str | None, until: str | None) -> None:
    with pytest.raises(Invalid, match="--from|--to"):
        parameters(since=since, until=until)


async def test_unknown_models_are_listed(stores: Stores) -> None:
    await _call(stores, 1, model="mystery", tokens=7)
    await _call(stores, 2, model="mystery", tokens=5, at=DAY)
    await _call(stores, 3, model="gpt-4o", **{"gen_ai.provider.name": "openai"})
    await _reprice(stores)
    (row,) = await stores[1].query(
        "SELECT * EXCEPT (first_seen, last_seen), last_seen - first_seen AS apart FROM unknown_models"
    )
    assert (row["experiment_id"], row["provider"], row["model"], row["spans"]) == (1, "acme", "mystery", 2)
    assert (row["input_tokens"], row["output_tokens"]) == (12, 2)
    await _price(stores, "mystery", 0.5)
    await _reprice(stores)
    assert await stores[1].query("SELECT * FROM unknown_models") == []
