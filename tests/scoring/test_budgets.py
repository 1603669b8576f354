"""The ledger of budgets: what is reserved, settled, let go, and who is told to wait for how long."""

import asyncio
from datetime import UTC, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from tracestone.schema.budgeting import BudgetSetup
from tracestone.schema.budgets import BudgetRequest, BudgetState, Refusal
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.errors import Invalid, NotFound, StorageDown
from tracestone.schema.scorers.definition import define
from tracestone.schema.stores.budgets import BudgetStore, Reserve, Settle
from tracestone.schema.stores.dead_jobs import DeadJobStore
from tracestone.schema.stores.experiments import ExperimentStore
from tracestone.schema.stores.jobs import Usage
from tracestone.schema.stores.scorers import ScorerStore
from tracestone.scoring import housekeeping
from tracestone.scoring.calls.account import Account
from tracestone.scoring.calls.ledger import Held, Ledger

ME = UUID(int=1)
LEDGER = "SELECT coalesce(sum(reserved), 0)::float8 FROM budget_periods"
ROWS = "SELECT coalesce(sum(amount), 0)::float8 FROM budget_reservations"


@pytest.fixture
def store(pool: Pool) -> BudgetStore:
    return BudgetStore(pool)


def call(usd: float | None = 0.1, *, scorer: str = "tone", experiment: int = 0, tokens: int = 100) -> Reserve:
    return Reserve(uuid4(), scorer, experiment, usd, tokens)


def paid(asked: Reserve, usd: float | None = 0.05, tokens: int | None = 50) -> Settle:
    return Settle(asked.reservation_id, asked.scorer, asked.experiment_id, 1, usd, tokens)


async def budget(store: BudgetStore, experiment: int | None = None, **fields: Any) -> int:
    request = BudgetRequest(**({"per": "day"} | fields))
    return (await store.set(request, experiment))[0].budget_id


async def refusals(store: BudgetStore, *calls: Reserve) -> list[Refusal | None]:
    found = await store.reserve(ME, 60, calls)
    return [found.get(each.reservation_id) for each in calls]


async def whys(store: BudgetStore, *calls: Reserve) -> list[str]:
    return ["" if refusal is None else refusal.why for refusal in await refusals(store, *calls)]


async def test_calls_fit_until_the_rest_is_reserved_and_again_after_it_settled(store: BudgetStore) -> None:
    number = await budget(store, usd=0.35)
    calls = [call() for _ in range(5)]
    assert await whys(store, *calls) == ["", "", "", "reserved", "reserved"]
    state = await store.state(number)
    assert (state.spent, state.reserved, state.left) == (0, pytest.approx(0.3), pytest.approx(0.05))
    await store.settle(uuid4(), [paid(each) for each in calls[:3]])
    state = await store.state(number)
    assert (state.spent, state.reserved, state.left) == (pytest.approx(0.15), 0, pytest.approx(0.2))
    assert await whys(store, *(call() for _ in range(3))) == ["", "", "reserved"]


async def test_a_smaller_call_fits_where_a_larger_does_not(store: BudgetStore) -> None:
    await budget(store, usd=1)
    assert await whys(store, call(0.9), call(0.2), call(0.1)) == ["", "reserved", ""]


@pytest.mark.parametrize(
    ("per", "starts", "ends"),
    [
        ("day", lambda now: now, lambda now: now + timedelta(days=1)),
        ("week", lambda now: now - timedelta(days=now.weekday()), lambda now: now + timedelta(days=7 - now.weekday())),
        (
            "month",
            lambda now: now.replace(day=1),
            lambda now: (now.replace(day=1) + timedelta(days=32)).replace(day=1),
        ),
    ],
)
async def test_a_spent_budget_says_when_its_period_ends(store: BudgetStore, per: str, starts: Any, ends: Any) -> None:
    number = await budget(store, tokens=150, per=per)
    first = call()
    assert await whys(store, first) == [""]
    await store.settle(uuid4(), [paid(first, tokens=100)])
    (refusal,) = await refusals(store, call())
    state = await store.state(number)
    midnight = state.at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    assert state.starts == starts(midnight).date()
    assert state.ends == ends(midnight)
    assert refusal is not None
    assert (refusal.why, refusal.needed, refusal.resumes_at) == ("spent", 100, state.ends)


