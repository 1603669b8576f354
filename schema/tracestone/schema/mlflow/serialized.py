"""From a scorer as MLflow serialises it to a definition of ours: its built-in scorers and its instructions judges.

The prompts of built-in judges are ours; what MLflow sends along of its own is not used. Pure.
"""

import json
from collections.abc import Mapping
from typing import Any

from tracestone.schema.errors import Invalid
from tracestone.schema.scorers.builtin import BUILTINS

FIELD = "serialized_scorer"
_UNBOUNDED = 1e15


def definition(text: str) -> dict[str, Any]:
    """`kind` and `parameters` of a serialised scorer. Raises Invalid, naming `serialized_scorer`."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Invalid(FIELD, "is not valid JSON") from error
    if not isinstance(document, dict):
        raise Invalid(FIELD, "must be a JSON object")
    if isinstance(judge := document.get("instructions_judge_pydantic_data"), dict):
        return {"kind": "judge", "parameters": _judge(judge)}
    if isinstance(name := document.get("builtin_scorer_class"), str):
        data = document.get("builtin_scorer_pydantic_data")
        return _builtin(name, data if isinstance(data, dict) else {})
    if document.get("call_source"):
        raise Invalid(FIELD, "holds Python source; register it as a scorer of kind code through /api/v1/scorers")
    raise Invalid(FIELD, "is neither a built-in scorer nor a judge with instructions")


def _builtin(name: str, data: Mapping[str, Any]) -> dict[str, Any]:
    if name in BUILTINS:
        return {"kind": "builtin_judge", "parameters": _builtin_judge(name, data)}
    given = {key: value for key, value in data.items() if value is not None}
    if name == "RegexMatch":
        pattern = {"pattern": given.get("pattern", ""), "full": given.get("match_type") == "fullmatch"}
        return {"kind": "regex_match", "parameters": pattern | {"ignore_case": bool(given.get("case_insensitive"))}}
    if name == "ResponseLength":
        bounds = {"minimum": given.get("min_length"), "maximum": given.get("max_length")}
        unit = "words" if given.get("unit") == "words" else "characters"
        return {"kind": "response_length", "parameters": bounds | {"unit": unit}}
    if name == "PIIDetection":
        types = given.get("pii_types") or ["email", "phone", "ssn", "credit_card", "ip_address"]
        return {"kind": "pii_detection", "parameters": {"pii_types": types}}
    raise Invalid(FIELD, f"the built-in scorer {name[:100]} is not known; known: {', '.join(BUILTINS)}")


def _builtin_judge(name: str, data: Mapping[str, Any]) -> dict[str, Any]:
    parameters = _model(data) | {"judge": name}
    if BUILTINS[name].guidelines:
        parameters["guidelines"] = data.get("guidelines") or []
    if name == "ToolCallCorrectness":
        for flag in ("should_exact_match", "should_consider_ordering"):
            parameters[flag] = bool(data.get(flag))
    return parameters


def _judge(data: Mapping[str, Any]) -> dict[str, Any]:
    parameters = _model(data) | {"instructions": data.get("instructions", "")}
    wanted = data.get("feedback_value_type")
    parameters["verdict"] = _verdict(wanted if isinstance(wanted, dict) else {"type": "string"})
    if data.get("generate_rationale_first") is False:
        parameters["rationale"] = "last"
    return parameters


def _model(data: Mapping[str, Any]) -> dict[str, Any]:
    """Model and parameters; `provider:/name` is litellm's `provider/name`."""
    model = data.get("model")
    if not isinstance(model, str) or not model:
        raise Invalid(FIELD, "names no model; give the scorer model='provider:/name'")
    provider, _, name = model.partition(":/")
    if not name or provider in ("gateway", "endpoints", "databricks"):
        raise Invalid(FIELD, f"the model {model[:100]} is no provider's; give model='provider:/name'")
    parameters: dict[str, Any] = {"model": f"{provider}/{name}"}
    if isinstance(data.get("inference_params"), dict):
        parameters["params"] = data["inference_params"]
    if isinstance(data.get("base_url"), str):
        parameters["api_base"] = data["base_url"]
    return parameters


def _verdict(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The form of a verdict from its JSON schema."""
    if isinstance(schema.get("enum"), list):
        return {"type": "category", "categories": [str(word) for word in schema["enum"]]}
    kind = schema.get("type")
    if kind == "boolean":
        return {"type": "bool"}
    if kind in ("number", "integer"):
        return {"type": "number", "minimum": -_UNBOUNDED, "maximum": _UNBOUNDED}
    if kind == "string":
        return {"type": "text"}
    if kind == "object" and isinstance(schema.get("properties"), dict):
        fields = {name: _verdict(part) for name, part in schema["properties"].items() if isinstance(part, dict)}
        return {"type": "struct", "fields": fields}
    raise Invalid(FIELD, f"a feedback_value_type of type {str(kind)[:50]} is not supported")
