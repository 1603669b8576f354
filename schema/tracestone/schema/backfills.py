"""Backfills: a scorer applied to what is stored already."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from tracestone.schema.assessments import TargetType
from tracestone.schema.scorers.online import OnlineConfig

State = Literal["running", "paused", "done", "cancelled"]


class BackfillRequest(BaseModel):
    """What a client asks for: targets that began from `since` on and before `until`, in UTC unless told.

    `experiment` is an id, a name, or None for all; `version` None is the newest. With `per_minute`, at most about so
    many targets are taken up in a minute.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    scorer: str = Field(min_length=1, max_length=100)
    since: AwareDatetime
    until: AwareDatetime | None = None
    version: int | None = Field(None, ge=1)
    experiment: int | str | None = None
    target: TargetType | None = None
    filter: str = ""
    sample_rate: float = Field(1.0, gt=0, le=1, allow_inf_nan=False)
    salt: str = Field("", max_length=100)
    per_minute: int | None = Field(None, ge=1, le=1_000_000)

    @model_validator(mode="after")
    def _ordered(self) -> "BackfillRequest":
        if self.until is not None and self.until <= self.since:
            raise ValueError("until must be after since")
        if not datetime(1970, 1, 2, tzinfo=UTC) <= self.since < datetime(2200, 1, 1, tzinfo=UTC):
            raise ValueError("since must be between 1970 and 2200")
        return self


@dataclass(frozen=True)
class Backfill:
    """A stored backfill. `targets` is how many sampling chose when it was made, `chosen` how many were taken up.

    `enqueued` counts those of them that had no verdict of this version yet. Times are nanoseconds.
    """

    backfill_id: int
    config: OnlineConfig
    version: int
    from_ns: int
    to_ns: int
    per_minute: int | None
    targets: int
    state: State
    due_ns: int
    key: str
    chosen: int
    enqueued: int
    error: str
    created_at_ms: int


@dataclass(frozen=True)
class Estimate:
    """What a backfill, or a configuration over a past range, would come to.

    `found` targets are kept by the filter, `chosen` of them by sampling. Costs are those of the scorer's last
    `verdicts` on average; None when none of them has a known cost.
    """

    found: int
    chosen: int
    verdicts: int
    usd_each: float | None
    tokens_each: float | None

    @property
    def usd(self) -> float | None:
        """USD for all of them."""
        return None if self.usd_each is None else self.usd_each * self.chosen
