"""From a filter of MLflow's over traces to the SQL condition of an online configuration. Pure.

Known are the attributes status, name, execution_time_ms and timestamp_ms, tags and metadata. Text becomes a literal of
ClickHouse by one function; what comes out is checked like any other condition.
"""

from tracestone.schema import filter_string
from tracestone.schema.errors import Invalid
from tracestone.schema.filters import Comparison

_ENTITIES = {"": "attribute", "attributes": "attribute", "attr": "attribute", "trace": "attribute", "tags": "tag"}
_TEXTS = {"status": "state", "state": "state", "name": "root_name", "trace_name": "root_name"}
_NUMBERS = {"execution_time_ms": "duration_ns / 1e6", "execution_time": "duration_ns / 1e6"}
_OPERATORS = frozenset({"=", "!=", ">", ">=", "<", "<=", "LIKE", "ILIKE", "IN", "NOT IN"})
_SESSION, _USER = "mlflow.trace.session", "mlflow.trace.user"


def condition(text: str, field: str = "filter_string") -> str:
    """The condition; "" for an empty filter. Raises Invalid, naming the field."""
    return " AND ".join(_one(comparison, field) for comparison in filter_string.parse(text, field))


def _one(comparison: Comparison, field: str) -> str:
    side, number = _side(comparison, field)
    if not comparison.values or comparison.operator not in _OPERATORS:
        raise Invalid(field, f"the operator {comparison.operator} cannot be used here")
    written = [_number(value, comparison, field) if number else _text(value) for value in comparison.values]
    if comparison.operator in ("IN", "NOT IN"):
        return f"{side} {comparison.operator} ({', '.join(written)})"
    return f"{side} {comparison.operator} {written[0]}"


def _side(comparison: Comparison, field: str) -> tuple[str, bool]:
    entity = _ENTITIES.get(comparison.entity, comparison.entity)
    if entity == "attribute" and comparison.key in _TEXTS:
        return _TEXTS[comparison.key], False
    if entity == "attribute" and comparison.key in _NUMBERS:
        return _NUMBERS[comparison.key], True
    if entity == "metadata" and comparison.key == _SESSION:
        return "session_id", False
    if entity == "metadata" and comparison.key == _USER:
        return "user_id", False
    if entity in ("tag", "metadata"):
        return f"tags[{_text(comparison.key)}]", False
    name = f"{comparison.entity}.{comparison.key}".lstrip(".")[:100]
    raise Invalid(field, f"{name} cannot be filtered by; known: status, name, execution_time_ms, tags, metadata")


def _number(value: str, comparison: Comparison, field: str) -> str:
    try:
        return repr(float(value))
    except ValueError as error:
        raise Invalid(field, f"{comparison.key} must be compared with a number") from error


def _text(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
