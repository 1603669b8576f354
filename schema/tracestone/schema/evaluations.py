"""An evaluation event of OpenTelemetry (`gen_ai.evaluation.result`) as an assessment, and back. Pure.

An event that a Tracestone emitted says which deployment it was, which assessment it is about and which revision of it.
So it is known again when it comes home, and elsewhere it is the same assessment however often and in whatever state it
comes.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from tracestone.schema.assessments import (
    MAX_TEXT_CHARACTERS,
    SOURCE_TYPES,
    Assessment,
    AssessmentError,
    value_number,
    value_text,
)
from tracestone.schema.logs import EvaluationEvent, SpanPlace

RESPONSE_ID = "gen_ai.response.id"
EVENT_NAME = "gen_ai.evaluation.result"
DEPLOYMENT = "tracestone.deployment.id"
REVISION = "tracestone.assessment.revision"
_ASSESSMENT = "tracestone.assessment.id"
_EXACT = "tracestone.assessment.value"
_SOURCE_TYPE = "tracestone.assessment.source_type"
_SOURCE_ID = "tracestone.assessment.source_id"
_CONVERSATION = "gen_ai.conversation.id"
_ERROR, _ERROR_MESSAGE = "error.type", "error.message"
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
    error = _text(given.get(_ERROR))
    source_type = _text(given.get(_SOURCE_TYPE))
    return Assessment(
        assessment_id=assessment_id(event),
        experiment_id=target.experiment_id,
        target_type="span" if target.span_id else "trace",
        trace_id=target.trace_id,
        span_id=target.span_id,
        name=_text(given.get(_NAME)),
        kind="feedback",
        value=_exact(given, label or None if score is None else score),
        error=AssessmentError(error, _text(given.get(_ERROR_MESSAGE))) if error else None,
        rationale=_text(given.get(_EXPLANATION)),
        source_type=source_type if source_type in SOURCE_TYPES else "CODE",
        source_id=_text(given.get(_SOURCE_ID)) or (event.scope_name or event.service_name)[:MAX_TEXT_CHARACTERS],
        metadata=_metadata(given, with_label=score is not None and _EXACT not in given),
        created_at_ms=event.time_ns // 1_000_000,
        origin="event",
    )


def assessment_id(event: EvaluationEvent) -> str:
    """Made from the record's identity: its experiment and its content, or the assessment that it says it is."""
    told = [event.attributes.get(key) for key in (DEPLOYMENT, _ASSESSMENT)]
    known = "/".join(map(str, told)) if all(told) else event.log_id
    return "a-" + hashlib.blake2b(f"{event.experiment_id}/{known}".encode(), digest_size=16).hexdigest()


def attributes(row: Mapping[str, Any], deployment: str, response_id: str) -> dict[str, bool | int | float | str]:
    """The attributes of the event of an assessment, given as its row in Postgres; `response_id` is "" when unknown.

    The score is the value as a number, the label the value as a word; beside them stands the value as JSON, where who
    reads the two would take it for another.
    """
    value = row["value"]
    number = value_number(value)
    label = value_text(value) if isinstance(value, str | bool) else ""
    score = number if number is not None and math.isfinite(number) else None
    read: Any = score if score is not None else label or None
    found: dict[str, bool | int | float | str | None] = {
        _NAME: row["name"],
        _VALUE: score,
        _LABEL: label,
        _EXPLANATION: row["rationale"],
        _ERROR: row["error_code"],
        _ERROR_MESSAGE: row["error_message"],
        RESPONSE_ID: response_id,
        _CONVERSATION: row["session_id"],
        DEPLOYMENT: deployment,
        _ASSESSMENT: row["assessment_id"],
        REVISION: row["revision"],
        _EXACT: None if type(read) is type(value) and read == value else json.dumps(value),
        _SOURCE_TYPE: row["source_type"],
        _SOURCE_ID: row["source_id"],
        "tracestone.scorer.name": row["scorer_name"],
        "tracestone.scorer.version": row["scorer_version"],
        "tracestone.sampling.probability": row["probability"],
        "gen_ai.usage.cost": row["cost_usd"],
        "gen_ai.usage.input_tokens": row["input_tokens"],
        "gen_ai.usage.output_tokens": row["output_tokens"],
    }
    return {key: told for key, told in found.items() if told is not None and told != ""}


def _metadata(given: dict[str, Any], *, with_label: bool) -> dict[str, str]:
    said = {_NAME, _VALUE, _EXPLANATION} | (set() if with_label else {_LABEL})
    kept = sorted(key for key in given if (key.startswith(_PREFIX) and key not in said) or key == RESPONSE_ID)
    metadata = {key[:200]: str(given[key])[:_MAX_METADATA_CHARACTERS] for key in kept[:_MAX_METADATA]}
    revision = given.get(REVISION)
    is_ours = isinstance(revision, int) and 0 < revision < 2**31 and DEPLOYMENT in given
    return metadata | ({DEPLOYMENT: str(given[DEPLOYMENT])[:100], REVISION: str(revision)} if is_ours else {})


def _exact(given: dict[str, Any], told: Any) -> Any:
    """The value as a Tracestone wrote it, else what the event tells."""
    try:
        return json.loads(given[_EXACT]) if _EXACT in given else told
    except (ValueError, TypeError, RecursionError):
        return told


def _score(value: Any) -> bool | int | float | str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # no number in JSON
    return value if isinstance(value, bool | int | float | str) and value != "" else None


def _text(value: Any) -> str:
    return "" if value is None else str(value)[:MAX_TEXT_CHARACTERS]
