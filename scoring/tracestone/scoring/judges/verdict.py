"""The form of a judge's answer: asked for as a JSON schema, checked by pydantic. The rationale comes first.

Written before the value, the rationale is reasoning; written after it, an excuse.
"""

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError, create_model

from tracestone.schema.scorers.judges import BoolVerdict, CategoryVerdict, NumberVerdict, TextVerdict, VerdictSpec

MAX_RATIONALE_CHARACTERS = 20_000
MAX_ANSWER_CHARACTERS = 200_000


class Answer(BaseModel):
    """A checked answer of a judge."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    rationale: str = Field(max_length=MAX_RATIONALE_CHARACTERS)
    value: Any


class Unusable(Exception):
    """The answer is not a verdict; the message tells the judge what is wrong with it."""


def response_format(spec: VerdictSpec) -> dict[str, Any]:
    """The `response_format` of a chat completion that asks for this verdict."""
    return {
        "type": "json_schema",
        "json_schema": {
            "name": "verdict",
            "strict": True,
            "schema": {
                "type": "object",
                "properties": {
                    "rationale": {
                        "type": "string",
                        "description": "Why, in a few sentences; written before the value.",
                    },
                    "value": _value_schema(spec),
                },
                "required": ["rationale", "value"],
                "additionalProperties": False,
            },
        },
    }


def describe(spec: VerdictSpec) -> str:
    """The allowed values in words, for models without structured output."""
    if isinstance(spec, BoolVerdict):
        return "true or false"
    if isinstance(spec, CategoryVerdict):
        return "one of " + ", ".join(json.dumps(category, ensure_ascii=False) for category in spec.categories)
    if isinstance(spec, NumberVerdict):
        return f"a number from {spec.minimum:g} to {spec.maximum:g}"
    return f"a text of at most {spec.max_characters} characters"


def read(spec: VerdictSpec, text: str) -> Answer:
    """The answer in a model's text. Raises Unusable."""
    document = _document(text)
    try:
        return _model(spec).model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        path = ".".join(str(part) for part in first["loc"]) or "the answer"
        raise Unusable(f"{path}: {first['msg']}; value must be {describe(spec)}") from error


def _value_schema(spec: VerdictSpec) -> dict[str, Any]:
    # Bounds go into the description: not every provider takes them in a strict schema. We check them all
    # the same.
    if isinstance(spec, BoolVerdict):
        return {"type": "boolean"}
    if isinstance(spec, CategoryVerdict):
        return {"type": "string", "enum": list(spec.categories)}
    if isinstance(spec, NumberVerdict):
        return {"type": "number", "description": describe(spec)}
    return {"type": "string", "description": describe(spec)}


def _model(spec: VerdictSpec) -> type[Answer]:
    return create_model("Verdict", __base__=Answer, value=(_value_type(spec), ...))


def _value_type(spec: VerdictSpec) -> Any:
    if isinstance(spec, BoolVerdict):
        return StrictBool
    if isinstance(spec, CategoryVerdict):
        return Literal[spec.categories]
    if isinstance(spec, NumberVerdict):
        return Annotated[float, Field(ge=spec.minimum, le=spec.maximum, strict=True, allow_inf_nan=False)]
    if isinstance(spec, TextVerdict):
        return Annotated[str, Field(max_length=spec.max_characters)]
    raise TypeError(f"no such verdict: {type(spec).__name__}")


def _document(text: str) -> Any:
    """The JSON object in the text.

    Models without structured output like to wrap it in prose or a code fence.
    """
    if len(text) > MAX_ANSWER_CHARACTERS:
        raise Unusable(f"the answer is longer than {MAX_ANSWER_CHARACTERS} characters")
    start, end = text.find("{"), text.rfind("}")
    if start < 0 or end < start:
        raise Unusable("the answer holds no JSON object")
    try:
        return json.loads(text[start : end + 1])
    except (ValueError, RecursionError) as error:
        raise Unusable("the answer is not valid JSON") from error
