"""Experiments: the projects that traces belong to."""

from dataclasses import dataclass, field
from typing import Literal

LifecycleStage = Literal["active", "deleted"]

DEFAULT_EXPERIMENT_ID = 0
MAX_EXPERIMENT_ID = 2**31 - 1
JUDGES_EXPERIMENT = "tracestone/judges"
JUDGES_EXPERIMENT_ID = MAX_EXPERIMENT_ID
"""Where the calls of judges are traces. It is never scored, whatever its name is changed to; hence a fixed number."""
MAX_NAME_CHARACTERS = 500
MAX_LOCATION_CHARACTERS = 2048
MAX_TAGS = 500
MAX_TAG_KEY_CHARACTERS = 250
MAX_TAG_VALUE_CHARACTERS = 20_000


@dataclass(frozen=True)
class Experiment:
    """One experiment. Times are milliseconds since the Unix epoch. Deleting one keeps it, and its traces."""

    experiment_id: int
    name: str
    lifecycle_stage: LifecycleStage
    artifact_location: str
    creation_time_ms: int
    last_update_time_ms: int
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ExperimentOrder:
    """One sort key of a search: `field` is name, experiment_id, creation_time or last_update_time."""

    field: str
    ascending: bool


def usable_name(name: str) -> str:
    """The experiment name that telemetry gets for the name it gave; "" when nothing usable is left.

    Telemetry is never refused for its name: what a name cannot hold is replaced, and a long one is cut.
    """
    return name.replace("\x00", "\ufffd").strip()[:MAX_NAME_CHARACTERS]
