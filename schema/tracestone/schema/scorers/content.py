"""Parameters of the scorers that look for something in a text: refusals, personal data, the language."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from tracestone.schema.scorers.parameters import ANY_TARGET, Parameters
from tracestone.schema.scorers.text import Side

PiiType = Literal["email", "phone", "ssn", "credit_card", "iban", "ip_address"]
PII_TYPES: tuple[PiiType, ...] = ("email", "phone", "ssn", "credit_card", "iban", "ip_address")
RefusalLanguage = Literal["en", "de", "fr", "es", "it", "pt", "nl", "zh", "ja"]
REFUSAL_LANGUAGES: tuple[RefusalLanguage, ...] = ("en", "de", "fr", "es", "it", "pt", "nl", "zh", "ja")

LanguageCode = Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]


class Refusal(Parameters):
    """True when an output begins with the refusal of an answer, by the usual phrases and those in `phrases`.

    Only the first `within` characters are looked at; 0 looks at all of them. Of a session every output is read.
    """

    possible_targets = ANY_TARGET

    languages: tuple[RefusalLanguage, ...] = REFUSAL_LANGUAGES
    phrases: tuple[Annotated[str, Field(min_length=3, max_length=200)], ...] = Field((), max_length=500)
    within: int = Field(400, ge=0)

    @model_validator(mode="after")
    def _something(self) -> "Refusal":
        if not self.languages and not self.phrases:
            raise ValueError("needs languages, phrases or both")
        return self


class PiiDetection(Parameters):
    """True when no personal data of these types is found; MLflow's PIIDetection says "yes" to that.

    Of a session every text of the field is read.
    """

    possible_targets = ANY_TARGET

    pii_types: tuple[PiiType, ...] = Field(PII_TYPES, min_length=1)
    field: Side = "output"


class Language(Parameters):
    """The language as an ISO 639 code; with `expected` or `same_as_input`, whether it is the one that was wanted.

    A text whose language is less certain than `min_confidence` has none: an error where one was wanted, else "und".
    """

    expected: tuple[LanguageCode, ...] = Field((), max_length=200)
    same_as_input: bool = False
    min_confidence: float = Field(0.3, ge=0, le=1)
    field: Side = "output"

    @field_validator("expected")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(value))

    @model_validator(mode="after")
    def _one(self) -> "Language":
        if self.expected and self.same_as_input:
            raise ValueError("takes expected or same_as_input, not both")
        if self.same_as_input and self.field == "input":
            raise ValueError("same_as_input is about the output")
        return self
