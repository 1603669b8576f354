"""The form of a judge's answer: asked for as a JSON schema, checked by pydantic.

The rationale comes first unless the definition says otherwise: written before the value it is reasoning, written after
it an excuse.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from tracestone.schema.scorers.verdicts import (
    BoolVerdict,
    CategoryVerdict,
    NumberVerdict,
    StructVerdict,
    TextVerdict,
    VerdictSpec,
    value_type,
)

MAX_RATIONALE_CHARACTERS = 20_000
MAX_ANSWER_CHARACTERS = 200_000


class Answer(BaseModel):
    """A checked answer to one question."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    rationale: str = Field(max_length=MAX_RATIONALE_CHARACTERS)
    value: Any


class Unusable(Exception):
    """The answer is not a verdict; the message tells the judge what is wrong with it."""


@dataclass(frozen=True)
class Asked:
    """One question: its name ("" when it is the only one), what is asked, and which values answer it."""

    name: str
    ask: str
    verdict: VerdictSpec

    @cached_property
    def checked(self) -> type[Answer]:
        """An answer whose value is one of these. Making it takes pydantic longer than all the rest of a verdict."""
        return create_model("Verdict", __base__=Answer, value=(value_type(self.verdict), ...))


@dataclass(frozen=True)
class Form:
    """What a judge has to fill in: one question without a name, or several."""

    questions: tuple[Asked, ...]
    rationale: Literal["first", "last"] = "first"

    @property
    def single(self) -> bool:
        """Whether there is one question, whose answer is the whole document."""
        return not self.questions[0].name

    def response_format(self) -> dict[str, Any]:
        """The `response_format` of a chat completion that asks for it."""
        parts = {asked.name: self._schema(asked) for asked in self.questions}
        schema = parts[""] if self.single else _object(parts)
        return {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": schema}}

    def describe(self) -> str:
        """The document in words, for models without structured output."""
        keys = ['"rationale": "..."', '"value": ...']
        one = "{" + ", ".join(keys if self.rationale == "first" else keys[::-1]) + "}"
        if self.rationale == "first":
            how = "Write the rationale first, in a few sentences, then the value it leads to."
        else:
            how = "Write the value first, then the rationale, in a few sentences."
        if self.single:
            values = describe(self.questions[0].verdict)
            return f"Answer with one JSON object and nothing else: {one}. {how} The value is {values}."
        several = ", ".join(f'"{asked.name}": {one}' for asked in self.questions)
        lines = [f"- {asked.name}: {asked.ask} The value is {describe(asked.verdict)}." for asked in self.questions]
        return "\n".join(
            [f"Answer with one JSON object and nothing else: {{{several}}}. {how} The questions are", *lines]
        )

    def read(self, text: str) -> dict[str, Answer]:
        """The answers in a model's text, by name. Raises Unusable."""
        document = _document(text)
        if self.single:
            return {"": _answer(self.questions[0], document)}
        answers = {}
        for asked in self.questions:
            if asked.name not in document:
                raise Unusable(f"{asked.name} is missing")
            answers[asked.name] = _answer(asked, document[asked.name])
        return answers

    def write(self, answers: dict[str, Answer]) -> str:
        """The document with these answers, as an example for the judge."""
        parts = {name: self._written(answer) for name, answer in answers.items()}
        return json.dumps(parts[""] if self.single else parts, ensure_ascii=False)

    def _written(self, answer: Answer) -> dict[str, Any]:
        pair = {"rationale": answer.rationale, "value": answer.value}
        return pair if self.rationale == "first" else dict(reversed(pair.items()))

    def _schema(self, asked: Asked) -> dict[str, Any]:
        parts: dict[str, Any] = {
            "rationale": {"type": "string", "description": "Why, in a few sentences."},
            "value": _value_schema(asked.verdict),
        }
        return _object(parts if self.rationale == "first" else dict(reversed(parts.items())))


def describe(spec: VerdictSpec) -> str:
    """The allowed values in words."""
    if isinstance(spec, BoolVerdict):
        return "true or false"
    if isinstance(spec, CategoryVerdict):
        return "one of " + ", ".join(json.dumps(category, ensure_ascii=False) for category in spec.categories)
    if isinstance(spec, NumberVerdict):
        return f"a number from {spec.minimum:g} to {spec.maximum:g}"
    if isinstance(spec, TextVerdict):
        return f"a text of at most {spec.max_characters} characters"
    return "an object with " + "; ".join(f"{name}, {describe(part)}" for name, part in spec.fields.items())


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _value_schema(spec: VerdictSpec) -> dict[str, Any]:
    # Bounds go into the description: not every provider takes them in a strict schema. We check them all
    # the same.
    if isinstance(spec, BoolVerdict):
        return {"type": "boolean"}
    if isinstance(spec, CategoryVerdict):
        return {"type": "string", "enum": list(spec.categories)}
    if isinstance(spec, NumberVerdict):
        return {"type": "number", "description": describe(spec)}
    if isinstance(spec, StructVerdict):
        return _object({name: _value_schema(part) for name, part in spec.fields.items()})
    return {"type": "string", "description": describe(spec)}


def _answer(asked: Asked, document: Any) -> Answer:
    try:
        checked = asked.checked.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        path = ".".join(str(part) for part in (asked.name, *first["loc"]) if part != "") or "the answer"
        raise Unusable(f"{path}: {first['msg']}; value must be {describe(asked.verdict)}") from error
    return Answer(rationale=checked.rationale, value=checked.model_dump(mode="json")["value"])


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
