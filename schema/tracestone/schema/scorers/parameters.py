"""What the parameters of every kind have in common, and how a document becomes a checked model."""

from typing import ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from tracestone.schema.assessments import TargetType
from tracestone.schema.errors import Invalid

Model = TypeVar("Model", bound=BaseModel)

ANY_TARGET: frozenset[TargetType] = frozenset({"span", "trace", "session"})
SPAN_OR_TRACE: frozenset[TargetType] = frozenset({"span", "trace"})


class Parameters(BaseModel):
    """Base of the parameter models: frozen, unknown keys refused.

    `targets` are the kinds of target that can be scored with them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    possible_targets: ClassVar[frozenset[TargetType]] = SPAN_OR_TRACE

    @property
    def targets(self) -> frozenset[TargetType]:
        """What can be scored with these parameters; a judge's instructions may narrow it."""
        return self.possible_targets

    @property
    def provider_address(self) -> str | None:
        """Where models are called with the keys of this process, when the definition names a place."""
        address: str | None = getattr(self, "api_base", None)
        return address


def checked(model: type[Model], value: object, field: str) -> Model:
    """The value as the model. Raises Invalid with the path of the first wrong field under `field`."""
    if not isinstance(value, dict):
        raise Invalid(field, "must be an object")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        path = ".".join(str(part) for part in (field, *first["loc"]) if part != "")
        raise Invalid(path, first["msg"].removeprefix("Value error, ")) from error
