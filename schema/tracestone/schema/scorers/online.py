"""Online configurations: which scorer is applied to which part of the live traffic."""

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field


@dataclass(frozen=True)
class OnlineConfig:
    """Applies a scorer to live traffic.

    `version` None means the latest when a trace is chosen; `experiment_id` None means every experiment
    without a configuration of its own for this scorer. `filter` is an SQL condition over `traces` ("" keeps
    everything).
    """

    config_id: int
    scorer_name: str
    version: int | None
    experiment_id: int | None
    sample_rate: float
    filter: str
    salt: str
    last_error: str = ""


class OnlineRequest(BaseModel):
    """What a client says of an online configuration; `experiment` is an id, a name, or None for all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    experiment: int | str | None = None
    version: int | None = Field(None, ge=1)
    sample_rate: float = Field(1.0, ge=0, le=1, allow_inf_nan=False)
    filter: str = ""
    salt: str = Field("", max_length=100)
