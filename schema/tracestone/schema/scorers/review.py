"""Parameters of what is asked of people."""

from pydantic import Field

from tracestone.schema.scorers.parameters import ANY_TARGET, Parameters
from tracestone.schema.scorers.verdicts import BoolVerdict, PlainVerdict


class Review(Parameters):
    """A question to a person; its targets wait in the queue of reviews until somebody answers."""

    possible_targets = ANY_TARGET
    question: str = Field(min_length=1, max_length=5000)
    verdict: PlainVerdict = Field(BoolVerdict(type="bool"), discriminator="type")