async def test_a_new_period_begins_empty(store: BudgetStore, pool: Pool) -> None:
    number = await budget(store, usd=0.1)
    first, late = call(), call(0.04)
    assert await whys(store, first) == [""]
    await store.settle(uuid4(), [paid(first)])
    assert await whys(store, late) == [""]
    # A day goes by.
    await pool.execute("UPDATE budget_periods SET starts = starts - 1")
    await pool.execute("UPDATE budget_reservations SET starts = starts - 1")
    assert (await store.state(number)).left == pytest.approx(0.1)
    assert await whys(store, call()) == [""]
    # What was reserved before midnight is spent before midnight.
    await store.settle(uuid4(), [paid(late, 0.04)])
    state = await store.state(number)
    assert (state.spent, state.reserved) == (0, pytest.approx(0.1))


async def test_every_budget_of_a_call_must_have_room(store: BudgetStore) -> None:
    whole = await budget(store, usd=0.5)
    tone = await budget(store, usd=0.2, scorer="tone")
    there = await budget(store, 7, usd=0.1)
    tone_there = await budget(store, 7, tokens=50, scorer="tone")
    assert await whys(store, call(), call(), call()) == ["", "", "reserved"]
    assert await whys(store, call(scorer="other")) == [""]
    told = await refusals(store, call(experiment=7))
    assert told[0] is not None
    assert (told[0].budget_id, told[0].why) == (tone_there, "too_large")
    assert await whys(store, call(scorer="other", experiment=7), call(scorer="other", experiment=7)) == ["", "reserved"]
    left = {state.budget.budget_id: state.left for state in await store.states()}
    assert left == {whole: pytest.approx(0.1), tone: 0, there: 0, tone_there: 50}


async def test_what_may_cost_more_than_the_whole_cap_and_what_has_no_price(store: BudgetStore) -> None:
    assert await whys(store, call(None)) == [""]
    number = await budget(store, usd=1)
    assert await whys(store, call(2), call(None), call(1)) == ["too_large", "unpriced", ""]
    await store.remove(number)
    await budget(store, tokens=1000)
    assert await whys(store, call(None)) == [""]


async def test_a_settlement_counts_once_and_a_call_that_came_to_nothing_not_at_all(
    store: BudgetStore, pool: Pool
) -> None:
    number = await budget(store, usd=1)
    one, two, three = call(), call(), call()
    await refusals(store, one, two, three)
    settlement = uuid4()
    for _ in range(2):
        await store.settle(settlement, [paid(one), Settle(two.reservation_id, two.scorer, two.experiment_id)])
    state = await store.state(number)
    assert (state.spent, state.reserved) == (pytest.approx(0.05), pytest.approx(0.1))
    spending = await pool.fetch("SELECT scorer_name, experiment_id, calls, usd::float8, tokens::int FROM spending")
    assert [tuple(row) for row in spending] == [("tone", 0, 1, 0.05, 50)]


async def test_a_budget_counts_what_its_period_spent_before_it_was_set(store: BudgetStore, pool: Pool) -> None:
    await store.settle(uuid4(), [paid(call()), paid(call(experiment=7), 0.5), paid(call(scorer="other"), 2)])
    last_month = "SELECT hour - interval '32 days', scorer_name, experiment_id, calls, usd, tokens FROM spending"
    await pool.execute(f"INSERT INTO spending {last_month}")
    numbers = [
        await budget(store, usd=9, per="month"),
        await budget(store, usd=9, scorer="tone"),
        await budget(store, 7, tokens=9, per="week"),
    ]
    spent = [(await store.state(number)).spent for number in numbers]
    assert spent == [pytest.approx(2.55), pytest.approx(0.55), 50]


async def test_a_cap_that_is_set_again_keeps_what_was_spent(store: BudgetStore) -> None:
    number = await budget(store, usd=1)
    first = call()
    await refusals(store, first)
    await store.settle(uuid4(), [paid(first)])
    again, new = await store.set(BudgetRequest(usd=2, per="day"), None)
    assert (again.budget_id, new, (await store.state(number)).spent) == (number, False, pytest.approx(0.05))
    await store.remove(number)
    with pytest.raises(NotFound, match="There is no budget"):
        await store.remove(number)
    assert await whys(store, call(100)) == [""]


