"""An evaluation event of OpenTelemetry (`gen_ai.evaluation.result`) as an assessment. Pure."""

import hashlib
import math
from typing import Any

from tracestone.schema.assessments import MAX_TEXT_CHARACTERS, Assessment, AssessmentError
from tracestone.schema.logs import EvaluationEvent, SpanPlace

RESPONSE_ID = "gen_ai.response.id"
_PREFIX = "gen_ai.evaluation."
_NAME = f"{_PREFIX}name"
_VALUE = f"{_PREFIX}score.value"
_LABEL = f"{_PREFIX}score.label"
_EXPLANATION = f"{_PREFIX}explanation"
_MAX_METADATA = 20
_MAX_METADATA_CHARACTERS = 2000


def assessment(event: EvaluationEvent, target: SpanPlace) -> Assessment:
    """The assessment that an event says, the same each time it is seen. `target` names a trace when it has no span id.

    Its value is the score, else the label; beside a score the label is in the metadata. Raises Invalid when it cannot
    be one: no name, or a name that is too long.
    """
    given = event.attributes
    score, label = _score(given.get(_VALUE)), _text(given.get(_LABEL))
    error = _text(given.get("error.type"))
    return Assessment(
        assessment_id=assessment_id(event),
        experiment_id=target.experiment_id,
        target_type="span" if target.span_id else "trace",
        trace_id=target.trace_id,
        span_id=target.span_id,
        name=_text(given.get(_NAME)),
        kind="feedback",
        value=label or None if score is None else score,
        error=AssessmentError(error, _text(given.get("error.message"))) if error else None,
        rationale=_text(given.get(_EXPLANATION)),
        source_type="CODE",
        source_id=(event.scope_name or event.service_name)[:MAX_TEXT_CHARACTERS],
        metadata=_metadata(given, with_label=score is not None),
        created_at_ms=event.time_ns // 1_000_000,
    )


def assessment_id(event: EvaluationEvent) -> str:
    """Made from the record's identity: its experiment and its content."""
    return "a-" + hashlib.blake2b(f"{event.experiment_id}/{event.log_id}".encode(), digest_size=16).hexdigest()


def _metadata(given: dict[str, Any], *, with_label: bool) -> dict[str, str]:
    said = {_NAME, _VALUE, _EXPLANATION} | (set() if with_label else {_LABEL})
    kept = sorted(key for key in given if (key.startswith(_PREFIX) and key not in said) or key == RESPONSE_ID)
    return {key[:200]: str(given[key])[:_MAX_METADATA_CHARACTERS] for key in kept[:_MAX_METADATA]}


def _score(value: Any) -> bool | int | float | str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # no number in JSON
    return value if isinstance(value, bool | int | float | str) and value != "" else None


def _text(value: Any) -> str:
    return "" if value is None else str(value)[:MAX_TEXT_CHARACTERS]
