"""Every error has an answer in our own JSON APIs and in MLflow's, and says how long to wait where waiting helps."""

import json

import pytest

from tracestone.collector import problems
from tracestone.collector.mlflow_api import errors
from tracestone.schema.errors import (
    Conflict,
    Forbidden,
    Invalid,
    LogFull,
    MissingExtra,
    NotFound,
    Rejected,
    StartRefused,
    Stopping,
    StorageDown,
    TooLarge,
    TracestoneError,
    Unauthenticated,
    Unavailable,
)

BUSY = (503, "Unavailable", 503, "TEMPORARILY_UNAVAILABLE")
OURS = (500, "Internal error", 500, "INTERNAL_ERROR")
EXPECTED = {
    TracestoneError: OURS,
    Rejected: (400, "Rejected", 400, "BAD_REQUEST"),
    Invalid: (422, "Invalid", 400, "INVALID_PARAMETER_VALUE"),
    TooLarge: (413, "Too large", 413, "INVALID_PARAMETER_VALUE"),
    Unauthenticated: (401, "Unauthenticated", 401, "UNAUTHENTICATED"),
    Forbidden: (403, "Forbidden", 403, "PERMISSION_DENIED"),
    NotFound: (404, "Not found", 404, "RESOURCE_DOES_NOT_EXIST"),
    Conflict: (409, "Conflict", 400, "RESOURCE_ALREADY_EXISTS"),
    Unavailable: BUSY,
    StorageDown: BUSY,
    LogFull: BUSY,
    Stopping: BUSY,
    MissingExtra: OURS,
    StartRefused: OURS,
}


def subclasses(kind: type[TracestoneError]) -> set[type[TracestoneError]]:
    return {kind}.union(*(subclasses(child) for child in kind.__subclasses__()))


def test_no_error_is_forgotten() -> None:
    ours = {kind for kind in subclasses(TracestoneError) if kind.__module__ == "tracestone.schema.errors"}
    assert ours == EXPECTED.keys()


@pytest.mark.parametrize("kind", EXPECTED)
def test_every_error_has_an_answer(kind: type[TracestoneError]) -> None:
    error = kind.__new__(kind)
    Exception.__init__(error, "the message")
    error.__dict__.update(field="name", retry_after=1.2)
    problem, answer = problems.problem(error), errors.response(error)
    document, body = json.loads(bytes(problem.body)), json.loads(bytes(answer.body))
    assert document["status"] == problem.status_code and problem.media_type == "application/problem+json"
    assert (problem.status_code, document["title"], answer.status_code, body["error_code"]) == EXPECTED[kind]
    assert document["detail"] == body["message"] == "the message"
    assert document.get("field") == ("name" if kind is Invalid else None)
    # not before the time that was said
    wait = "2" if issubclass(kind, Unavailable) else None
    assert problem.headers.get("retry-after") == answer.headers.get("retry-after") == wait
