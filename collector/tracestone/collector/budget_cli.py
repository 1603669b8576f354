"""`tracestone budget`: what the commands do. Budgets are in Postgres; workers follow at their next call."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import click

from tracestone.collector.budgets_api import shown
from tracestone.collector.command_stores import postgres
from tracestone.schema.budgeting import BudgetSetup
from tracestone.schema.budgets import BudgetState, Unit
from tracestone.schema.settings import Settings
from tracestone.schema.stores.budgets import BudgetStore
from tracestone.schema.stores.experiments import ExperimentStore
from tracestone.schema.stores.scorers import ScorerStore

_COLUMNS = "{:>3}  {:24}  {:>10}  {:5}  {:>12}  {:>12}  {:>12}  {:>12}  {:16}  {:16}  {}"
_HEAD = ("NO", "SCORER", "EXPERIMENT", "PER", "CAP", "SPENT", "RESERVED", "LEFT", "PERIOD ENDS", "SPENT OUT", "WAITING")


async def show(settings: Settings, *, as_json: bool) -> None:
    """Prints all budgets as a table, or as JSON lines."""
    async with _setup(settings) as setup:
        states = await setup.store.states()
    if as_json:
        for state in states:
            click.echo(json.dumps(shown(state)))
        return
    click.echo(_COLUMNS.format(*_HEAD))
    for state in states:
        click.echo(_line(state).rstrip())


async def set_budget(settings: Settings, document: Mapping[str, Any]) -> None:
    """Sets one budget and prints it. Raises Invalid."""
    experiment = document.get("experiment")
    if isinstance(experiment, str) and experiment.isascii() and experiment.isdigit() and len(experiment) <= 9:
        document = {**document, "experiment": int(experiment)}
    async with _setup(settings) as setup:
        state, _ = await setup.set(dict(document))
    click.echo(json.dumps(shown(state)))


async def remove(settings: Settings, number: int) -> None:
    """Removes one budget. Raises NotFound."""
    async with _setup(settings) as setup:
        await setup.store.remove(number)
    click.echo("Removed.")


@asynccontextmanager
async def _setup(settings: Settings) -> AsyncIterator[BudgetSetup]:
    async with postgres(settings) as pool:
        experiments = ExperimentStore(pool, settings.max_experiments)
        yield BudgetSetup(BudgetStore(pool), ScorerStore(pool), experiments)


def _line(state: BudgetState) -> str:
    budget, out = state.budget, state.ends_at_this_rate
    amounts = (budget.cap, state.spent, state.reserved, state.left)
    return _COLUMNS.format(
        budget.budget_id,
        budget.scorer or "(all)",
        "(all)" if budget.experiment_id is None else budget.experiment_id,
        budget.period,
        *(_amount(amount, budget.unit) for amount in amounts),
        _minute(state.ends),
        "" if out is None else "now" if out == state.at else _minute(out),
        state.waiting or "",
    )


def _amount(amount: float, unit: Unit) -> str:
    return f"{amount:,.4f} USD" if unit == "usd" else f"{amount:,.0f} tok"


def _minute(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M")
