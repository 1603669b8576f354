"""MLflow's Assessment to ours and back."""

import json
import math
import re
from typing import Any

from tracestone.collector.mlflow_api import wire
from tracestone.collector.mlflow_api.wire import Fields
from tracestone.schema.assessments import Assessment, AssessmentChange, AssessmentError, Verdict
from tracestone.schema.errors import Invalid

_HEX_SPAN = re.compile(r"[0-9a-f]{16}")
_JSON_FORMAT = "JSON_FORMAT"
_ERROR_STACK_CHARACTERS = 10_000

# Where MLflow keeps in the metadata what we keep in columns.
_SCORER_NAME = "mlflow.assessment.scorerName"
_SCORER_VERSION = "mlflow.assessment.scorerVersion"
_COST = "mlflow.assessment.judgeCost"
_INPUT_TOKENS = "mlflow.assessment.judgeInputTokens"
_OUTPUT_TOKENS = "mlflow.assessment.judgeOutputTokens"


def assessment_json(assessment: Assessment) -> dict[str, Any]:
    """MLflow's Assessment."""
    answer: dict[str, Any] = {
        "assessment_id": assessment.assessment_id,
        "assessment_name": assessment.name,
        "trace_id": f"tr-{assessment.trace_id}",
        "source": {"source_type": assessment.source_type, "source_id": assessment.source_id},
        "create_time": wire.moment_text(assessment.created_at_ms),
        "last_update_time": wire.moment_text(assessment.updated_at_ms),
        "metadata": _metadata(assessment),
        "valid": assessment.valid,
        assessment.kind: _verdict_json(assessment),
    }
    optional = {
        "span_id": assessment.span_id,
        "rationale": assessment.rationale,
        "overrides": assessment.overrides,
    }
    return answer | {name: text for name, text in optional.items() if text}


def read_new_assessment(fields: Fields, trace_id: str, experiment_id: int) -> Assessment:
    """The assessment that a client wants on a trace. Raises Invalid."""
    verdict = _read_verdict(fields)
    if verdict is None:
        raise Invalid("assessment", "needs exactly one of feedback and expectation")
    source = fields.object("source") or Fields({})
    span_id = fields.text("span_id").lower()
    if span_id and not _HEX_SPAN.fullmatch(span_id):
        raise Invalid("assessment.span_id", "must be 16 hexadecimal digits")
    metadata = fields.text_map("metadata") or {}
    return Assessment(
        experiment_id=experiment_id,
        target_type="span" if span_id else "trace",
        name=fields.text("assessment_name", required=True),
        kind=verdict.kind,
        source_type=_read_source_type(source),
        source_id=source.text("source_id"),
        trace_id=trace_id,
        span_id=span_id,
        value=verdict.value,
        error=verdict.error,
        rationale=fields.text("rationale"),
        metadata=metadata,
        cost_usd=_float_or_none(metadata.get(_COST)),
        input_tokens=_int_or_none(metadata.get(_INPUT_TOKENS)),
        output_tokens=_int_or_none(metadata.get(_OUTPUT_TOKENS)),
        overrides=fields.text("overrides"),
        created_at_ms=wire.read_moment(fields, "create_time"),
    )


def read_change(fields: Fields, mask: Any) -> AssessmentChange:
    """What the update mask selects from the assessment. Raises Invalid."""
    if not isinstance(mask, str) or not mask.strip():
        raise Invalid("update_mask", "is required, as a comma-separated list of fields")
    paths = {re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", path.strip()) for path in mask.split(",")}
    fixed = paths - {"assessment_name", "feedback", "expectation", "rationale", "metadata"}
    if fixed:
        raise Invalid("update_mask", f"{min(fixed)[:100]!r} cannot be updated")
    verdict = _read_verdict(fields)
    if paths & {"feedback", "expectation"} and (verdict is None or verdict.kind not in paths):
        raise Invalid("assessment", f"has no value for {min(paths & {'feedback', 'expectation'})}")
    return AssessmentChange(
        name=fields.text("assessment_name") if "assessment_name" in paths else None,
        verdict=verdict if verdict is not None and verdict.kind in paths else None,
        rationale=fields.text("rationale") if "rationale" in paths else None,
        metadata=(fields.text_map("metadata") or {}) if "metadata" in paths else None,
    )


def _verdict_json(assessment: Assessment) -> dict[str, Any]:
    value = assessment.value
    if assessment.kind == "expectation":
        if isinstance(value, list | dict):
            return {
                "serialized_value": {"serialization_format": _JSON_FORMAT, "value": json.dumps(value)},
            }
        return {"value": value}
    error = assessment.error
    if error is None:
        return {"value": value}
    texts = {"error_code": error.code, "error_message": error.message, "stack_trace": error.stack}
    return {"value": value, "error": {name: text for name, text in texts.items() if text}}


def _read_verdict(fields: Fields) -> Verdict | None:
    feedback, expectation = fields.object("feedback"), fields.object("expectation")
    if fields.has("issue"):
        raise Invalid("assessment.issue", "issue references are not supported")
    if feedback is not None and expectation is not None:
        raise Invalid("assessment", "needs exactly one of feedback and expectation")
    if expectation is not None:
        return Verdict("expectation", _read_expectation(expectation))
    if feedback is not None:
        error = feedback.object("error") or fields.object("error")
        return Verdict("feedback", feedback.anything("value"), None if error is None else _read_error(error))
    return None


def _read_expectation(fields: Fields) -> Any:
    serialized = fields.object("serialized_value")
    if serialized is None:
        return fields.anything("value")
    if serialized.text("serialization_format") != _JSON_FORMAT:
        raise Invalid("assessment.expectation.serialized_value.serialization_format", f"must be {_JSON_FORMAT}")
    return wire.parse_json(serialized.text("value"), "assessment.expectation.serialized_value.value")


def _read_error(fields: Fields) -> AssessmentError:
    return AssessmentError(
        fields.text("error_code") or "ASSESSMENT_ERROR",
        fields.text("error_message"),
        fields.text("stack_trace")[-_ERROR_STACK_CHARACTERS:],
    )


def _read_source_type(source: Fields) -> str:
    given = source.text("source_type").upper() or "SOURCE_TYPE_UNSPECIFIED"
    return "LLM_JUDGE" if given == "AI_JUDGE" else given


def _metadata(assessment: Assessment) -> dict[str, str]:
    columns = {
        _SCORER_NAME: assessment.scorer_name or None,
        _SCORER_VERSION: assessment.scorer_version,
        _COST: assessment.cost_usd,
        _INPUT_TOKENS: assessment.input_tokens,
        _OUTPUT_TOKENS: assessment.output_tokens,
    }
    return {name: str(value) for name, value in columns.items() if value is not None} | assessment.metadata


def _float_or_none(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if 0 <= number < math.inf else None


def _int_or_none(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else None