async def test_a_reservation_of_a_dead_process_expires_and_a_living_one_keeps_it(store: BudgetStore) -> None:
    number = await budget(store, usd=0.2)
    dead = Ledger(store, hold_seconds=0.3)
    living = Ledger(store, hold_seconds=0.3)
    stopping = asyncio.Event()
    keeping = asyncio.create_task(living.run(stopping))
    account = Account("tone", 0)
    held = [await ledger.reserve(account, 0.1, 10) for ledger in (dead, living)]
    assert all(isinstance(each, Held) for each in held)
    assert isinstance(await living.reserve(account, 0.1, 10), Refusal)
    await asyncio.sleep(0.5)
    assert (await store.state(number)).reserved == pytest.approx(0.1)
    assert isinstance(await living.reserve(account, 0.1, 10), Held)
    # It was no more than slow: what it cost counts all the same.
    assert isinstance(held[0], Held)
    await dead.settle(held[0], Usage(1, 0.04, 5, 5))
    state = await store.state(number)
    assert (state.spent, state.reserved) == (pytest.approx(0.04), pytest.approx(0.2))
    stopping.set()
    await keeping


async def test_many_processes_never_reserve_more_than_the_cap(store: BudgetStore, pool: Pool) -> None:
    """Overlapping budgets, reserved and settled from all sides: no deadlock, no overdraft, no drift."""
    numbers = [
        await budget(store, usd=1),
        await budget(store, usd=0.7, scorer="a"),
        await budget(store, 1, usd=0.6),
        await budget(store, 2, tokens=500, scorer="b"),
    ]
    over: list[BudgetState] = []
    stopping = asyncio.Event()

    async def watch() -> None:
        while not stopping.is_set():
            over.extend(
                state for state in await store.states() if state.spent + state.reserved > state.budget.cap + 1e-9
            )

    async def process(number: int) -> int:
        ledger, done = Ledger(store), 0
        for turn in range(6):
            account = Account("ab"[(number + turn) % 2], (number + turn) % 3)
            held = await ledger.reserve(account, 0.03, 30)
            if isinstance(held, Held):
                done += 1
                if turn % 3:
                    ledger.settle(held, Usage(1, 0.01, 5, 5))
                elif number % 2:
                    ledger.release(held)
        await ledger.close()
        return done

    watching = asyncio.create_task(watch())
    done = await asyncio.gather(*(process(number) for number in range(50)))
    stopping.set()
    await watching
    assert sum(done) > 20
    assert over == []
    assert len(numbers) == len(await store.states())
    sums = await pool.fetch(
        "SELECT reserved::float8, coalesce((SELECT sum(amount) FROM budget_reservations AS r"
        " WHERE r.budget_id = p.budget_id), 0)::float8 FROM budget_periods AS p"
    )
    assert sums
    for reserved, rows in sums:
        assert reserved == rows


async def test_what_was_spent_waits_for_postgres(store: BudgetStore, monkeypatch: pytest.MonkeyPatch) -> None:
    number = await budget(store, usd=1)
    ledger = Ledger(store)
    held = await ledger.reserve(Account("tone", 0), 0.1, 10)
    assert isinstance(held, Held)
    settle, failed = store.settle, 0

    async def away(settlement: UUID, calls: Any) -> None:
        nonlocal failed
        failed += 1
        if failed == 1:
            await settle(settlement, calls)  # the answer is lost
        if failed < 3:
            raise StorageDown("Postgres does not answer")
        await settle(settlement, calls)

    monkeypatch.setattr(store, "settle", away)
    monkeypatch.setattr("tracestone.scoring.calls.ledger._AGAIN_SECONDS", 0.01)
    # A call that did not tell what it cost is charged its bound.
    await ledger.settle(held, Usage(1, None, None, 3))
    assert failed == 3
    state = await store.state(number)
    assert (state.spent, state.reserved) == (pytest.approx(0.1), 0)


async def test_a_reservation_that_nobody_waits_for_any_more_is_let_go(store: BudgetStore) -> None:
    number = await budget(store, usd=1)
    ledger = Ledger(store)
    asking = asyncio.create_task(ledger.reserve(Account("tone", 0), 0.1, 10))
    while asking.done() is False and (await store.state(number)).reserved == 0:
        await asyncio.sleep(0)
        asking.cancel()
    await ledger.close()
    assert (await store.state(number)).reserved == 0


