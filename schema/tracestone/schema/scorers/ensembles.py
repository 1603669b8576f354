"""Parameters of ensembles: several scorers, one verdict."""

from typing import Literal

from pydantic import Field, model_validator

from tracestone.schema.scorers.parameters import ANY_TARGET, Parameters


class Member(Parameters):
    """One version of a scorer."""

    name: str = Field(min_length=1, max_length=100)
    version: int = Field(ge=1)


class Ensemble(Parameters):
    """Several scorers of the same target, and how their verdicts become one.

    `quorum` is how many verdicts are enough where some members fail; all of them when it is not given. What the
    verdicts that are there decide already, whatever the others would say, is decided without it.
    """

    possible_targets = ANY_TARGET  # narrowed to what every member can score, when it is defined and configured

    combine: Literal["majority", "mean", "min", "max", "all", "any"]
    members: tuple[Member, ...] = Field(min_length=2, max_length=20)
    quorum: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _sensible(self) -> "Ensemble":
        if len(set(self.members)) != len(self.members):
            raise ValueError("two members are the same")
        if self.quorum is not None and self.quorum > len(self.members):
            raise ValueError("quorum is more than there are members")
        return self
