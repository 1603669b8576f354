"""Online configurations: which scorer is applied to which part of the live traffic."""

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tracestone.schema.assessments import TargetType

IDLE_SECONDS = 300.0
MAX_STRATA = 32


class Stratum(BaseModel):
    """A part of the targets with a rate of its own: those for which `filter` holds and that of no stratum before."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=100)
    filter: str = Field(min_length=1)
    sample_rate: float = Field(ge=0, le=1, allow_inf_nan=False)


@dataclass(frozen=True)
class OnlineConfig:
    """Applies a scorer to live traffic.

    `version` None means the latest when a target is chosen; `experiment_id` None means every experiment
    without a configuration of its own for this scorer. `filter` is an SQL condition over the table of the target
    ("" keeps everything). `sample_rate` holds where no stratum's filter does. A session is finished when nothing of it
    came for `idle_seconds`. Jobs of a higher `priority` come first. With `after`, the targets are those that the scorer
    of that name has judged, and filters may ask for its verdict; `after_version` None is the newest that judged.

    At most `concurrency` of its jobs run at once, over all workers. Of each value of the expression `fair_by` about
    `fair_per_hour` targets are chosen in an hour at most (`sampling.fairness`).
    """

    config_id: int
    scorer_name: str
    version: int | None
    experiment_id: int | None
    sample_rate: float
    filter: str
    salt: str
    last_error: str = ""
    target_type: TargetType = "trace"
    strata: tuple[Stratum, ...] = ()
    idle_seconds: float = IDLE_SECONDS
    priority: int = 0
    after: str = ""
    after_version: int | None = None
    concurrency: int | None = None
    fair_by: str = ""
    fair_per_hour: float | None = None

    @property
    def rates(self) -> tuple[float, ...]:
        """The rate of what is in no stratum, then that of each stratum."""
        return (self.sample_rate, *(stratum.sample_rate for stratum in self.strata))

    def stratum(self, number: int) -> str:
        """The name of a stratum by its place from 1; "" for 0, what is in none."""
        return self.strata[number - 1].name if number else ""


class OnlineRequest(BaseModel):
    """What a client says of an online configuration; `experiment` is an id, a name, or None for all.

    Without `target` a scorer is applied to traces, or if it cannot be to what it is made for. `after` names the scorer
    whose verdict decides.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    experiment: int | str | None = None
    version: int | None = Field(None, ge=1)
    sample_rate: float = Field(1.0, ge=0, le=1, allow_inf_nan=False)
    filter: str = ""
    salt: str = Field("", max_length=100)
    target: TargetType | None = None
    strata: tuple[Stratum, ...] = Field((), max_length=MAX_STRATA)
    idle_seconds: float = Field(IDLE_SECONDS, ge=0, le=30 * 86_400, allow_inf_nan=False)
    priority: int = Field(0, ge=-100, le=100)
    after: str = Field("", max_length=100)
    after_version: int | None = Field(None, ge=1)
    concurrency: int | None = Field(None, ge=1, le=100_000)
    fair_by: str = ""
    fair_per_hour: float | None = Field(None, gt=0, le=1e9, allow_inf_nan=False)

    @field_validator("strata")
    @classmethod
    def _distinct(cls, value: tuple[Stratum, ...]) -> tuple[Stratum, ...]:
        if len({stratum.name for stratum in value}) != len(value):
            raise ValueError("two strata have the same name")
        return value

    @model_validator(mode="after")
    def _agreeing(self) -> "OnlineRequest":
        if self.after_version is not None and not self.after:
            raise ValueError("after_version needs after")
        if bool(self.fair_by.strip()) != (self.fair_per_hour is not None):
            raise ValueError("fair_by and fair_per_hour need each other")
        if self.fair_by and self.after:
            raise ValueError("fair_by is for where sampling begins, not for what comes after a scorer")
        return self
