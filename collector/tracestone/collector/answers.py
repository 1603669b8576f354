"""Our errors over HTTP: the status each has in our JSON APIs and in MLflow's, its name there, and how long to wait.

Where the two differ, MLflow's is the status that its own server answers and its client expects. OTLP's answers are in
`receiver/status.py`, those of ClickHouse's protocol in `sql_endpoint`.
"""

import math
from dataclasses import dataclass

from tracestone.schema.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    Rejected,
    TooLarge,
    TracestoneError,
    Unauthenticated,
    Unavailable,
)


@dataclass(frozen=True)
class Answer:
    """A kind of error: status and `title` of a problem document, status and `error_code` of MLflow's."""

    kind: type[TracestoneError]
    status: int
    title: str
    mlflow_status: int
    mlflow_code: str


# The first class that fits decides.
_ANSWERS = (
    Answer(Unauthenticated, 401, "Unauthenticated", 401, "UNAUTHENTICATED"),
    Answer(Forbidden, 403, "Forbidden", 403, "PERMISSION_DENIED"),
    Answer(TooLarge, 413, "Too large", 413, "INVALID_PARAMETER_VALUE"),
    Answer(NotFound, 404, "Not found", 404, "RESOURCE_DOES_NOT_EXIST"),
    Answer(Conflict, 409, "Conflict", 400, "RESOURCE_ALREADY_EXISTS"),
    Answer(Invalid, 422, "Invalid", 400, "INVALID_PARAMETER_VALUE"),
    Answer(Rejected, 400, "Rejected", 400, "BAD_REQUEST"),
    Answer(Unavailable, 503, "Unavailable", 503, "TEMPORARILY_UNAVAILABLE"),
)
UNFORESEEN = Answer(TracestoneError, 500, "Internal error", 500, "INTERNAL_ERROR")
UNFORESEEN_TEXT = "The server failed to answer; its log says why."


def answer_to(error: TracestoneError) -> Answer:
    """How an error is answered."""
    return next((answer for answer in _ANSWERS if isinstance(error, answer.kind)), UNFORESEEN)


def waiting(error: TracestoneError) -> dict[str, str]:
    """The header Retry-After, in whole seconds, when the request may be sent again; else none."""
    if not isinstance(error, Unavailable):
        return {}
    return {"Retry-After": str(max(1, math.ceil(error.retry_after)))}
