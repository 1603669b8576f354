"""How many calls of a model, or of all models of a provider, may be under way in one process."""

from pydantic import BaseModel, ConfigDict, Field, model_validator


class CallLimit(BaseModel):
    """`model` is a name as definitions of judges have it, `provider` what stands before its first slash."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = Field(None, min_length=1, max_length=200)
    provider: str | None = Field(None, min_length=1, max_length=100)
    in_flight: int = Field(ge=1, le=100_000)

    @model_validator(mode="after")
    def _one_of_both(self) -> "CallLimit":
        if (self.model is None) == (self.provider is None):
            raise ValueError("needs model or provider, one of them")
        return self
