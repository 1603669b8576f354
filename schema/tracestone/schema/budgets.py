"""What a budget is: a cap in USD or tokens for a calendar day, week or month in UTC, and whom it caps.

A week begins on Monday. A budget with neither scorer nor experiment caps the deployment; one with both caps that scorer
in that experiment. A call must fit into every budget that it falls under.
"""

import math
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Unit = Literal["usd", "tokens"]
Period = Literal["day", "week", "month"]
Why = Literal["spent", "reserved", "too_large", "unpriced"]

_MOST = 1e12
_Cap = Annotated[float, Field(ge=0, le=_MOST, allow_inf_nan=False)]


class BudgetRequest(BaseModel):
    """What a person says of a budget: one of `usd` and `tokens`, the period, and whom it caps."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    usd: _Cap | None = None
    tokens: Annotated[int, Field(ge=0, le=_MOST)] | None = None
    per: Period
    scorer: str | None = None
    experiment: int | str | None = None

    @model_validator(mode="after")
    def _one_cap(self) -> "BudgetRequest":
        if (self.usd is None) == (self.tokens is None):
            raise ValueError("needs usd or tokens, one of them")
        return self

    @property
    def unit(self) -> Unit:
        """What is capped."""
        return "tokens" if self.usd is None else "usd"

    @property
    def cap(self) -> float:
        """The cap, in its unit."""
        return float(self.tokens or 0) if self.usd is None else self.usd


@dataclass(frozen=True)
class Budget:
    """A stored budget; `scorer` "" and `experiment_id` None stand for every one."""

    budget_id: int
    scorer: str
    experiment_id: int | None
    unit: Unit
    period: Period
    cap: float

    def __str__(self) -> str:
        """Such as: budget 3, 5 USD per day for the scorer polite in experiment 7."""
        cap = f"{self.cap:g} USD" if self.unit == "usd" else f"{self.cap:,.0f} tokens"
        whom = f" for the scorer {self.scorer}" if self.scorer else ""
        where = f" in experiment {self.experiment_id}" if self.experiment_id is not None else ""
        return f"budget {self.budget_id}, {cap} per {self.period}{whom}{where}"


@dataclass(frozen=True)
class BudgetState:
    """A budget in its current period, at the moment `at`, in its unit.

    `recent` was spent in the last `recent_seconds`, at most six hours. `waiting` counts jobs that wait for it.
    """

    budget: Budget
    starts: date
    ends: datetime
    at: datetime
    spent: float
    reserved: float
    recent: float
    recent_seconds: float
    waiting: int

    @property
    def left(self) -> float:
        """What may still be reserved."""
        return max(0.0, self.budget.cap - self.spent - self.reserved)

    @property
    def ends_at_this_rate(self) -> datetime | None:
        """When the budget will be spent at the rate of the last hours; None when it lasts until the period ends."""
        unspent = self.budget.cap - self.spent
        if unspent <= 0:
            return self.at
        if self.recent <= 0 or self.recent_seconds <= 0:
            return None
        seconds = unspent * self.recent_seconds / self.recent
        if not math.isfinite(seconds) or seconds >= (self.ends - self.at).total_seconds():
            return None
        return self.at + timedelta(seconds=seconds)


@dataclass(frozen=True)
class Refusal:
    """A call that has to wait: for which budget, why, and until when.

    `needed` is the most it may cost in the budget's unit; `seen` numbers the state of all budgets that refused it.
    """

    budget_id: int
    why: Why
    needed: float | None
    resumes_at: datetime
    seen: int