async def test_the_forecast_is_the_rate_of_the_last_hours(store: BudgetStore, pool: Pool) -> None:
    number = await budget(store, usd=100, per="month")
    assert (await store.state(number)).ends_at_this_rate is None
    await pool.execute(
        "INSERT INTO spending SELECT date_trunc('hour', now()) - make_interval(hours => h), 'tone', 0, 1, 5, 1"
        " FROM generate_series(0, 9) AS h"
    )
    state = await store.state(number)
    assert state.recent in (30, 25)  # whole hours of the last six
    assert 5 * 3600 - 3600 < state.recent_seconds <= 6 * 3600
    expected = state.at + timedelta(seconds=100 * state.recent_seconds / state.recent)
    assert state.ends_at_this_rate == (expected if expected < state.ends else None)
    await pool.execute("UPDATE budget_periods SET spent = 100")
    state = await store.state(number)
    assert state.ends_at_this_rate == state.at


@pytest.mark.parametrize(
    ("document", "field", "reason"),
    [
        ({"usd": 1}, "per", "Field required"),
        ({"usd": 1, "tokens": 1, "per": "day"}, "", "usd or tokens"),
        ({"per": "day"}, "", "usd or tokens"),
        ({"usd": -1, "per": "day"}, "usd", "greater than or equal"),
        ({"usd": float("nan"), "per": "day"}, "usd", "finite"),
        ({"usd": 1, "per": "year"}, "per", "'day', 'week' or 'month'"),
        ({"usd": 1, "per": "day", "scorer": "nobody"}, "scorer", "there is no scorer nobody"),
        ({"usd": 1, "per": "day", "experiment": 99}, "experiment", "there is no experiment 99"),
        ({"usd": 1, "per": "day", "cap": 3}, "cap", "not permitted"),
        ("5 USD", "", "must be an object"),
    ],
)
async def test_a_wrong_budget_is_refused(pool: Pool, document: Any, field: str, reason: str) -> None:
    setup = BudgetSetup(BudgetStore(pool), ScorerStore(pool), ExperimentStore(pool, 100))
    with pytest.raises(Invalid, match=reason) as refused:
        await setup.set(document)
    assert refused.value.field == field
    with pytest.raises(Invalid, match=reason) as refused:
        await setup.apply([document])
    assert refused.value.field == f"budgets.0.{field}".rstrip(".")


async def test_the_setting_is_safe_to_repeat_and_names_its_scope(pool: Pool) -> None:
    scorers = ScorerStore(pool)
    await scorers.define(define("tone", "error", {}))
    setup = BudgetSetup(BudgetStore(pool), scorers, ExperimentStore(pool, 100))
    documents = [
        {"usd": 5, "per": "day"},
        {"tokens": 1_000_000, "per": "week", "scorer": "tone", "experiment": "support"},
    ]
    for _ in range(2):
        await setup.apply(documents)
    told = [str(state.budget) for state in await setup.store.states()]
    assert told == [
        "budget 1, 5 USD per day",
        f"budget {told[1].split()[1].rstrip(',')}, 1,000,000 tokens per week for the scorer tone in experiment 1",
    ]


async def test_what_is_old_is_forgotten(store: BudgetStore, pool: Pool) -> None:
    number = await budget(store, usd=1)
    first = call()
    await refusals(store, first)
    await store.settle(uuid4(), [paid(first)])
    await pool.execute("INSERT INTO spending SELECT hour - interval '401 days', 'old', 0, 1, 1, 1 FROM spending")
    await pool.execute("INSERT INTO budget_periods VALUES ($1, now()::date - 401)", number)
    await pool.execute("INSERT INTO budget_settlements VALUES (gen_random_uuid(), now() - interval '2 days')")
    dead = "INSERT INTO scoring_dead_jobs (scorer_name, experiment_id, trace_id, code, message, job, died_at)"
    await pool.execute(
        f"{dead} SELECT 'tone', 0, 't', '', '', '{{}}', now() - make_interval(days => d) FROM unnest($1::int[]) d",
        [89, 91],
    )
    stopping = asyncio.Event()
    keeping = asyncio.create_task(housekeeping.run(stopping, [store.forget, DeadJobStore(pool).forget]))
    async with asyncio.timeout(30):
        while await pool.fetchval("SELECT count(*) FROM scoring_dead_jobs") > 1:
            await asyncio.sleep(0.02)
    stopping.set()
    await keeping
    for table in ("spending", "budget_periods", "budget_settlements"):
        assert await pool.fetchval(f"SELECT count(*) FROM {table}") == 1, table
